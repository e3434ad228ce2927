"""train, stack, fuse, merge, evaluate, retrieve: each builds a recipe in memory and runs the plan that YAML would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapterstilts.api.places import DEFAULT_BASE, PathLike, absolute, module_base, open_store, open_tasks
from adapterstilts.api.planning import Planned, plan_recipe
from adapterstilts.api.running import Jobs, Run, run
from adapterstilts.errors import RecipeError
from adapterstilts.modules.composition import BASE, Fuse, Leaf, Stack, Tree, format_tree, leaves, parse
from adapterstilts.recipe import from_plain
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from adapterstilts.executors.events import Event

Words = str | Sequence[str]
Method = str | Mapping[str, Any]


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


@dataclass(frozen=True)
class Where:
    """What all verbs share: store, data root, further tasks, who listens, how many stages at a time, and how they run.

    ``engine``: memory and speed (`settings.EngineSettings`), such as {"tokens": 1024}.
    """

    store: PathLike | Store | None = None
    data: PathLike | Mapping[str, Any] | None = None
    task_files: Iterable[PathLike] | TaskRegistry = ()
    jobs: Jobs | None = None
    on_event: Callable[[Event], None] | None = None
    command: str = ""
    engine: Mapping[str, Any] = field(default_factory=dict)

    def opened(self) -> Store:
        return open_store(self.store)

    def planned(self, plain: Mapping[str, Any]) -> Planned:
        """The plan of a recipe given as plain data; modules get their names without a prefix."""
        data = dict(self.data) if isinstance(self.data, Mapping) else None if self.data is None else str(self.data)
        tasks = open_tasks(self.task_files)
        engine = {**plain.get("engine", {}), **self.engine}
        recipe = from_plain({**plain, **({} if data is None else {"data": data}), "engine": engine})
        return plan_recipe(recipe, store=self.opened(), task_files=tasks, prefix="", command=self.command)

    def run(self, plain: Mapping[str, Any]) -> Run:
        return run(self.planned(plain), jobs=self.jobs, on_event=self.on_event)


def train_plain(
    tasks: Words,
    *,
    name: str | None = None,
    base: str | None = None,
    method: Method | None = None,
    on: str | Tree | None = None,
    continue_from: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    store: Store,
) -> tuple[str, dict[str, Any]]:
    """(module name, recipe) of one training; see `train` and `stack`.

    Raises:
        RecipeError, StoreError: modules that are not there, of several bases, or called like the new one.
    """
    items = _words(tasks)
    if not items:
        raise RecipeError("no task to train on", fix="adapterstilts ls tasks")
    tree = parse(on) if isinstance(on, str) else BASE if on is None else on
    used = [continue_from] if continue_from else leaves(tree)
    made = name or "+".join([*used, *(item.replace("/", "-") for item in items)])
    if made in used:
        raise RecipeError(f"`{made}` is the name of a module that the new one needs", fix="--name another")
    own = dict(settings or {})
    engine = own.pop("engine", {})
    entry: dict[str, Any] = {"train": items}
    entry |= {} if limit is None else {"limit": limit}
    entry |= {"settings": own} if own else {}
    entry |= {} if method is None else {"method": method}
    entry |= {"continue": continue_from} if continue_from else {}
    entry |= {"on": format_tree(tree)} if tree != BASE else {}
    plain = _plain(made, used, base, store)
    plain |= {"seeds": [seed], "engine": engine}
    plain["modules"] = {**{module: {"use": module} for module in used}, made: entry}
    return made, plain


def merge_plain(
    modules: Sequence[str],
    *,
    name: str,
    how: str | None = None,
    weights: Sequence[float] | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    store: Store,
) -> tuple[str, dict[str, Any]]:
    """(module name, recipe) of a merge."""
    if name in modules:
        raise RecipeError(f"`{name}` is the name of a module that is merged", fix="--name another")
    entry: dict[str, Any] = {"merge": list(modules)}
    entry |= {"how": how} if how else {}
    entry |= {"weights": list(weights)} if weights else {}
    entry |= {"parameters": dict(parameters)} if parameters else {}
    plain = _plain(name, modules, None, store) | {"seeds": [seed]}
    plain["modules"] = {**{module: {"use": module} for module in modules}, name: entry}
    return name, plain


def evaluate_plain(
    module: str,
    tasks: Words,
    *,
    languages: Words | None = None,
    split: str = "test",
    limit: int | None = None,
    base: str | None = None,
    precision: str | None = None,
    store: Store,
) -> dict[str, Any]:
    """The recipe that scores a module as it is; ``base`` is the bare base (masked_lm tasks only)."""
    used = [] if module == "base" else [module]
    entry: dict[str, Any] = {"tasks": _words(tasks), "modules": [module], "split": split}
    entry |= {"languages": _words(languages)} if languages else {}
    entry |= {"limit": limit} if limit else {}
    entry |= {"precision": precision} if precision else {}
    plain = _plain(f"evaluate-{module}", used, base, store)
    return plain | {"modules": {name: {"use": name} for name in used}, "evaluate": [entry]}


def retrieve_plain(
    tasks: Words,
    *,
    modules: Words = (),
    languages: Words | None = None,
    layers: str | int | Sequence[int] = "all",
    pooling: str = "mean",
    margin: str = "ratio",
    neighbours: int = 4,
    limit: int | None = None,
    base: str | None = None,
    precision: str | None = None,
    store: Store,
) -> dict[str, Any]:
    """The recipe that searches with the bare base and with modules."""
    used = [module for module in _words(modules) if module != "base"]
    entry: dict[str, Any] = {"tasks": _words(tasks), "modules": ["base", *used], "layers": layers}
    entry |= {"pooling": pooling, "margin": margin, "neighbours": neighbours}
    entry |= {"languages": _words(languages)} if languages else {}
    entry |= {"limit": limit} if limit else {}
    entry |= {"precision": precision} if precision else {}
    plain = _plain("retrieve-" + "-".join(used or ["base"]), used, base, store)
    return plain | {"modules": {name: {"use": name} for name in used}, "retrieve": [entry]}


def _plain(name: str, modules: Iterable[str], base: str | None, store: Store) -> dict[str, Any]:
    found = module_base(store, modules)
    return {"name": re.sub(r"[^A-Za-z0-9_.+-]", "-", name), "bases": [absolute(base or found or DEFAULT_BASE)]}


def _words(value: Words | None) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


# -- the verbs --------------------------------------------------------------------------------------------------------


def train(
    tasks: Words,
    *,
    name: str | None = None,
    base: str | None = None,
    method: Method | None = None,
    continue_from: str | None = None,
    limit: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    **where: Any,
) -> Made:
    """Train one module on a task (``mnli``, ``xnli/sw``) or a mix of tasks, and give it a name.

    Args:
        base: default xlm-roberta-large, or the base of ``continue_from``.
        method: ``lora``, or with parameters {"name": "lora", "r": 16}.
        continue_from: a module whose copy training goes on from.
        limit: training examples of each task.
        settings: training settings (`settings.TrainSettings`), such as {"epochs": 1}.
        where: store, data, task_files, jobs, on_event, engine (`Where`).

    Raises:
        AdapterstiltsError: a wrong argument, missing data, or what made a stage fail.
    """
    place = Where(**where)
    made, plain = train_plain(
        tasks,
        name=name,
        base=base,
        method=method,
        continue_from=continue_from,
        limit=limit,
        seed=seed,
        settings=settings,
        store=place.opened(),
    )
    return _made(made, place.run(plain))


def stack(
    modules: Words,
    train: Words,
    *,
    name: str | None = None,
    method: Method | None = None,
    limit: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    **where: Any,
) -> Made:
    """Train a fresh module over frozen ones, bottom first: ``stack("mnli", train="xquad")``."""
    place = Where(**where)
    made, plain = train_plain(
        train,
        name=name,
        method=method,
        on=stacked(_words(modules)),
        limit=limit,
        seed=seed,
        settings=settings,
        store=place.opened(),
    )
    return _made(made, place.run(plain))


def fuse(
    modules: Sequence[str],
    train: Words,
    *,
    name: str,
    how: str = "gate",
    method: Method | None = None,
    limit: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    **where: Any,
) -> Made:
    """Train a mixture of frozen modules, and a fresh module over it, on a task."""
    place = Where(**where)
    made, plain = train_plain(
        train,
        name=name,
        method=method,
        on=fused(modules, how),
        limit=limit,
        seed=seed,
        settings=settings,
        store=place.opened(),
    )
    return _made(made, place.run(plain))


def merge(
    modules: Sequence[str],
    *,
    name: str,
    how: str | None = None,
    weights: Sequence[float] | None = None,
    parameters: Mapping[str, Any] | None = None,
    seed: int = 0,
    **where: Any,
) -> Made:
    """One new module of several: ``cat`` (the exact sum) for deltas, ``average`` for bottlenecks by default."""
    place = Where(**where)
    made, plain = merge_plain(
        modules, name=name, how=how, weights=weights, parameters=parameters, seed=seed, store=place.opened()
    )
    return _made(made, place.run(plain))


def evaluate(
    module: str,
    tasks: Words,
    *,
    languages: Words | None = None,
    split: str = "test",
    limit: int | None = None,
    base: str | None = None,
    precision: str | None = None,
    **where: Any,
) -> list[dict[str, Any]]:
    """Score rows of a module on tasks that it has a head for, in all their languages or those named."""
    place = Where(**where)
    plain = evaluate_plain(
        module,
        tasks,
        languages=languages,
        split=split,
        limit=limit,
        base=base,
        precision=precision,
        store=place.opened(),
    )
    return place.run(plain).raise_for_failure().rows


def retrieve(
    tasks: Words,
    *,
    modules: Words = (),
    languages: Words | None = None,
    layers: str | int | Sequence[int] = "all",
    pooling: str = "mean",
    margin: str = "ratio",
    neighbours: int = 4,
    limit: int | None = None,
    base: str | None = None,
    precision: str | None = None,
    **where: Any,
) -> list[dict[str, Any]]:
    """Score rows of searched tasks with the bare base and with modules, at every layer or those named."""
    place = Where(**where)
    plain = retrieve_plain(
        tasks,
        modules=modules,
        languages=languages,
        layers=layers,
        pooling=pooling,
        margin=margin,
        neighbours=neighbours,
        limit=limit,
        base=base,
        precision=precision,
        store=place.opened(),
    )
    return place.run(plain).raise_for_failure().rows


def stacked(modules: Sequence[str]) -> Tree:
    """Modules or expressions over modules as one stack, bottom first."""
    trees = [parse(module) for module in modules]
    if not trees:
        raise RecipeError("a stack needs a module below the new one", fix="adapterstilts ls modules")
    return trees[0] if len(trees) == 1 else Stack(tuple(trees))


def fused(modules: Sequence[str], how: str = "gate") -> Tree:
    """Modules as one fusion."""
    return Fuse(tuple(Leaf(module) for module in modules), how)


def _made(name: str, run: Run) -> Made:
    run.raise_for_failure()
    if run.result.interrupted:
        raise KeyboardInterrupt
    return Made(name, run.planned.plan.names[name], run)
