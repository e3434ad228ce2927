"""One stage from its spec and its parents' artifacts to its own artifact: the entry of every executor. Torch-free.

A kind is a function ``run(spec, parents, directory, work, progress) -> facts``, named ``module:function`` and imported
when a stage of that kind runs.
"""

from __future__ import annotations

import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
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
        parents = {role: store.path(hash) for role, hash in stage.parents.items()}
        manifest: dict[str, Any] = {
            "label": stage.label,
            "version": stage.spec.version,
            "parents": dict(stage.parents),
            "spec": stage.spec.model_dump(mode="json"),
            "packages": _packages(),
            "python": platform.python_version(),
            "seed": getattr(stage.spec, "seed", None),
            "device": "cpu",
        }
        reset_peak()
        start, cpu = time.perf_counter(), time.process_time()
        with store.write(stage.hash, stage.kind, manifest) as directory:
            facts = function(stage.spec, parents, directory, store.work(stage.hash), report)
            manifest["device"] = str(facts.get("device", "cpu"))
            manifest["facts"] = facts
            manifest["wall_seconds"] = round(time.perf_counter() - start, 4)
            manifest["cpu_seconds"] = round(time.process_time() - cpu, 4)
            measured = peak_memory()
            manifest["peak_rss_bytes"] = measured["host"]
            manifest["memory"] = {"forecast": _forecast(stage, store, manifest["device"]), "measured": measured}
        store.drop_work(stage.hash)
    return True


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


def _forecast(stage: Stage, store: Store, device: str) -> dict[str, object] | None:
    """What was predicted for the stage, of the device it ran on; None for stages without a forecast."""

    def find(hash: str) -> dict[str, Any] | None:
        return store.manifest(hash) if store.has(hash) else None

    work = Works(store, find).of(stage.spec, stage.parents)
    return None if work is None else forecast(work, gpu=device.startswith("cuda")).to_plain()


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
