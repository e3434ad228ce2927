"""Run a plan, here or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapterstilts.api import environment
from adapterstilts.api.choosing import Choice, Part, choose
from adapterstilts.api.leaks import with_leaks
from adapterstilts.api.memory import within
from adapterstilts.api.outside import Outside, pulled, pushing, tracking
from adapterstilts.api.pages import FORMATS, write_pages
from adapterstilts.api.places import PathLike
from adapterstilts.api.planning import Planned, RecipeLike, plan_recipe
from adapterstilts.api.together import sharing
from adapterstilts.errors import RecipeError
from adapterstilts.executors import drive
from adapterstilts.executors.crew import Setup
from adapterstilts.executors.devices import cores, gpus
from adapterstilts.plan.graph import Stage
from adapterstilts.plan.needs import Needs, needs_of
from adapterstilts.plan.together import Together
from adapterstilts.results import score_rows
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from adapterstilts.executors.events import Event, RunResult

Jobs = int | Literal["auto"]


@dataclass(frozen=True)
class Runner:
    """Who runs the stages, none of which changes a result.

    ``jobs``: stages at a time; None: one here, as many as there is room for on a cluster. ``gpus`` and ``cores``: of a
    training stage; several GPUs share its work. ``together``: whether training stages on one base share a loop on this
    machine, where the measured table says that it pays (``auto``) or wherever they can (``always``). ``options``: of
    the executor alone (see docs/running.md).
    """

    executor: str = "local"
    jobs: Jobs | None = None
    gpus: int = 0
    cores: int = 1
    together: Together = "never"
    options: Mapping[str, str] = field(default_factory=dict)

    def setup(self, store: Store) -> Setup:
        """What the executor is made of."""
        jobs = self.jobs
        if jobs == "auto":
            jobs = max(1, len(gpus()) // max(1, self.gpus) or cores() // max(1, self.cores))
            jobs = jobs if self.executor == "local" else None
        return Setup(store, jobs, processes=max(1, self.gpus), options=self.options)

    def companions(self, planned: Planned, jobs: int = 1, max_memory: str | None = None) -> drive.Companions | None:
        """Which training stages share a loop (`api.together`).

        Raises:
            RecipeError: on a cluster, with several GPUs for a stage, or within an amount of memory.
        """
        if self.together != "never" and (self.executor != "local" or self.gpus > 1):
            why = "there each job is one stage" if self.executor != "local" else "their processes share one stage"
            raise RecipeError("--together on a cluster or with several GPUs", why=why, fix="leave it out")
        return sharing(planned, self.together, jobs, max_memory)

    def needs(self, stage: Stage) -> Needs:
        """What a stage needs."""
        return needs_of(stage.kind, cores=self.cores, gpus=self.gpus)


@dataclass
class Run:
    """A run that ended: what was planned and how every stage went."""

    planned: Planned
    result: RunResult
    _rows: list[dict[str, Any]] | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        return self.result.ok

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The score rows of everything that is done."""
        if self._rows is None:
            self._rows = score_rows(self.planned.plan, self.planned.store)
        return self._rows

    @property
    def modules(self) -> dict[str, str]:
        """The names of the modules that are done -> their hashes."""
        store = self.planned.store
        return {name: hash for name, hash in self.planned.plan.names.items() if store.has(hash)}

    def report(self, out: PathLike, formats: Iterable[str] = FORMATS) -> dict[str, Path]:
        """Write the report into a folder; returns the path of each format."""
        return write_pages(self.planned, out, tuple(formats))

    def raise_for_failure(self) -> Run:
        """Raise the first failure of a stage, if any."""
        for stage in self.result.having("failed"):
            if stage.error is not None:
                raise stage.error
        return self


def workers(jobs: Jobs | None) -> int:
    """How many stages share this machine's memory."""
    return cores() if jobs == "auto" else jobs or 1


def run(
    recipe: RecipeLike | Planned,
    sets: Iterable[str] = (),
    *,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
    jobs: Jobs | None = None,
    runner: Runner | None = None,
    keep_going: bool = True,
    choice: Choice | None = None,
    max_memory: str | None = None,
    lower_precision: bool = False,
    on_event: Callable[[Event], None] | None = None,
    remote: str | None = None,
    trackers: Iterable[str] = (),
) -> Run:
    """Run what is missing of a recipe: done stages are hits, an interrupted run goes on where it stopped.

    Args:
        jobs: stages at a time, 1 without; ``auto`` is one for every GPU, or for every core with one thread each.
        runner: another executor, several GPUs for a stage; ``jobs`` wins over its own.
        keep_going: whether stages that do not need a failed one go on.
        choice: some stages only.
        max_memory: ``4GB``; settings are picked with which every stage fits by its forecast (`api.memory`).
        lower_precision: the base's precision may be lowered for that, which changes results.
        on_event: told of every change (see `executors.events`). It must not print to stdout or stderr through `sys`
            while a stage runs in this process: those go to the stage's log.
        remote: URL of a store elsewhere: what it has is pulled, what is made is pushed.
        trackers: names of experiment trackers that get the training curves.

    Returns:
        How it went; a failed stage does not raise (``Run.raise_for_failure`` does).

    Raises:
        AdapterstiltsError: the store elsewhere or a tracker failed; stages that were made are kept.
    """
    environment.prepare()
    if isinstance(recipe, Planned):
        planned = recipe
    else:
        planned = plan_recipe(recipe, sets, store=store, task_files=task_files)
        planned = within(planned, max_memory, lower_precision=lower_precision, jobs=workers(jobs)).planned
    planned = with_leaks(choose(planned, choice) if choice else planned)
    plan = planned.plan
    runner = runner or Runner()
    runner = runner if jobs is None else replace(runner, jobs=jobs)
    setup = runner.setup(planned.store)
    tells = []
    if remote is not None:
        tells.append(pushing(planned.store, pulled(plan, planned.store, remote)))
    if trackers:
        tells.append(tracking(plan, planned.store, trackers))
    outside = Outside(tells)
    if isinstance(plan, Part):  # after the pull, which brings what others need, and what is to be made again
        plan.check(planned.store)
        plan.make_way(planned.store)

    def tell(event: Event) -> None:
        if on_event:
            on_event(event)
        outside(event)

    given: dict[str, Any] = {
        "keep_going": keep_going,
        "needs": runner.needs,
        "companions": runner.companions(planned, setup.jobs or 1, max_memory),
    }
    result = drive.run(plan, setup, runner.executor, **given, on_event=tell)
    outside.finish()
    return Run(planned, result)
