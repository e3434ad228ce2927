"""Some stages of a plan, chosen by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from adapterstilts.api.care import remove
from adapterstilts.errors import RecipeError
from adapterstilts.plan.graph import SPECS, Plan, Stage
from adapterstilts.recipe.problems import nearest
from adapterstilts.store import Store

if TYPE_CHECKING:
    from adapterstilts.api.planning import Planned


@dataclass(frozen=True)
class Choice:
    """Which stages of a plan are wanted, by names; see `matching` for what a name means.

    ``only``: these alone, their parents must be there. ``until``: these and what they need. ``start``: these and what
    needs them. ``force``: these and what needs them are made again. Without the first three, all that is missing is
    wanted; several of them together want what each of them does.
    """

    only: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    until: tuple[str, ...] = ()
    force: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.only or self.start or self.until or self.force)


@dataclass(frozen=True)
class Part(Plan):
    """A plan of which only some stages are wanted; its identity is that of the whole."""

    wanted: frozenset[str] = frozenset()
    alone: bool = False
    forced: frozenset[str] = frozenset()

    def needed(self, store: Store) -> list[Stage]:
        """The wanted stages that are missing and, unless they are wanted alone, the missing parents they need."""
        there = {stage.hash for stage in self.stages if stage.hash not in self.forced and store.has(stage.hash)}
        missing = set(self.wanted - there)
        if not self.alone:
            for stage in reversed(self.stages):
                if stage.hash in missing:
                    missing.update(hash for hash in stage.parents.values() if hash not in there)
        return [stage for stage in self.stages if stage.hash in missing]

    def check(self, store: Store) -> None:
        """Refuse what cannot run.

        Raises:
            RecipeError: a stage that is wanted alone needs one that is not there.
        """
        needed = self.needed(store)
        coming = {stage.hash for stage in needed}
        for stage in needed:
            for hash in stage.parents.values():
                if hash not in coming and not store.has(hash):
                    label = self.by_hash[hash].label if hash in self.by_hash else hash[:12]
                    what = f"`{stage.label}` needs `{label}`"
                    raise RecipeError(what, why="it is not done", fix="--until instead of --only")

    def make_way(self, store: Store) -> None:
        """Remove the artifacts that are to be made again."""
        for hash in self.forced:
            remove(store, hash)


def choose(planned: Planned, choice: Choice) -> Planned:
    """The plan with the stages of the choice wanted; nothing is checked (`Part.check`) or removed (`make_way`) yet.

    Raises:
        RecipeError: a name that no stage has.
    """
    plan, store = planned.plan, planned.store
    forced = _after(plan, matching(plan, choice.force))
    some = bool(choice.only or choice.start or choice.until)
    wanted = set(plan.by_hash) if some else {stage.hash for stage in plan.needed(store)} | forced
    if choice.only:
        wanted = matching(plan, choice.only)
    if choice.start:
        wanted &= _after(plan, matching(plan, choice.start))
    if choice.until:
        wanted &= _before(plan, matching(plan, choice.until))
    part = Part(
        plan.recipe,
        plan.stages,
        plan.cells,
        plan.names,
        plan.warnings,
        plan.text,
        plan.origins,
        wanted=frozenset(wanted),
        alone=bool(choice.only),
        forced=frozenset(forced),
    )
    return replace(planned, plan=part)


def matching(plan: Plan, names: Iterable[str]) -> set[str]:
    """The hashes of the stages that names stand for, each the first of these that fits:

    a kind (``train``); a module of the recipe (``nli``: what makes it, for every base and seed); a target of the recipe
    (``copa``: its trainings and evaluations, by every arm); a label or a pattern of labels (``train * seed 0``); the
    beginning of a hash; a part of a label.

    Raises:
        RecipeError: a name that no stage has.
    """
    found: set[str] = set()
    for name in names:
        hits = next(filter(None, (meaning(plan, name) for meaning in _MEANINGS)), None)
        if hits is None:
            labels = [stage.label for stage in plan.stages]
            words = [*SPECS, *(entry.partition("/")[2] for entry in plan.names), *labels]
            fix = nearest(name, words, "adapterstilts plan RECIPE lists the labels")
            raise RecipeError(f"no stage is called `{name}`", why=f"the plan has {len(labels)} stages", fix=fix)
        found |= hits
    return found


def _kind(plan: Plan, name: str) -> set[str]:
    return {stage.hash for stage in plan.stages if stage.kind == name}


def _module(plan: Plan, name: str) -> set[str]:
    made = f"{plan.recipe}/{name}"
    return {hash for entry, hash in plan.names.items() if entry in (name, made) or entry.startswith(f"{made}/")}


def _target(plan: Plan, name: str) -> set[str]:
    hits = {cell.stage for cell in plan.cells if cell.target == name}
    modules = set(plan.names.values())
    for stage in [plan.by_hash[hash] for hash in hits if hash in plan.by_hash]:
        made = {parent for parent in stage.parents.values() if parent in plan.by_hash and parent not in modules}
        hits |= {parent for parent in made if plan.by_hash[parent].kind == "train"}
    return hits


def _label(plan: Plan, name: str) -> set[str]:
    return {stage.hash for stage in plan.stages if fnmatchcase(stage.label, name)}


def _hash(plan: Plan, name: str) -> set[str]:
    return {stage.hash for stage in plan.stages if len(name) >= 6 and stage.hash.startswith(name)}


def _part(plan: Plan, name: str) -> set[str]:
    return {stage.hash for stage in plan.stages if name in stage.label}


_MEANINGS = (_kind, _module, _target, _label, _hash, _part)


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
