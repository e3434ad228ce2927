"""A recipe's bases, seeds, modules, arms and targets written out as stages."""

from __future__ import annotations

from adapterstilts.plan.bases import base_refs
from adapterstilts.plan.collected import Collected
from adapterstilts.plan.data import Data
from adapterstilts.plan.graph import Plan, in_order
from adapterstilts.plan.measured import Measures
from adapterstilts.plan.trained import Modules
from adapterstilts.plan.used import find_used
from adapterstilts.recipe.problems import raise_all
from adapterstilts.recipe.schema import Recipe
from adapterstilts.recipe.validate import validate
from adapterstilts.stages.specs import BaseRef
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry


def make_plan(recipe: Recipe, tasks: TaskRegistry, store: Store, *, prefix: str | None = None) -> Plan:
    """Expand a recipe into stages, each once, parents first.

    Args:
        prefix: of the names that the modules get in the store; default the recipe's name and a slash.

    Raises:
        InvalidRecipe: cross references or compositions that cannot be. DataError: data that is not there, all of it.
    """
    bases = base_refs(recipe, store)
    used = find_used(recipe, store, bases)
    raise_all([*used.problems, *validate(recipe, tasks, used.facts)], recipe.name)
    data = Data(recipe, tasks, store)
    collected = Collected(recipe, data, used)
    for base in bases:
        for seed in recipe.seeds:
            _expand(collected, base, seed)
    data.finish()
    return Plan(
        recipe.name,
        in_order(collected.stages.values()),
        tuple(collected.cells),
        collected.names(f"{recipe.name}/" if prefix is None else prefix),
        tuple(data.warnings),
        recipe.text,
        collected.origins,
    )


def _expand(collected: Collected, base: BaseRef, seed: int) -> None:
    recipe, modules = collected.recipe, Modules(collected, base, seed)
    measures = Measures(modules)
    for name in recipe.modules:
        modules.module(name)
    for target_name, target in recipe.targets.items():
        for arm_name, arm in recipe.arms.items():
            if arm.targets is None or target_name in arm.targets:
                measures.target(target_name, target, arm_name, arm)
    for number, scores in enumerate(recipe.evaluate):
        for task in scores.tasks:
            measures.evaluate(("evaluate", number), scores, task)
    for number, search in enumerate(recipe.retrieve):
        for task in search.tasks:
            measures.retrieve(("retrieve", number), search, task)
