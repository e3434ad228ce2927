"""Results that are already there: score rows and reports of recipes and runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adapterstilts.api.pages import FORMATS, write_pages
from adapterstilts.api.places import PathLike, open_store, open_tasks, recipe_files
from adapterstilts.api.planning import Planned, RecipeLike, plan_recipe
from adapterstilts.api.running import Run
from adapterstilts.errors import StoreError
from adapterstilts.plan.runs import load_plan
from adapterstilts.recipe import from_plain
from adapterstilts.results import score_rows
from adapterstilts.results.usage import module_usage, plan_usage
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

Source = RecipeLike | Planned | Run


def find_planned(
    source: Source,
    sets: Iterable[str] = (),
    *,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> Planned:
    """The plan of a recipe (file, name, mapping), or of a run of the store by recipe name, id or recipe/id.

    Raises:
        StoreError: neither. InvalidRecipe, DataError: a recipe that cannot be planned.
    """
    if isinstance(source, (Planned, Run)):
        return source if isinstance(source, Planned) else source.planned
    opened, registry = open_store(store), open_tasks(task_files)
    sets = tuple(sets)
    if isinstance(source, (str, os.PathLike)) and not Path(source).is_file():
        text = os.fspath(source)
        try:
            plan = None if sets else load_plan(opened, text)
        except StoreError as error:
            if text not in recipe_files():
                raise StoreError(
                    f"no recipe and no run `{text}`", where=error.where, why=error.why, fix="adapterstilts ls runs"
                ) from None
            plan = None
        if plan is not None:
            recipe = from_plain(json.loads(plan.text), name=text)
            return Planned(recipe, plan, opened, registry, f"adapterstilts run {text}")
    return plan_recipe(source, sets, store=opened, task_files=registry)


def scores(
    source: Source,
    sets: Iterable[str] = (),
    *,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> list[dict[str, Any]]:
    """The score rows of a recipe or run: {base, arm, seed, task, language, split, metric, value, n, stage, ...}."""
    planned = find_planned(source, sets, store=store, task_files=task_files)
    return score_rows(planned.plan, planned.store)


def usage(
    source: Source,
    *,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> list[dict[str, Any]]:
    """How much of each module fusions used, as measured when they were evaluated: a row a place, layer and language.

    Args:
        source: a stored module, or a recipe or run.

    Returns:
        [{task, split, language, fusion, how, parts, layer, place, share, deviation, tokens}], of a plan with {base,
        arm, seed}; ``share`` is the mean weight of each part over all tokens.

    Raises:
        StoreError: nothing of it fuses, or nothing was evaluated.
    """
    opened = open_store(store)
    if isinstance(source, str) and source in opened.names:
        return module_usage(opened, source)
    planned = find_planned(source, store=opened, task_files=task_files)
    rows = plan_usage(planned.plan, opened, score_rows(planned.plan, opened))
    if not rows:
        raise StoreError(f"no usage in `{planned.recipe.name}`", why="nothing that fuses was evaluated yet")
    return rows


def write_report(
    source: Source,
    out: PathLike,
    formats: Sequence[str] = FORMATS,
    *,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> dict[str, Path]:
    """Write the report of a recipe or run into a folder; returns the path of each format.

    Raises:
        StoreError: nothing is measured yet.
    """
    return write_pages(find_planned(source, store=store, task_files=task_files), out, formats)
