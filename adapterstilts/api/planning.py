"""A recipe, from wherever it comes, expanded into its plan."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapterstilts.api.places import PathLike, find_recipe, open_store, open_tasks
from adapterstilts.errors import RecipeError
from adapterstilts.plan.build import make_plan
from adapterstilts.plan.graph import Plan, State
from adapterstilts.plan.runs import states
from adapterstilts.recipe import Recipe, from_plain, load, validate
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

RecipeLike = PathLike | Mapping[str, Any] | Recipe


@dataclass(frozen=True)
class Planned:
    """A recipe with its plan, and where it is worked on."""

    recipe: Recipe
    plan: Plan
    store: Store
    tasks: TaskRegistry
    command: str = ""

    def states(self) -> dict[str, State]:
        """hash -> hit, stale or missing."""
        return states(self.plan, self.store)


def read_recipe(
    recipe: RecipeLike, sets: Iterable[str] = (), *, task_files: Iterable[PathLike] | TaskRegistry = ()
) -> Recipe:
    """A recipe from a file, a name of `ls recipes`, a mapping, or as it is; everything that is wrong comes at once.

    Raises:
        InvalidRecipe: with file:line of every problem. DataError: no such file.
    """
    registry = open_tasks(task_files)

    def check(recipe: Recipe) -> list[RecipeError]:
        return validate(recipe, registry)

    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return from_plain(recipe, check=check)
    return load(find_recipe(recipe), sets, check)


def plan_recipe(
    recipe: RecipeLike,
    sets: Iterable[str] = (),
    *,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
    prefix: str | None = None,
    command: str = "",
) -> Planned:
    """Expand a recipe into its stages. Torch-free; writes nothing but remembered file hashes.

    Args:
        sets: overrides ``a.b=c`` of a recipe file.
        prefix: of the modules' names in the store; default the recipe's name and a slash.

    Raises:
        InvalidRecipe, DataError, StoreError: see `recipe.load` and `plan.make_plan`.
    """
    opened, registry = open_store(store), open_tasks(task_files)
    read = read_recipe(recipe, sets, task_files=registry)
    plan = make_plan(read, registry, opened, prefix=prefix)
    if not command and isinstance(recipe, (str, os.PathLike)):
        command = f"adapterstilts run {os.fspath(recipe)}" + "".join(f" --set {text}" for text in sets)
    return Planned(read, plan, opened, registry, command)
