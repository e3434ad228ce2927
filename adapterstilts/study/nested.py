"""A test that knows of every level at once: other seeds, other languages (or their families), other examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from adapterstilts.study.families import FAMILIES, relatives
from adapterstilts.study.intervals import Interval

Floats = NDArray[np.float64]
Squares = dict[tuple[int, ...], tuple[float, float]]  # factors of an effect -> mean square, degrees of freedom

# Chosen once, over seven shapes from 3 x 5 to 6 x 10 x 60, for false positives near 5 % (docs/studies.md).
DOUBT, STEEP = 1.1, 1.25  # how much of a level's mean square the others explain, and how fast it outgrows them
LEAST = 0.25  # the variance is at least this share of what noise alone gives


@dataclass(frozen=True)
class Error:
    """How far a mean may lie from the truth: a variance, and for each level its share of it and its freedom."""

    variance: float
    levels: tuple[tuple[float, float], ...]

    def critical(self, p: float) -> float:
        """The distance, in standard errors, that has this two-sided p."""
        # Each level brings what its own t needs above a normal, weighted by the square of its share, as variances
        # of independent mean squares add up; one level alone is exactly Student's t.
        z = float(special.ndtri(p / 2)) ** 2
        return float(np.sqrt(z + sum(s * s * (float(special.stdtrit(d, p / 2)) ** 2 - z) for s, d in self.levels)))

    def p(self, distance: float) -> float:
        """Two-sided; `critical` the other way round."""
        least = -200.0  # natural logarithm
        far = abs(distance) / float(np.sqrt(self.variance))
        if far >= self.critical(float(np.exp(least))):
            return float(np.exp(least))
        found = optimize.brentq(lambda x: self.critical(float(np.exp(x))) - far, least, 0.0, xtol=1e-10)
        return float(np.exp(found))


def nested_interval(
    runs: Sequence[Mapping[str, Mapping[str, float]]], level: float = 0.95, families: Mapping[str, str] = FAMILIES
) -> Interval | None:
    """Mean with interval and p-value where runs, languages and examples are all random draws.

    ``runs`` as for `resampled_interval`: for each run and language the per-example values by id. Every run sees the
    same languages and examples, so the levels are crossed, and the analysis of variance of that table says how far the
    grand mean may lie from the truth (see `error_of_mean`). Examples shared by all languages (parallel test sets) are
    a level of their own: languages that fail on the same sentences count for less than as many independent ones.

    Where several languages are of one family, the family is what was drawn (``unit`` "family"): the mean is still
    that over languages. With one family alone the languages are fixed (``unit`` "run"): the answer holds for these
    languages only. Otherwise ``unit`` is "language".

    None with fewer than two runs, with one language and one example, or with one family whose languages have examples
    of their own.
    """
    names, table = _table(runs)
    if table is None or len(table) < 2:
        return None
    groups = relatives(names, families)
    unit = "language" if len(groups) > 1 else "run"
    if len(groups) == 1:
        table = table.mean(axis=1, keepdims=True)
    elif len(groups) < len(names):
        unit = "family"
        table = _by_family(table, groups)
    if table.size <= len(table):
        return None
    mean, error = float(table.mean()), error_of_mean(mean_squares(table.squeeze()), table.size)
    if error.variance < 1e-18:
        return Interval(mean, mean, mean, level, len(runs), "nested", unit, 1.0 if abs(mean) < 1e-12 else 0.0)
    half = error.critical(1 - level) * float(np.sqrt(error.variance))
    return Interval(mean, mean - half, mean + half, level, len(runs), "nested", unit, error.p(mean))


def _table(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> tuple[list[str], Floats | None]:
    """(runs, languages, examples) of a parallel test set, else (runs, languages): means over a language's own."""
    names = [name for name in runs[0] if all(name in run for run in runs)] if runs else []
    ids = [[i for i in runs[0][name] if all(i in run[name] for run in runs)] for name in names]
    if not names or not all(ids):
        return names, None
    if all(set(own) == set(ids[0]) for own in ids):
        return names, np.array([[[run[name][i] for i in ids[0]] for name in names] for run in runs], dtype=float)
    means = [[np.mean([run[name][i] for i in own]) for name, own in zip(names, ids, strict=True)] for run in runs]
    return names, np.array(means, dtype=float)


def _by_family(table: Floats, groups: Sequence[Sequence[int]]) -> Floats:
    """The table with families in place of languages, around the same mean: that over languages.

    A family's part in that mean grows with the number of its languages, and so does the variance that it brings: the
    families' differences are stretched by what unequal parts add. This takes the members of a family for alike: exact
    where families are equally large, careful where they are not, the more so the less their members resemble.
    """
    parts = np.array([len(group) for group in groups]) / table.shape[1]
    means = np.stack([table[:, group].mean(axis=1) for group in groups], axis=1)
    stretch = float(np.sqrt(len(groups) * (parts @ parts)))
    made: Floats = table.mean(axis=1, keepdims=True) + stretch * (means - means.mean(axis=1, keepdims=True))
    return made


def mean_squares(table: Floats) -> Squares:
    """Every effect's mean square and degrees of freedom in a fully crossed table with one value a cell."""
    factors = range(table.ndim)
    found: Squares = {}
    effects: dict[tuple[int, ...], Floats] = {(): np.asarray(table.mean()).reshape((1,) * table.ndim)}
    for size in range(1, table.ndim + 1):
        for chosen in combinations(factors, size):
            others = tuple(k for k in factors if k not in chosen)
            effect = table.mean(axis=others, keepdims=True) if others else table
            for inner in [key for key in effects if set(key) < set(chosen)]:
                effect = effect - effects[inner]
            effects[chosen] = effect
            repeats = float(np.prod([table.shape[k] for k in others])) if others else 1.0
            freedom = float(np.prod([table.shape[k] - 1 for k in chosen]))
            found[chosen] = (repeats * float((effect**2).sum()) / freedom, freedom)
    return found


def error_of_mean(squares: Squares, cells: int) -> Error:
    """The error of the grand mean when every factor is random.

    The signed sum of the mean squares estimates its variance without bias, but below the largest single level it is
    noise of the subtraction; so that level is the floor. Three levels without any effect have three chances of a large
    mean square, which would make the floor too high: a level's mean square S counts with the share S^q / (S^q + C^q),
    where C is what the others would show by chance. A level that is clear keeps all of it.
    """
    single = [key for key in squares if len(key) == 1]
    noise = squares[max(squares, key=len)][0]
    chance = {}  # a level's mean square, were it nothing
    for key in single:
        pairs = [square for pair, (square, _) in squares.items() if len(pair) == 2 and key[0] in pair]
        chance[key] = max(sum(pairs) - (len(pairs) - 1) * noise, noise / 2)
    kept = {}
    for key in single:
        square, free = squares[key]
        others = sum(min(chance[key], chance[k]) * (free / squares[k][1] ** 3) ** 0.25 for k in single if k != key)
        kept[key] = square / (1 + (DOUBT * others / square) ** STEEP) if square > 0 else 0.0
    signed = sum((-1.0) ** (len(key) + 1) * square for key, (square, _) in squares.items())
    variance = max(signed, *kept.values(), LEAST * noise)
    if variance <= 0:
        return Error(0.0, ())
    return Error(variance / cells, tuple((kept[key] / variance, squares[key][1]) for key in single))
