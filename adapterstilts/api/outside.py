"""What a run tells the world outside: a store elsewhere gets its artifacts, trackers get its training curves.

A network that fails costs the run nothing: it goes on, and what did not get out is said when it has ended.
"""

from __future__ import annotations

import atexit
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from adapterstilts.errors import AdapterstiltsError, MissingDependency, StageFailed
from adapterstilts.plan.graph import Plan
from adapterstilts.stages.specs import TrainSpec
from adapterstilts.store import Store

if TYPE_CHECKING:
    from adapterstilts.executors.events import Event
    from adapterstilts.store.remote import Remote

Tell = Callable[["Event"], None]


@dataclass
class Outside:
    """A listener that passes events on to those outside, whose errors it keeps until the end."""

    tells: Sequence[Tell]
    errors: list[AdapterstiltsError] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Tell them all."""
        for tell in self.tells:
            try:
                tell(event)
            except AdapterstiltsError as error:
                self.errors.append(error)

    def finish(self) -> None:
        """The run has ended.

        Raises:
            AdapterstiltsError: something did not get out; the first of the errors.
        """
        if self.errors:
            first, count = self.errors[0], len(self.errors)
            what = f"{first.what} ({count} of its messages did not get out; the run itself has ended)"
            fix = "run again: what is done is pushed, not made again; curves are in each module's metrics.jsonl"
            raise type(first)(what, where=first.where, why=first.why, fix=fix)


def pulled(plan: Plan, store: Store, url: str) -> Remote:
    """The store at a URL, after what it has of the plan, and is missing here, was pulled.

    Raises:
        StoreError, MissingDependency: it cannot be read, or gives other bytes than its manifests say.
    """
    from adapterstilts.store.remote import Remote, pull_hits

    remote = Remote(url)
    parents = {stage.hash: list(stage.parents.values()) for stage in plan.stages}
    more = True
    while more:  # what is here now may be all that its parents were needed for, or not
        missing = [stage.hash for stage in plan.needed(store)]
        used = {parent for hash in missing for parent in parents[hash]}
        more = bool(pull_hits(store, remote, [hash for hash in missing if hash not in used], parents))
    return remote


def pushing(store: Store, remote: Remote) -> Tell:
    """A listener that pushes each artifact that is not there: what is made, and what an earlier run could not push."""

    def tell(event: Event) -> None:
        if event.kind in ("done", "hit"):
            remote.push(store, event.stage.hash)

    return tell


def tracking(plan: Plan, store: Store, trackers: Iterable[str]) -> Tell:
    """A listener that logs the curve of each training stage, when it is done, through accelerate's trackers.

    The recipe is the tracker's project and each stage a run in it. The curve is read from metrics.jsonl, which every
    module has; so nothing of a tracker runs inside a stage, and a resumed stage is logged whole and once.

    Raises:
        MissingDependency: a tracker's package is absent.
    """
    kinds = {name: _kind(name) for name in trackers}
    folder = store.root / "tracking"

    def tell(event: Event) -> None:
        if event.kind != "done" or not isinstance(event.stage.spec, TrainSpec):
            return
        curve = store.path(event.stage.hash) / "metrics.jsonl"
        rows = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
        about = {"hash": event.stage.hash, "seed": event.stage.spec.seed}
        for name, kind in kinds.items():
            try:
                with redirect_stdout(sys.stderr):  # they greet; stdout is data
                    folder.mkdir(parents=True, exist_ok=True)
                    _log(kind(**place(name, plan.recipe, event.stage.label, str(folder))), about, rows)
                _last_words_to_stderr()
            except Exception as error:  # each has errors of its own for a server that does not answer
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                raise StageFailed(f"the tracker `{name}` fails", where=event.stage.label, why=why) from error

    return tell


@cache
def _last_words_to_stderr() -> None:
    """What trackers print when the process ends is no data, either. Later than theirs, so called before them."""

    def turn() -> None:
        sys.stdout.flush()
        sys.stdout = sys.stderr

    atexit.register(turn)


def place(tracker: str, recipe: str, label: str, folder: str) -> dict[str, Any]:
    """What a tracker of accelerate is made with, so that ``recipe`` is its project and ``label`` a run in it."""
    return {
        "tensorboard": {"run_name": f"{recipe}/{label}".replace(" ", "_"), "logging_dir": folder},
        "wandb": {"run_name": recipe, "name": label, "dir": folder},
        "trackio": {"run_name": recipe, "name": label},
        "mlflow": {"experiment_name": recipe, "run_name": label},
    }[tracker]


def _kind(name: str) -> Callable[..., Any]:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS
    from accelerate.utils import imports

    if not getattr(imports, f"is_{name}_available")():
        raise MissingDependency(f"the tracker `{name}` is not installed", fix=f"pip install {name}")
    PartialState()  # the trackers ask which process they are in
    kind: Callable[..., Any] = LOGGER_TYPE_TO_CLASS[name]
    return kind


def _log(tracker: Any, about: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    tracker.start()
    tracker.store_init_configuration(about)
    for row in rows:
        tracker.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
    tracker.finish()
