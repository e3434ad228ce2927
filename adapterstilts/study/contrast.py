"""A difference between two arms (or two differences) with its interval, tests and verdict: what a study may claim."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from adapterstilts.study.intervals import Interval, grouped_interval
from adapterstilts.study.measures import Measure, minus
from adapterstilts.study.scores import Pair, Score
from adapterstilts.study.tests import effect_size, holm, sign_flip

ALPHA = 0.05
Found = Literal["higher", "lower", "no difference found"]


@dataclass(frozen=True)
class Contrast:
    """``a`` minus ``b`` of one measure, one value for each run that has both, in points.

    ``p`` belongs to the interval; ``adjusted`` is p after Holm's correction over the ``family`` contrasts it was
    judged with; ``flip`` is the exact sign-flip p-value; ``effect`` is d_z with Hedges' factor.
    """

    key: str
    a: str
    b: str
    of: str
    pairs: tuple[Pair, ...]
    values: tuple[float, ...]
    left: float
    right: float
    interval: Interval
    p: float | None
    flip: float
    effect: float | None
    rows: tuple[Score, ...]
    adjusted: float | None = None
    family: int = 1

    @property
    def mean(self) -> float:
        return self.interval.mean

    @property
    def found(self) -> Found:
        """What may be said after the correction."""
        if self.adjusted is None or self.adjusted >= ALPHA:
            return "no difference found"
        return "higher" if self.mean > 0 else "lower"


def contrast(key: str, a_name: str, b_name: str, of: str, a: Measure | None, b: Measure | None) -> Contrast | None:
    """Pair two measures by base and seed. None where no run has both."""
    difference = minus(a, b, of)
    if a is None or b is None or difference is None:
        return None
    pairs, values = tuple(difference.values), tuple(difference.values.values())
    interval = grouped_interval(values, [pair.base for pair in pairs])
    left = sum(a.values[pair] for pair in pairs) / len(pairs)
    right = sum(b.values[pair] for pair in pairs) / len(pairs)
    return Contrast(
        key, a_name, b_name, of, pairs, values, left, right, interval,
        interval.p, sign_flip(values), effect_size(values), difference.rows, interval.p,
    )  # fmt: skip


def judged(contrasts: Iterable[Contrast | None]) -> list[Contrast]:
    """The contrasts as one family: Holm's correction over all that have a p-value."""
    family = [item for item in contrasts if item is not None]
    testable = [item for item in family if item.p is not None]
    adjusted = holm([item.p for item in testable if item.p is not None])
    by_id = dict(zip(map(id, testable), adjusted, strict=True))
    return [replace(item, adjusted=by_id.get(id(item)), family=len(testable)) for item in family]
