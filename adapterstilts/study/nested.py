"""A test that knows of every level at once: other seeds, other languages, other examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from adapterstilts.study.intervals import Interval

Floats = NDArray[np.float64]
Squares = dict[tuple[int, ...], tuple[float, float]]  # factors of an effect -> mean square, degrees of freedom


def nested_interval(runs: Sequence[Mapping[str, Mapping[str, float]]], level: float = 0.95) -> Interval | None:
    """Mean with interval and p-value where runs, languages and examples are all random draws.

    ``runs`` as for `resampled_interval`: for each run and language the per-example values by id. Every run sees the
    same languages and examples, so the levels are crossed: the analysis of variance of that table estimates the
    variance of the grand mean, and Student's t with Satterthwaite's degrees of freedom gives interval and p (the
    quasi-F of Clark 1973). Examples shared by all languages (parallel test sets) are a level of their own: languages
    that fail on the same sentences count for less than as many independent ones. Simulated false positives at a nominal
    5 % (4 runs, 6 languages, 30 examples): 3.1 to 5.3 % where levels vary clearly, less where they hardly do, and
    1.4 %, so too careful, where nothing but noise does; docs/studies.md compares this rule with others.
    None with fewer than two runs, or with one language and one example.
    """
    table = _table(runs)
    if table is None or table.shape[0] < 2 or table.size <= table.shape[0]:
        return None
    table = table.squeeze(axis=tuple(k for k in range(1, table.ndim) if table.shape[k] == 1))
    mean, variance, freedom = float(table.mean()), *variance_of_mean(mean_squares(table), table.size)
    count = len(runs)
    if variance < 1e-18:
        return Interval(mean, mean, mean, level, count, "nested", "run", 1.0 if abs(mean) < 1e-12 else 0.0)
    error = float(np.sqrt(variance))
    half = float(stats.t.ppf(0.5 + level / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom))
    return Interval(mean, mean - half, mean + half, level, count, "nested", "run", p)


def _table(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> Floats | None:
    """(runs, languages, examples) of a parallel test set, else (runs, languages): means over a language's own."""
    names = [name for name in runs[0] if all(name in run for run in runs)] if runs else []
    ids = [[i for i in runs[0][name] if all(i in run[name] for run in runs)] for name in names]
    if not names or not all(ids):
        return None
    if all(own == ids[0] for own in ids):
        return np.array([[[run[name][i] for i in ids[0]] for name in names] for run in runs], dtype=float)
    means = [[np.mean([run[name][i] for i in own]) for name, own in zip(names, ids, strict=True)] for run in runs]
    return np.array(means, dtype=float)


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
            freedom = float(np.prod([table.shape[k] - 1 for k in chosen]))
            repeats = float(np.prod([table.shape[k] for k in others])) if others else 1.0
            found[chosen] = (repeats * float((effect**2).sum()) / freedom, freedom)
    return found


def variance_of_mean(squares: Squares, cells: int) -> tuple[float, float]:
    """(variance of the grand mean, its degrees of freedom) when every factor is random."""
    parts = {key: ((-1.0) ** (len(key) + 1) * square / cells, freedom) for key, (square, freedom) in squares.items()}
    # An estimate below its largest single level is noise of the subtraction; that level alone is the floor.
    value = sum(part for part, _ in parts.values())
    floor, least = max(part for key, part in parts.items() if len(key) == 1)
    if value < floor:
        return floor, least
    spread = sum(part**2 / freedom for part, freedom in parts.values())
    return value, max(value**2 / spread, 1.0) if spread > 0 else 1.0
