"""A prepared split as the stages read it: the task as it was resolved, tokenised arrays, and the examples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterstilts.data.arrays import Arrays, read_arrays
from adapterstilts.tasks.formats.base import ExampleView
from adapterstilts.tasks.spec import TaskSpec


@dataclass(frozen=True)
class Prepared:
    """One task, language and split. ``arrays`` are memory-mapped; examples are read from disk when asked for."""

    directory: Path
    task: TaskSpec
    arrays: Arrays
    facts: dict[str, Any]

    def examples(self) -> Iterator[dict[str, Any]]:
        """The canonical examples in the order of ``arrays``."""
        with (self.directory / "examples.jsonl").open(encoding="utf-8") as file:
            yield from map(json.loads, file)

    def view(self, index: int) -> ExampleView:
        """The fields of one example's rows, as formats decode with them."""
        return self.arrays.view(index)


def read_task(directory: Path) -> TaskSpec:
    """The task of a prepared split, as it was resolved."""
    return TaskSpec.model_validate_json((directory / "task.json").read_text(encoding="utf-8"))


def read_prepared(directory: Path) -> Prepared:
    """Open what the prepare stage wrote."""
    task = read_task(directory)
    facts = json.loads((directory / "health.json").read_text(encoding="utf-8"))
    return Prepared(directory, task, read_arrays(directory), facts)


Side = list[tuple[str, str]]


@dataclass(frozen=True)
class PreparedBitext:
    """Two sides as (id, text) and tokenised, and which sentences belong together (None: not published)."""

    task: TaskSpec
    source: Side
    target: Side
    gold: Side | None
    source_arrays: Arrays
    target_arrays: Arrays


def read_prepared_bitext(directory: Path) -> PreparedBitext:
    """Open what the prepare stage wrote for a bitext task."""
    task = read_task(directory)
    sides = {side: read_arrays(directory / side) for side in ("source", "target")}
    texts = {side: _pairs(directory / f"{side}.tsv") for side in sides}
    gold = _pairs(directory / "gold.tsv") if (directory / "gold.tsv").exists() else None
    return PreparedBitext(task, texts["source"], texts["target"], gold, sides["source"], sides["target"])


def _pairs(path: Path) -> Side:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [(first, second) for first, _, second in (line.partition("\t") for line in lines if line)]
