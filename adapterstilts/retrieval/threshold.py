"""The score from which a mined pair is believed: chosen on development pairs, then applied to the test."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterstilts.retrieval.mining import Pair

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Precision, recall and F1 (percent) of taking all pairs that score at least a threshold, thresholds falling."""

    thresholds: Values
    precision: Values
    recall: Values
    f1: Values

    @property
    def best(self) -> int | None:
        """Position of the highest F1, the shortest list among equals; None where no candidate is right."""
        return int(np.argmax(self.f1)) if self.f1.any() else None

    @property
    def threshold(self) -> float:
        """The threshold of the highest F1; 0 (take all) where no candidate is right, as in the official script."""
        return 0.0 if self.best is None else float(self.thresholds[self.best])


def f1_curve(found: Mapping[Pair, float], gold: Collection[Pair]) -> Curve:
    """The curve over all thresholds that part the candidates; arrays of one value a threshold.

    As ``bucc_optimize`` of LASER and XTREME (threshold = the middle between two neighbouring scores), but safe where
    the whole list is best (there the script fails with IndexError; here the threshold is the lowest score), and pairs
    of equal score are only taken together, since no threshold can part them.
    """
    wanted = gold if isinstance(gold, (set, frozenset)) else set(gold)
    scores = np.fromiter(found.values(), np.float64, len(found))
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    right = np.cumsum(np.fromiter(map(wanted.__contains__, found), np.bool_, len(found))[order], dtype=np.float64)
    ends = np.flatnonzero(np.append(scores[:-1] != scores[1:], True)) if found else np.empty(0, np.int64)
    upper, correct = scores[ends], right[ends]
    lower = np.append(upper[1:], upper[-1:])
    middle = (upper + lower) / 2
    precision, recall = correct / (ends + 1), correct / max(len(wanted), 1)
    f1 = 2 * precision * recall / np.where(correct > 0, precision + recall, 1)
    # Between neighbouring floats the middle rounds to one of them; it must never be the lower one.
    thresholds = np.where(middle > lower, middle, upper)
    return Curve(thresholds, 100 * precision, 100 * recall, 100 * f1)


def precision_threshold(found: Mapping[Pair, float], gold: Collection[Pair], precision: float) -> float | None:
    """The lowest threshold with at least this precision (percent) on the pairs that ``gold`` can judge; None: none has.

    Gold of one's own names some true pairs only, so a found pair is judged when a sentence of it occurs in ``gold``.
    """
    curve = f1_curve(judged(found, gold), gold)
    good = np.flatnonzero(curve.precision >= precision)
    return float(curve.thresholds[good[-1]]) if good.size else None


def judged(found: Mapping[Pair, float], gold: Collection[Pair]) -> dict[Pair, float]:
    """The found pairs of which at least one sentence occurs in ``gold``."""
    sources, targets = {source for source, _ in gold}, {target for _, target in gold}
    return {pair: score for pair, score in found.items() if pair[0] in sources or pair[1] in targets}


def above(found: Mapping[Pair, float], threshold: float) -> list[Pair]:
    """The pairs that score at least ``threshold``, best first."""
    return [pair for pair, score in sorted(found.items(), key=lambda item: -item[1]) if score >= threshold]


def pair_f1(found: Collection[Pair], gold: Collection[Pair]) -> dict[str, float]:
    """F1, precision and recall of id pairs, in percent (XTREME's ``bucc_f1``)."""
    claimed, wanted = set(found), set(gold)
    correct = len(claimed & wanted)
    precision = correct / len(claimed) if correct else 0.0
    recall = correct / len(wanted) if correct else 0.0
    f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
    return {"f1": 100 * f1, "precision": 100 * precision, "recall": 100 * recall}
