"""Means with intervals: Student's t over repetitions, the bootstrap, and resampling of every level at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from adapterstilts.study.families import FAMILIES, relatives

# Bases that differ this clearly beyond their seeds become the unit (see ``grouped_interval``).
BASES_DIFFER = 0.05


@dataclass(frozen=True)
class Interval:
    """A mean with its interval. ``low`` and ``high`` are None where one repetition gives no spread.

    ``unit`` says what was repeated: "run" (base and seed) or "base"; where languages are drawn too, "language" or
    "family". ``p`` is the two-sided p-value of the same model against zero; ``how`` names the method.
    """

    mean: float
    low: float | None
    high: float | None
    level: float
    n: int
    how: str
    unit: str = "run"
    p: float | None = None

    def excludes(self, value: float = 0.0) -> bool:
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


def t_interval(values: ArrayLike, level: float = 0.95, unit: str = "run") -> Interval:
    """Mean and Student t-interval of independent values. One value: no interval; none: ValueError.

    Values that are all alike have no spread to test with; their p-value is the exact sign-flip one, 2 / 2^n.
    """
    x = np.asarray(values, dtype=float)
    if x.size == 0:
        raise ValueError("no values")
    mean = float(x.mean())
    if x.size == 1:
        return Interval(mean, None, None, level, 1, "t", unit)
    error = float(x.std(ddof=1)) / np.sqrt(x.size)
    if error < 1e-12:
        p = 1.0 if abs(mean) < 1e-12 else float(2.0 ** (1 - x.size))
        return Interval(mean, mean, mean, level, x.size, "t", unit, p)
    half = float(stats.t.ppf(0.5 + level / 2, x.size - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, x.size - 1))
    return Interval(mean, mean - half, mean + half, level, x.size, "t", unit, p)


def grouped_interval(values: ArrayLike, groups: Sequence[object], level: float = 0.95) -> Interval:
    """The t-interval over runs, or over group (base) means where the groups differ beyond their runs.

    Runs on one base share that base's luck. Where a one-way F test finds the groups to differ (p < 0.05), the runs are
    not independent and the group becomes the unit (a "sometimes-pool" rule, Bancroft 1944). Simulated false-positive
    rates at a nominal 5 % with 2 bases of 3 seeds: 4.4 % where bases do not matter, 8.7 % where they carry a fifth and
    16 % where they carry half of the variance (always pooling: 4.7, 9.3 and 19 %). Two bases cannot do better: what
    they can say about other bases rests on one degree of freedom.
    """
    x = np.asarray(values, dtype=float)
    names = list(dict.fromkeys(groups))
    parts = [x[[g == name for g in groups]] for name in names]
    if len(parts) >= 2 and len(x) > len(parts):
        within = sum(float(((part - part.mean()) ** 2).sum()) for part in parts) / (len(x) - len(parts))
        between = sum(len(part) * float((part.mean() - x.mean()) ** 2) for part in parts) / (len(parts) - 1)
        if between > 1e-12:
            p = float(stats.f.sf(between / within, len(parts) - 1, len(x) - len(parts))) if within > 1e-12 else 0.0
            if p < BASES_DIFFER:
                return t_interval([part.mean() for part in parts], level, unit="base")
    return t_interval(x, level)


def bootstrap(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], float] = lambda x: float(x.mean()),
    *,
    level: float = 0.95,
    rounds: int = 9999,
    how: str = "bca",
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of a statistic of independent values; rows of a 2-d array are resampled together.

    ``how`` is "percentile" or "bca" (Efron 1987: bias-corrected and accelerated). BCa falls back to percentile where
    the statistic does not vary.
    """
    x = np.asarray(values, dtype=float)
    observed = statistic(x)
    if len(x) < 2:
        return Interval(observed, None, None, level, len(x), how)
    rng = np.random.default_rng(seed)
    draws = np.array([statistic(x[rng.integers(0, len(x), len(x))]) for _ in range(rounds)])
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Interval(observed, None, None, level, len(x), how)
    ends = np.array([0.5 - level / 2, 0.5 + level / 2])
    if how == "bca":
        ends = _bca(x, statistic, observed, draws, ends)
    elif how != "percentile":
        raise ValueError(f"how is 'bca' or 'percentile', not {how!r}")
    low, high = np.quantile(draws, ends)
    return Interval(observed, float(low), float(high), level, len(x), how)


def _bca(
    x: NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], float],
    observed: float,
    draws: NDArray[np.float64],
    ends: NDArray[np.float64],
) -> NDArray[np.float64]:
    # Ties count half, or a discrete statistic would look biased.
    below = float(((draws < observed).sum() + 0.5 * (draws == observed).sum()) / len(draws))
    if not 0 < below < 1:
        return ends
    z0 = stats.norm.ppf(below)
    left_out = np.array([statistic(np.delete(x, i, axis=0)) for i in range(len(x))])
    centred = left_out.mean() - left_out
    spread = float((centred**2).sum()) ** 1.5
    acceleration = float((centred**3).sum()) / (6 * spread) if spread > 1e-12 and np.isfinite(spread) else 0.0
    z = z0 + stats.norm.ppf(ends)
    return np.asarray(stats.norm.cdf(z0 + z / (1 - acceleration * z)), dtype=float)


def resampled_interval(
    runs: Sequence[Mapping[str, Mapping[str, float]]],
    *,
    level: float = 0.95,
    rounds: int = 2000,
    languages: bool = True,
    seed: int = 0,
    families: Mapping[str, str] = FAMILIES,
) -> Interval:
    """Bootstrap over runs, languages and examples at once, of the mean over languages of the mean over examples.

    ``runs``: for each run (base and seed) and language the per-example values by id, for instance score differences of
    an arm and its baseline in percent. Every run is scored on the same languages and examples, so each round draws the
    runs, the languages and the examples once and crosses them (the pigeonhole bootstrap, Owen 2007, slightly
    conservative); drawing examples anew inside each run would count their luck as if it averaged out over seeds.
    Examples with the same ids in every language (parallel test sets) are drawn together. Languages of one family are
    drawn together, too; ``unit`` says whether that made a difference. ``languages=False``, like languages of one family
    only, keeps the languages fixed: the answer then holds for these languages only.
    """
    if not runs or not runs[0]:
        raise ValueError("no runs")
    names = [name for name in runs[0] if all(name in run for run in runs)]
    tables = []
    all_ids = []
    for name in names:
        ids = [i for i in runs[0][name] if all(i in run[name] for run in runs)]
        if not ids:
            raise ValueError(f"no example of {name} is shared by all runs")
        all_ids.append(ids)
        tables.append(np.array([[run[name][i] for i in ids] for run in runs], dtype=float))  # (runs, examples)
    parallel = all(ids == all_ids[0] for ids in all_ids)
    groups = relatives(names, families) if languages else [list(range(len(names)))]
    unit = "run" if len(groups) == 1 else "language" if len(groups) == len(names) else "family"
    rng = np.random.default_rng(seed)
    draws = np.empty(rounds)
    for index in range(rounds):
        picked = np.bincount(rng.integers(0, len(runs), len(runs)), minlength=len(runs)) / len(runs)
        drawn = rng.integers(0, len(groups), len(groups)) if len(groups) > 1 else [0]
        chosen = [which for group in drawn for which in groups[group]]
        weights: dict[int, NDArray[np.float64]] = {}
        total = 0.0
        for which in chosen:
            key = 0 if parallel else which
            if key not in weights:
                size = tables[which].shape[1]
                weights[key] = np.bincount(rng.integers(0, size, size), minlength=size) / size
            total += float(picked @ tables[which] @ weights[key])
        draws[index] = total / len(chosen)
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    mean = float(np.mean([table.mean() for table in tables]))
    return Interval(mean, float(low), float(high), level, len(runs), "resampled", unit)
