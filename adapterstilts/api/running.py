"""Choose stages of a plan, and run it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapterstilts.api import environment
from adapterstilts.api.care import remove
from adapterstilts.api.leaks import with_leaks
from adapterstilts.api.pages import write_pages
from adapterstilts.api.places import PathLike
from adapterstilts.api.planning import Planned, RecipeLike, plan_recipe
from adapterstilts.errors import RecipeError
from adapterstilts.plan.graph import Plan, Stage
from adapterstilts.recipe.problems import nearest
from adapterstilts.results import score_rows
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from adapterstilts.executors.events import Event, RunResult

Jobs = int | Literal["auto"]


@dataclass(frozen=True)
class Choice:
    """Which stages of a plan are wanted, by patterns on their labels (``train*``, or a part of the label).

    ``only``: these alone, their parents must be there. ``until``: these and what they need. ``start``: these and what
    needs them. ``force``: these and what needs them are made again. Without any, all stages are wanted.
    """

    only: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    force: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.only or self.start or self.until)


@dataclass(frozen=True)
class Part(Plan):
    """A plan of which only some stages are wanted; its identity is that of the whole."""

    wanted: frozenset[str] = frozenset()
    alone: bool = False

    def needed(self, store: Store) -> list[Stage]:
        """The wanted stages that are missing and, unless they are wanted alone, the missing parents they need."""
        missing = {hash for hash in self.wanted if not store.has(hash)}
        if not self.alone:
            for stage in reversed(self.stages):
                if stage.hash in missing:
                    missing.update(hash for hash in stage.parents.values() if not store.has(hash))
        return [stage for stage in self.stages if stage.hash in missing]


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

    def report(self, out: PathLike, formats: Iterable[str] = ("html", "md", "csv", "json")) -> dict[str, Path]:
        """Write the report into a folder; returns the path of each format."""
        return write_pages(self.planned, out, tuple(formats))

    def raise_for_failure(self) -> Run:
        """Raise the first failure of a stage, if any."""
        for stage in self.result.having("failed"):
            if stage.error is not None:
                raise stage.error
        return self


def run(
    recipe: RecipeLike | Planned,
    sets: Iterable[str] = (),
    *,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
    jobs: Jobs = 1,
    keep_going: bool = True,
    choice: Choice | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Run:
    """Run what is missing of a recipe: done stages are hits, an interrupted run goes on where it stopped.

    Args:
        jobs: stages at a time; ``auto`` is one for every core, each with one thread.
        keep_going: whether stages that do not need a failed one go on.
        choice: some stages only.
        on_event: told of every change (see `executors.events`).

    Returns:
        How it went; a failed stage does not raise (``Run.raise_for_failure`` does).
    """
    environment.prepare()
    planned = recipe if isinstance(recipe, Planned) else plan_recipe(recipe, sets, store=store, task_files=task_files)
    from adapterstilts.executors import local

    planned = with_leaks(planned)
    plan = chosen(planned, choice) if choice is not None else planned.plan
    workers = environment.cores() if jobs == "auto" else jobs
    return Run(planned, local.run(plan, planned.store, workers, keep_going, on_event))


def chosen(planned: Planned, choice: Choice) -> Plan:
    """The plan with the stages of the choice wanted; the artifacts of forced ones are removed from the store.

    Raises:
        RecipeError: a pattern that no stage has, or ``only`` with a parent that is not there.
    """
    plan, store = planned.plan, planned.store
    for hash in _after(plan, _matching(plan, choice.force)):
        remove(store, hash)
    if not choice:
        return plan
    wanted = set(plan.by_hash)
    if choice.only:
        wanted = _matching(plan, choice.only)
        _parents_there(plan, wanted, store)
    if choice.start:
        wanted &= _after(plan, _matching(plan, choice.start))
    if choice.until:
        wanted &= _before(plan, _matching(plan, choice.until))
    return Part(
        plan.recipe, plan.stages, plan.cells, plan.names, plan.warnings, plan.text, frozenset(wanted), bool(choice.only)
    )


def _matching(plan: Plan, patterns: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for pattern in patterns:
        glob = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
        hits = {stage.hash for stage in plan.stages if fnmatchcase(stage.label, glob) or stage.hash.startswith(pattern)}
        if not hits:
            labels = [stage.label for stage in plan.stages]
            fix = nearest(pattern, labels, "adapterstilts plan RECIPE lists the labels")
            raise RecipeError(f"no stage is called `{pattern}`", why=f"the plan has {len(labels)} stages", fix=fix)
        found |= hits
    return found


def _after(plan: Plan, hashes: set[str]) -> set[str]:
    """These stages and all that need them."""
    found = set(hashes)
    for stage in plan.stages:
        if found.intersection(stage.parents.values()):
            found.add(stage.hash)
    return found


def _before(plan: Plan, hashes: set[str]) -> set[str]:
    """These stages and all that they need."""
    found = set(hashes)
    for stage in reversed(plan.stages):
        if stage.hash in found:
            found.update(hash for hash in stage.parents.values() if hash in plan.by_hash)
    return found


def _parents_there(plan: Plan, wanted: set[str], store: Store) -> None:
    for stage in plan.stages:
        for hash in stage.parents.values() if stage.hash in wanted and not store.has(stage.hash) else ():
            if hash not in wanted and not store.has(hash):
                label = plan.by_hash[hash].label if hash in plan.by_hash else hash[:12]
                raise RecipeError(
                    f"`{stage.label}` needs `{label}`", why="it is not done", fix="--until instead of --only"
                )
