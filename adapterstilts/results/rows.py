"""The scores of a plan's stages joined with its cells: a row per base, arm, seed, task, language, split and metric."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from adapterstilts.errors import StoreError
from adapterstilts.plan.graph import Cell, Plan
from adapterstilts.store import Store

BARE = "base"  # the arm of the bare base: nothing was trained, so it has no seed
Row = dict[str, Any]


def score_rows(plan: Plan, store: Store) -> list[Row]:
    """The rows of every cell whose stage is done, in the order of the plan.

    A row is {base, arm, seed, task, language, split, metric, value, n, stage} and, of retrieval, layer and variant;
    ``value`` is in percent, ``stage`` the hash of the artifact that holds the predictions.

    Raises:
        StoreError: a scores.json that cannot be read.
    """
    named = task_names(plan)
    rows: list[Row] = []
    seen: set[tuple[str, str, str]] = set()
    for cell in plan.cells:
        key = (cell.base, cell.arm, cell.stage)
        if (cell.arm == BARE and key in seen) or not store.has(cell.stage):
            continue
        seen.add(key)
        place = {
            "base": cell.base,
            "arm": _arm(cell, plan),
            "seed": None if cell.arm == BARE else cell.seed,
            "task": named[cell.target, cell.task],
        }
        rows += [{**place, **score, "stage": cell.stage} for score in _scores(store, cell.stage)]
    return rows


def task_names(plan: Plan) -> dict[tuple[str, str], str]:
    """(target, task) -> the name it is shown by: the task's, or the target's where two targets share a task."""
    pairs = dict.fromkeys((cell.target, cell.task) for cell in plan.cells)
    targets: dict[str, set[str]] = {}
    for target, task in pairs:
        targets.setdefault(task, set()).add(target)
    # An `evaluate` entry calls its target like the task; beside it one target can keep the task's name.
    return {(target, task): task if len(targets[task] - {task}) <= 1 else target for target, task in pairs}


def _arm(cell: Cell, plan: Plan) -> str:
    """A module that is scored as it is must not look like the arm of the same name."""
    if cell.kind != "evaluate" or cell.target != cell.task:
        return cell.arm
    arms = {other.arm for other in plan.cells if other.task == cell.task and other.target != other.task}
    return f"{cell.arm} (module)" if cell.arm in arms else cell.arm


def _scores(store: Store, hash: str) -> list[Row]:
    path = store.path(hash) / "scores.json"
    try:
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fix = "adapterstilts store verify"
        raise StoreError("scores cannot be read", where=str(path), why=str(error), fix=fix) from None
    return rows


def example_scores(store: Store) -> Callable[[str, str], Mapping[str, float] | None]:
    """``(stage, language) -> {example id: score in 0..1}``; None where a stage kept no predictions."""

    @cache
    def read(stage: str, language: str) -> Mapping[str, float] | None:
        if not store.has(stage):
            return None
        path = store.path(stage) / f"predictions.{language}.jsonl"
        if not path.is_file():
            return None
        with path.open(encoding="utf-8") as file:
            found = [json.loads(line) for line in file]
        return {str(row["id"]): float(row["score"]) for row in found if row.get("score") is not None} or None

    return read
