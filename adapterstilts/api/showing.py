"""Results that are already there: score rows and reports of recipes and runs, and how far runs have come."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adapterstilts.api.pages import FORMATS, write_pages
from adapterstilts.api.places import PathLike, open_store, open_tasks, recipe_files
from adapterstilts.api.planning import Planned, RecipeLike, plan_recipe
from adapterstilts.api.running import Run
from adapterstilts.errors import StoreError
from adapterstilts.plan.graph import Plan
from adapterstilts.plan.runs import load_plan, runs_of
from adapterstilts.recipe import from_plain
from adapterstilts.results import score_rows
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


# -- status -----------------------------------------------------------------------------------------------------------


def run_states(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """Every stage of a plan with its state: done, running, started (it has checkpoints or a log), or open."""
    return [
        {
            "name": stage.label,
            "kind": stage.kind,
            "state": _state(stage.hash, store),
            "seconds": store.manifest(stage.hash).get("wall_seconds") if store.has(stage.hash) else None,
            "hash": stage.hash,
            "log": str(store.root / "logs" / f"{stage.hash}.log"),
        }
        for stage in plan.stages
    ]


def _state(hash: str, store: Store) -> str:
    if store.has(hash):
        return "done"
    if (store.root / "locks" / f"{hash}.lock").exists():
        try:
            with store.lock(hash, timeout=0):
                pass
        except StoreError:
            return "running"
    return "started" if _touched(hash, store) else "open"


def _touched(hash: str, store: Store) -> bool:
    return (store.root / "work" / hash).is_dir() or (store.root / "logs" / f"{hash}.log").exists()


def runs(store: PathLike | Store | None = None, most: int | None = None) -> list[dict[str, Any]]:
    """The runs of a store, the newest first, each with the number of stages by state."""
    opened = open_store(store)
    found = []
    for folder in runs_of(opened)[:most]:
        plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        states = Counter(_state(stage["hash"], opened) for stage in plan["stages"])
        found.append(
            {
                "name": f"{folder.parent.name}/{folder.name}",
                "recipe": plan["recipe"],
                "id": folder.name,
                "when": time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / "plan.json").stat().st_mtime)),
                "stages": len(plan["stages"]),
                **{state: states.get(state, 0) for state in ("done", "running", "started", "open")},
            }
        )
    return found
