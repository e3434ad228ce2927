"""One stage from its spec and its parents' artifacts to its own artifact: the entry of every executor. Torch-free.

A kind is a function ``run(spec, parents, directory, work, progress) -> facts``, named ``module:function`` and imported
when a stage of that kind runs.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterstilts.errors import StageFailed, StoreError
from adapterstilts.stages.forecast import forecast
from adapterstilts.stages.memory import peak_memory, reset_peak, use_allocator
from adapterstilts.stages.ranks import function_of, together
from adapterstilts.stages.work import Works

if TYPE_CHECKING:
    from adapterstilts.plan.graph import Stage
    from adapterstilts.store import Store

Progress = Callable[[float, str], None]
KINDS: Mapping[str, str] = {
    kind: f"adapterstilts.stages.{kind}:run" for kind in ("prepare", "train", "merge", "evaluate", "retrieve")
}
PACKAGES = ("adapterstilts", "torch", "transformers", "peft", "adapters", "tokenizers", "numpy", "faiss-cpu")


def run_stage(
    stage: Stage,
    store: Store,
    progress: Progress | None = None,
    kinds: Mapping[str, str] = KINDS,
    processes: int = 1,
) -> bool:
    """Make the artifact of a stage, unless it is there or another process makes it meanwhile.

    Args:
        progress: called with the fraction done (0..1) and a short text.
        kinds: kind -> ``module:function``.
        processes: how many share the work of a training stage (see `stages.ranks`); never part of its hash.

    Returns:
        Whether this call made it.

    Raises:
        StageFailed: no such kind. StoreError: a parent is missing or the disk is full. Whatever the kind raises.
    """
    report = progress or _silent
    if store.has(stage.hash):
        return False
    with _held(store, stage, report):
        if store.has(stage.hash):
            return False
        entry = _entry(stage.kind, kinds)
        function = function_of(entry) if processes == 1 else partial(together, entry, processes)
        use_allocator(getattr(stage.spec, "engine", None))
        manifest = _manifest(stage)
        reset_peak()
        clock = _Clock()
        with store.write(stage.hash, stage.kind, manifest) as directory:
            facts = function(stage.spec, _parents(stage, store), directory, store.work(stage.hash), report)
            manifest |= _outcome(stage, store, facts, clock)
        store.drop_work(stage.hash)
    return True


def run_group(stages: Sequence[Stage], store: Store, progress: Progress | None = None) -> bool:
    """Train the modules of several stages in one loop (`plan.together`): those that are missing and nobody makes.

    Returns:
        Whether the artifact of the first was made here.

    Raises:
        StageFailed: one of them failed. None is made then, and each goes on from its own checkpoint, alone or again so.
    """
    from adapterstilts.stages.train import Order, run_together

    report = progress or _silent
    done: dict[str, float] = {}

    def told(hash: str) -> Progress:
        def tell(fraction: float, text: str) -> None:
            done[hash] = fraction
            report(sum(done.values()) / len(mine), f"{text}, {len(mine)} modules together")

        return tell

    with ExitStack() as locks:
        mine = [stage for stage in stages if _free(stage, store, locks)]
        if len(mine) < 2 or mine[0] != stages[0]:
            return False
        use_allocator(getattr(mine[0].spec, "engine", None))
        manifests = [_manifest(stage) for stage in mine]
        reset_peak()
        clock = _Clock()
        with ExitStack() as writes:
            orders = [
                Order(
                    stage.spec,  # type: ignore[arg-type]
                    _parents(stage, store),
                    writes.enter_context(store.write(stage.hash, stage.kind, manifest)),
                    store.work(stage.hash),
                    told(stage.hash),
                )
                for stage, manifest in zip(mine, manifests, strict=True)
            ]
            for stage, manifest, facts in zip(mine, manifests, run_together(orders), strict=True):
                manifest |= _outcome(stage, store, facts, clock, len(mine))
        for stage in mine:
            store.drop_work(stage.hash)
    return True


def _free(stage: Stage, store: Store, locks: ExitStack) -> bool:
    """Whether a stage is missing and its lock could be had at once."""
    try:
        locks.enter_context(store.lock(stage.hash, timeout=0))
    except StoreError:
        return False
    return not store.has(stage.hash)


def _parents(stage: Stage, store: Store) -> dict[str, Path]:
    return {role: store.path(hash) for role, hash in stage.parents.items()}


def _manifest(stage: Stage) -> dict[str, Any]:
    return {
        "label": stage.label,
        "version": stage.spec.version,
        "parents": dict(stage.parents),
        "spec": stage.spec.model_dump(mode="json"),
        "packages": _packages(),
        "python": platform.python_version(),
        "seed": getattr(stage.spec, "seed", None),
        "device": "cpu",
    }


class _Clock:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self, share: int = 1) -> dict[str, float]:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {"wall_seconds": round(wall / share, 4), "cpu_seconds": round(cpu / share, 4)}


def _outcome(stage: Stage, store: Store, facts: dict[str, Any], clock: _Clock, together: int = 1) -> dict[str, Any]:
    """What the manifest says when a stage is done; of the time of several in one loop, each has an even share."""
    device, measured = str(facts.get("device", "cpu")), peak_memory()
    return {
        "device": device,
        "facts": facts,
        **clock.read(together),
        "peak_rss_bytes": measured["host"],
        "memory": {"forecast": _forecast(stage, store, device, together), "measured": measured},
    }


@contextmanager
def _held(store: Store, stage: Stage, report: Progress) -> Iterator[None]:
    """The stage's lock; says so when another process has it first."""
    with ExitStack() as stack:
        try:
            stack.enter_context(store.lock(stage.hash, timeout=0))
        except StoreError:
            report(0.0, "waiting for another process")
            stack.enter_context(store.lock(stage.hash))
        yield


def _entry(kind: str, kinds: Mapping[str, str]) -> str:
    if kind not in kinds:
        raise StageFailed(f"no stage of kind `{kind}`", why=f"known are {', '.join(kinds)}")
    return kinds[kind]


def _forecast(stage: Stage, store: Store, device: str, together: int) -> dict[str, object] | None:
    """What was predicted for the stage, of the device it ran on; None for stages without a forecast."""

    def find(hash: str) -> dict[str, Any] | None:
        return store.manifest(hash) if store.has(hash) else None

    work = Works(store, find).of(stage.spec, stage.parents)
    if work is None:
        return None
    return forecast(replace(work, together=together), gpu=device.startswith("cuda")).to_plain()


def _silent(fraction: float, text: str) -> None:
    """Progress that nobody watches."""


@cache
def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
