"""The table of score rows: reading, filtering, and pairing runs that share a base and a seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from adapterstilts.errors import DataError

ENGLISH = "en"
RETRIEVAL_BASELINE = "base"

# Which of a task's metrics speaks for it when the caller does not say: XTREME's own order (evaluate.py, avg_metric).
METRIC_ORDER = ("f1", "accuracy", "map@20", "em")
# Later is preferred: a test score is reported before a development score.
SPLIT_ORDER = ("train", "dev", "validation", "test")


@dataclass(frozen=True, order=True)
class Pair:
    """One independent repetition: a pretrained base and a training seed. ``seed`` None: nothing was trained."""

    base: str
    seed: int | None


@dataclass(frozen=True)
class Score:
    """One score row; ``value`` is in percent, ``n`` is the number of examples."""

    base: str
    arm: str
    seed: int | None
    task: str
    language: str
    split: str
    metric: str
    value: float
    n: int | None
    stage: str
    layer: int | None = None
    variant: str | None = None
    module: str | None = None

    @property
    def pair(self) -> Pair:
        return Pair(self.base, self.seed)

    @property
    def retrieval(self) -> bool:
        return self.layer is not None or self.variant is not None


_FIELDS = tuple(field.name for field in fields(Score))
_NEEDED = ("base", "arm", "seed", "task", "language", "split", "metric", "value", "stage")
_KEY = ("base", "arm", "seed", "task", "language", "split", "metric", "layer", "variant")


@dataclass(frozen=True)
class Scores:
    """A frozen table of score rows, in the order they were given."""

    rows: tuple[Score, ...]

    @classmethod
    def read(cls, rows: Iterable[Mapping[str, Any]]) -> Scores:
        """Score rows as plain dicts -> table. Keys that are not ours are ignored.

        Raises DataError for a missing field, a value that is not a number, or two different values for one cell.
        """
        out: dict[tuple[Any, ...], Score] = {}
        for index, row in enumerate(rows):
            where = f"score row {index}"
            missing = [name for name in _NEEDED if name not in row]
            if missing:
                raise DataError(
                    f"missing {', '.join(missing)}", where=where, fix=f"give every row the fields {', '.join(_NEEDED)}"
                )
            try:
                value = float(row["value"])
            except (TypeError, ValueError):
                value = float("nan")
            if not np.isfinite(value):
                raise DataError(f"value {row['value']!r} is not a number", where=where, fix="give a value in percent")
            score = Score(**{**{"n": None}, **{k: row[k] for k in _FIELDS if k in row}, "value": value})
            key = tuple(getattr(score, name) for name in _KEY)
            if key in out and out[key].value != value:
                raise DataError(
                    f"two scores for one cell: {out[key].value:g} and {value:g}",
                    where=where,
                    why=", ".join(f"{name} {part}" for name, part in zip(_KEY, key, strict=True) if part is not None),
                    fix="give rows of one run only",
                )
            out.setdefault(key, score)
        return cls(tuple(out.values()))

    def plain(self) -> list[dict[str, Any]]:
        """The rows as plain dicts, without the optional fields that are empty."""
        return [
            {k: v for k, v in asdict(row).items() if v is not None or k not in ("layer", "variant", "module")}
            for row in self.rows
        ]

    def where(self, **wanted: Any) -> Scores:
        """Rows whose fields equal the given values; a set, list or tuple means any of its members."""
        tests = [(k, set(v) if isinstance(v, (set, list, tuple, frozenset)) else {v}) for k, v in wanted.items()]
        return Scores(tuple(row for row in self.rows if all(getattr(row, k) in values for k, values in tests)))

    def unique(self, field: str) -> list[Any]:
        """The values of one field, each once, in order of appearance."""
        return list(dict.fromkeys(getattr(row, field) for row in self.rows))

    def targets(self) -> Scores:
        """Rows of trained target tasks (everything that is not retrieval)."""
        return Scores(tuple(row for row in self.rows if not row.retrieval))

    def retrieval(self) -> Scores:
        return Scores(tuple(row for row in self.rows if row.retrieval))

    def pairs(self) -> list[Pair]:
        return list(dict.fromkeys(row.pair for row in self.rows))

    def main(self, metric: str | None = None) -> Scores:
        """Rows of one task by one metric, each language on the last split it has (test before dev).

        Raises DataError where the table holds more than one task.
        """
        tasks = self.unique("task")
        if len(tasks) > 1:
            raise DataError(f"one task expected, got {', '.join(tasks)}", fix="filter with where(task=...)")
        metric = metric or main_metric(self.unique("metric"))
        rows = self.where(metric=metric).rows
        best: dict[str, int] = {}
        for row in rows:
            best[row.language] = max(best.get(row.language, -1), _rank(row.split))
        return Scores(tuple(row for row in rows if _rank(row.split) == best[row.language]))

    def grid(self, languages: Sequence[str]) -> dict[Pair, dict[str, Score]]:
        """For each pair its scores by language; pairs that lack one of the languages are left out."""
        out: dict[Pair, dict[str, Score]] = {}
        for row in self.rows:
            if row.language in languages:
                out.setdefault(row.pair, {})[row.language] = row
        return {pair: by_language for pair, by_language in out.items() if len(by_language) == len(languages)}

    def __len__(self) -> int:
        return len(self.rows)


def main_metric(metrics: Iterable[str]) -> str:
    """The metric that speaks for a task: F1, else accuracy, else the first one."""
    names = list(metrics)
    return next((name for name in METRIC_ORDER if name in names), names[0] if names else "accuracy")


def _rank(split: str) -> int:
    return SPLIT_ORDER.index(split) if split in SPLIT_ORDER else len(SPLIT_ORDER)


def paired(
    arm: Mapping[Pair, dict[str, Score]], baseline: Mapping[Pair, dict[str, Score]]
) -> list[tuple[Pair, dict[str, Score], dict[str, Score]]]:
    """(pair, arm's scores, baseline's scores) wherever both ran on the same base with the same seed.

    A baseline without training (the bare base in retrieval) has one score per base; it stands for every seed there.
    """
    per_base: dict[str, list[dict[str, Score]]] = {}
    for pair, scores in baseline.items():
        per_base.setdefault(pair.base, []).append(scores)
    out = []
    for pair, scores in arm.items():
        other = baseline.get(pair)
        alone = per_base.get(pair.base, [])
        if other is None and len(alone) == 1 and next(iter(alone[0].values())).arm == RETRIEVAL_BASELINE:
            other = alone[0]
        if other is not None:
            out.append((pair, scores, other))
    return out
