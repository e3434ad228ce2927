"""The transfer matrix: what every intermediate task gains on every target, and rankings of intermediate tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np
from scipy import stats

from adapterstilts.study.contrast import Contrast
from adapterstilts.study.gains import overall
from adapterstilts.study.published import PublishedRow


@dataclass(frozen=True)
class Matrix:
    """Gains in points: ``cells[source, target]``; ``retrieval`` are the targets that are searched, not trained."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    cells: Mapping[tuple[str, str], Contrast]
    retrieval: frozenset[str] = frozenset()

    def row(self, source: str) -> dict[str, float]:
        """target -> gain, where it was measured."""
        return {target: self.cells[source, target].mean for target in self.targets if (source, target) in self.cells}

    def averages(self, source: str) -> tuple[float, float]:
        """Mean gain over all targets, and without retrieval."""
        return overall(self.row(source), self.retrieval)


@dataclass(frozen=True)
class Ranking:
    """How a prediction orders the intermediate tasks of one target against the measured gains.

    ``regret``: points lost by taking the predicted best instead of the measured best (Poth et al. 2021, as a share
    there); ``tau`` is Kendall's rank correlation with its exact p-value, None with fewer than three tasks; below five
    tasks no order reaches p = 0.05.
    """

    target: str
    predicted: tuple[str, ...]
    measured: tuple[str, ...]
    tau: float | None
    p: float | None
    regret: float

    @property
    def agrees(self) -> bool:
        return self.tau is not None and self.p is not None and self.tau > 0 and self.p < 0.05

    @property
    def testable(self) -> bool:
        """Whether any order of so many tasks could have agreed: two of all n! do so wholly, this way or the other."""
        return 2 / factorial(len(self.measured)) < 0.05


def rank(target: str, scores: Mapping[str, float], gains: Mapping[str, float]) -> Ranking | None:
    """Compare predicted scores with measured gains over the tasks that have both. None with fewer than two."""
    shared = [name for name in scores if name in gains]
    if len(shared) < 2:
        return None
    predicted = tuple(sorted(shared, key=lambda name: -scores[name]))
    measured = tuple(sorted(shared, key=lambda name: -gains[name]))
    tau = p = None
    if len(shared) > 2:
        found = stats.kendalltau([scores[name] for name in shared], [gains[name] for name in shared])
        tau, p = (float(found.statistic), float(found.pvalue)) if np.isfinite(found.statistic) else (None, None)
    return Ranking(target, predicted, measured, tau, p, gains[measured[0]] - gains[predicted[0]])


def similarity(embeddings: Mapping[str, Sequence[float]], target: str) -> dict[str, float]:
    """Cosine of the target's task embedding with that of every other task (TextEmb, Vu et al. 2020)."""
    own = np.asarray(embeddings[target], dtype=float)
    own = own / np.linalg.norm(own)
    return {
        name: float(own @ (vector := np.asarray(value, dtype=float)) / np.linalg.norm(vector))
        for name, value in embeddings.items()
        if name != target
    }


def as_table(rows: Sequence[PublishedRow], table: str) -> dict[str, dict[str, tuple[float, str]]]:
    """Rows of a published table of gains: name -> task -> (points, mark); the mean of F1 and EM where a task has both,
    which is what the published averages are made of."""
    found: dict[str, dict[str, list[PublishedRow]]] = {}
    for row in rows:
        if row.table == table and row.value is not None and row.language is None:
            found.setdefault(row.name, {}).setdefault(row.task, []).append(row)
    return {
        name: {task: (float(np.mean([cell.value for cell in cells])), cells[0].mark) for task, cells in by_task.items()}
        for name, by_task in found.items()
    }
