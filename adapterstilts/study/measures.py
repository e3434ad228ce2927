"""What is read off one run (base and seed) as one number: a mean, the worst language, the spread, a drop, a slope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapterstilts.study.scores import Pair, Score, Scores


@dataclass(frozen=True)
class Measure:
    """One number for each run, and the score rows it was read from."""

    name: str
    values: Mapping[Pair, float]
    rows: tuple[Score, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.values.values())))


Reading = Callable[[Mapping[str, float]], float]


def over_languages(scores: Scores, arm: str, languages: Sequence[str], reading: Reading, name: str) -> Measure | None:
    """``reading`` of {language: percent} for each run of an arm; ``scores`` hold one task and metric.

    None where no run has all the languages.
    """
    grid = scores.where(arm=arm).grid(languages) if languages else {}
    if not grid:
        return None
    values = {pair: reading({k: by[k].value for k in languages}) for pair, by in grid.items()}
    return Measure(name, values, tuple(score for by in grid.values() for score in by.values()))


def mean(scores: Scores, arm: str, languages: Sequence[str]) -> Measure | None:
    """The mean over the languages."""
    return over_languages(scores, arm, languages, lambda by: float(np.mean(list(by.values()))), "mean")


def worst(scores: Scores, arm: str, languages: Sequence[str]) -> Measure | None:
    """The score of each run's worst language."""
    return over_languages(scores, arm, languages, lambda by: min(by.values()), "worst language")


def spread(scores: Scores, arm: str, languages: Sequence[str]) -> Measure | None:
    """The standard deviation over the languages (n - 1), in points."""
    if len(languages) < 2:
        return None
    return over_languages(scores, arm, languages, lambda by: float(np.std(list(by.values()), ddof=1)), "spread")


def slope(scores: Scores, arm: str, languages: Sequence[str], distances: Mapping[str, float]) -> Measure | None:
    """Points a unit of distance: the least-squares line of each run through its languages. None below three."""
    if len(languages) < 3:
        return None
    x = np.array([distances[name] for name in languages])
    x = (x - x.mean()) / float(((x - x.mean()) ** 2).sum())

    def line(by: Mapping[str, float]) -> float:
        return float(x @ np.array([by[name] for name in languages]))

    return over_languages(scores, arm, languages, line, "slope")


def minus(a: Measure | None, b: Measure | None, name: str) -> Measure | None:
    """The difference a - b on the runs that both have; None where there is none."""
    if a is None or b is None:
        return None
    shared = [pair for pair in a.values if pair in b.values]
    if not shared:
        return None
    return Measure(name, {pair: a.values[pair] - b.values[pair] for pair in shared}, (*a.rows, *b.rows))
