"""train, stack, fuse, merge, evaluate, retrieve: each builds a recipe in memory and runs the plan that YAML would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from adapterstilts.api.places import DEFAULT_BASE, PathLike, absolute, module_base, open_store, open_tasks
from adapterstilts.api.planning import Planned, plan_recipe
from adapterstilts.api.running import Jobs, Run, run
from adapterstilts.errors import RecipeError
from adapterstilts.modules.composition import BASE, Fuse, Leaf, Stack, Tree, leaves
from adapterstilts.modules.expressions import format_tree, parse
from adapterstilts.recipe import from_plain
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from adapterstilts.executors.events import Event

Words = str | Sequence[str]
Draft = tuple[str, dict[str, Any]]  # what is made, and the recipe that makes it


@dataclass(frozen=True)
class Made:
    """A module that a verb made: its name, its hash and the run that made it."""

    name: str
    hash: str
    run: Run

    @property
    def facts(self) -> dict[str, Any]:
        """What its training or merging said: loss, dev scores, parameter counts, error."""
        facts: dict[str, Any] = self.run.planned.store.manifest(self.hash).get("facts", {})
        return facts


@dataclass(frozen=True, kw_only=True)
class Where:
    """What all verbs share: store, data root, further tasks, who listens, how many stages at a time, and how they run.

    ``engine``: memory and speed (`settings.EngineSettings`), such as {"tokens": 1024}. ``base``: default that of the
    modules, else xlm-roberta-large. ``slots``: language -> the module that stands in {language} there.
    """

    store: PathLike | Store | None = None
    data: PathLike | Mapping[str, Any] | None = None
    task_files: Iterable[PathLike] | TaskRegistry = ()
    jobs: Jobs | None = None
    on_event: Callable[[Event], None] | None = None
    command: str = ""
    engine: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    slots: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def split(cls, options: Mapping[str, Any]) -> tuple[Where, dict[str, Any]]:
        """The options that say where, and the others: those of the recipe's entry, without the ones left at None."""
        own = {item.name for item in fields(cls)}
        entry = {name: value for name, value in options.items() if name not in own and value is not None}
        return cls(**{name: value for name, value in options.items() if name in own}), entry

    def opened(self) -> Store:
        return open_store(self.store)

    def recipe(self, name: str, used: Iterable[str], **parts: Any) -> dict[str, Any]:
        """A recipe over stored modules; ``parts`` are its sections."""
        taken = list(dict.fromkeys([*used, *self.slots.values()]))
        base = self.base or module_base(self.opened(), taken) or DEFAULT_BASE
        modules = {**{module: {"use": module} for module in taken}, **parts.pop("modules", {})}
        plain = {"name": re.sub(r"[^A-Za-z0-9_.+-]", "-", name), "bases": [absolute(base)], "modules": modules}
        return {**plain, **({"slots": {"language": dict(self.slots)}} if self.slots else {}), **parts}

    def planned(self, plain: Mapping[str, Any]) -> Planned:
        """The plan of a recipe given as plain data; modules get their names without a prefix."""
        data = dict(self.data) if isinstance(self.data, Mapping) else None if self.data is None else str(self.data)
        tasks = open_tasks(self.task_files)
        engine = {**plain.get("engine", {}), **self.engine}
        recipe = from_plain({**plain, **({} if data is None else {"data": data}), "engine": engine})
        return plan_recipe(recipe, store=self.opened(), task_files=tasks, prefix="", command=self.command)

    def made(self, draft: Draft) -> Made:
        """Run a draft of one module."""
        name, plain = draft
        result = run(self.planned(plain), jobs=self.jobs, on_event=self.on_event)
        result.raise_for_failure()
        if result.result.interrupted:
            raise KeyboardInterrupt
        return Made(name, result.planned.plan.names[name], result)

    def rows(self, plain: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run a recipe that measures."""
        return run(self.planned(plain), jobs=self.jobs, on_event=self.on_event).raise_for_failure().rows


# -- drafts: the recipe of each verb ----------------------------------------------------------------------------------


def draft_training(
    where: Where,
    tasks: Words,
    *,
    name: str | None = None,
    on: Tree = BASE,
    continue_from: str | None = None,
    seed: int = 0,
    **entry: Any,
) -> Draft:
    """One training; ``entry``: what a recipe says of a module (limit, method, settings).

    Raises:
        RecipeError, StoreError: modules that are not there, of several bases, or called like the new one.
    """
    items = _words(tasks)
    if not items:
        raise RecipeError("no task to train on", fix="adapterstilts ls tasks")
    used = [continue_from] if continue_from else leaves(on)
    made = name or "+".join([*used, *(item.replace("/", "-") for item in items)])
    if made in [*used, *where.slots.values()]:
        raise RecipeError(f"`{made}` is the name of a module that the new one needs", fix="--name another")
    settings = dict(entry.pop("settings", {}))
    engine = settings.pop("engine", {})
    entry = {"train": items, **entry, **({"settings": settings} if settings else {})}
    entry |= {"continue": continue_from} if continue_from else {}
    entry |= {"on": format_tree(on)} if on != BASE else {}
    return made, where.recipe(made, used, seeds=[seed], modules={made: entry}, engine=engine)


def draft_merge(where: Where, modules: Sequence[str], *, name: str, seed: int = 0, **entry: Any) -> Draft:
    """One merge; ``entry``: how, weights, parameters."""
    if name in modules:
        raise RecipeError(f"`{name}` is the name of a module that is merged", fix="--name another")
    entry = {"merge": list(modules), **entry}
    return name, where.recipe(name, modules, seeds=[seed], modules={name: entry})


def draft_evaluation(where: Where, module: str, tasks: Words, **entry: Any) -> dict[str, Any]:
    """Scores of a module as it is; ``base`` is the bare base (masked_lm tasks only)."""
    used = [] if module == "base" else [module]
    entry = {"tasks": _words(tasks), "modules": [module], **entry}
    return where.recipe(f"evaluate-{module}", used, evaluate=[entry])


def draft_retrieval(where: Where, tasks: Words, *, modules: Words = (), **entry: Any) -> dict[str, Any]:
    """Searches with the bare base and with modules."""
    used = [module for module in _words(modules) if module != "base"]
    entry = {"tasks": _words(tasks), "modules": ["base", *used], **entry}
    return where.recipe("retrieve-" + "-".join(used or ["base"]), used, retrieve=[entry])


def _words(value: Words | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


# -- the verbs --------------------------------------------------------------------------------------------------------


def train(
    tasks: Words, *, name: str | None = None, continue_from: str | None = None, seed: int = 0, **options: Any
) -> Made:
    """Train one module on a task (``mnli``, ``xnli/sw``) or a mix of tasks, and give it a name.

    Args:
        continue_from: a module whose copy training goes on from.
        options: what a recipe says of a module: ``method`` ("lora", or {"name": "lora", "r": 16}), ``limit`` (training
            examples of each task), ``settings`` (`settings.TrainSettings`, such as {"epochs": 1}); and `Where`: store,
            data, base, slots, task_files, jobs, on_event.

    Raises:
        AdapterstiltsError: a wrong argument, missing data, or what made a stage fail.
    """
    where, entry = Where.split(options)
    return where.made(draft_training(where, tasks, name=name, continue_from=continue_from, seed=seed, **entry))


def stack(modules: Words, train: Words, *, name: str | None = None, seed: int = 0, **options: Any) -> Made:
    """Train a fresh module over frozen ones, bottom first: ``stack("mnli", train="xquad")``. Options as of `train`."""
    where, entry = Where.split(options)
    return where.made(draft_training(where, train, name=name, on=stacked(_words(modules)), seed=seed, **entry))


def fuse(modules: Sequence[str], train: Words, *, name: str, how: str = "gate", seed: int = 0, **options: Any) -> Made:
    """Train a mixture of frozen modules, and a fresh module over it, on a task. Options as of `train`."""
    where, entry = Where.split(options)
    return where.made(draft_training(where, train, name=name, on=fused(modules, how), seed=seed, **entry))


def merge(modules: Sequence[str], *, name: str, seed: int = 0, **options: Any) -> Made:
    """One new module of several: ``cat`` (the exact sum) for deltas, ``average`` for bottlenecks by default.

    Args:
        options: ``how``, ``weights``, ``parameters`` ({"rank": 8}), as a recipe says them; and `Where`.
    """
    where, entry = Where.split(options)
    return where.made(draft_merge(where, modules, name=name, seed=seed, **entry))


def evaluate(module: str, tasks: Words, **options: Any) -> list[dict[str, Any]]:
    """Score rows of a module on tasks that it has a head for, in all their languages or those named.

    Args:
        options: ``languages``, ``split`` ("test"), ``limit``, ``precision``, as a recipe's ``evaluate`` says them;
            and `Where`.
    """
    where, entry = Where.split(options)
    return where.rows(draft_evaluation(where, module, tasks, **entry))


def retrieve(tasks: Words, *, modules: Words = (), **options: Any) -> list[dict[str, Any]]:
    """Score rows of searched tasks with the bare base and with modules, at every layer or those named.

    Args:
        options: ``languages``, ``layers``, ``pooling``, ``margin``, ``neighbours``, ``limit``, ``precision``, as a
            recipe's ``retrieve`` says them; and `Where`.
    """
    where, entry = Where.split(options)
    return where.rows(draft_retrieval(where, tasks, modules=modules, **entry))


def stacked(modules: Sequence[str]) -> Tree:
    """Modules or expressions over modules as one stack, bottom first."""
    trees = [parse(module) for module in modules]
    if not trees:
        raise RecipeError("a stack needs a module below the new one", fix="adapterstilts ls modules")
    return trees[0] if len(trees) == 1 else Stack(tuple(trees))


def fused(modules: Sequence[str], how: str = "gate") -> Tree:
    """Modules as one fusion."""
    return Fuse(tuple(Leaf(module) for module in modules), how)
