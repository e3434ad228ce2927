"""Rows of published tables, each with its mark: a number that nobody checked is never called published."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

Mark = Literal["verified", "recalled", "not found"]
MEAN = "mean"

_LABELS: dict[str, str] = {
    "verified": "published",
    "recalled": "recalled, not checked against the paper",
    "not found": "not found",
}


@dataclass(frozen=True)
class PublishedRow:
    """One published cell: percent, or a difference in points where ``delta``. ``value`` None: looked for, not found.

    ``language`` None: the mean over the task's languages. ``task`` "mean": the mean over tasks.
    """

    table: str
    title: str
    name: str
    task: str
    metric: str
    language: str | None
    value: float | None
    delta: bool
    split: str
    layer: int | None
    baseline: str
    mark: Mark
    source: str
    note: str = ""

    @property
    def label(self) -> str:
        """What may be said of it: "published" only where it was verified."""
        return _LABELS[self.mark]


@cache
def published() -> tuple[PublishedRow, ...]:
    """All rows of the package's ``published.yaml``, in its order."""
    text = files("adapterstilts.study").joinpath("published.yaml").read_text(encoding="utf-8")
    plain = yaml.safe_load(text)
    return tuple(
        cell for table in plain["tables"] for row in table["rows"] for cell in _cells(table, row, plain["metrics"])
    )


def beside(tasks: Collection[str]) -> list[PublishedRow]:
    """The published rows that belong beside a run over these tasks (task names without the language)."""
    return [row for row in published() if row.task in tasks]


def _cells(table: dict[str, Any], row: dict[str, Any], metrics: dict[str, Any]) -> list[PublishedRow]:
    def cell(task: str, metric: str, language: str | None, value: float | None, mark: Mark) -> PublishedRow:
        return PublishedRow(
            table["name"],
            table["title"],
            row["name"],
            task,
            metric,
            language,
            None if value is None else float(value),
            table.get("delta", False),
            table["split"],
            table.get("layer"),
            table["baseline"],
            mark,
            table["source"],
            row.get("note", ""),
        )

    if not row["values"]:
        return [cell(MEAN, "mean", None, None, row["mark"])]
    out = []
    for key, value in row["values"].items():
        mark: Mark = "verified" if key in row.get("verified", ()) else row["mark"]
        if "task" in table:  # a table of one task has languages for columns
            metric = metrics[table["task"]]
            out.append(cell(table["task"], metric, None if key == MEAN else key, value, mark))
        else:
            names = metrics[key] if isinstance(metrics[key], list) else [metrics[key]]
            parts = value if isinstance(value, list) else [value]
            for metric, part in zip(names, parts, strict=False):  # some tables give F1 without EM
                out.append(cell(key, metric, None, part, mark))
    return out
