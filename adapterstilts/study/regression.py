"""Lines through languages, tasks and bases: partial correlation, clustered least squares, gain by size."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from adapterstilts.study.intervals import Interval, bootstrap
from adapterstilts.study.measures import Measure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Partial:
    """The correlation of x and y with z held constant, over n languages."""

    n: int
    r: float
    p: float
    interval: Interval
    critical: float

    @property
    def detectable(self) -> bool:
        return abs(self.r) >= self.critical


def partial(x: ArrayLike, y: ArrayLike, z: ArrayLike, *, rounds: int = 1999, seed: int = 0) -> Partial | None:
    """Partial Pearson correlation with n - 3 degrees of freedom and a bootstrap interval over languages.

    None with fewer than four languages, or where one of the three does not vary: then nothing can be held constant.
    """
    points = np.stack([np.asarray(value, dtype=float) for value in (x, y, z)], axis=1)
    if len(points) < 4 or (np.ptp(points, axis=0) < 1e-12).any():
        return None
    r = _partial(points)
    if not np.isfinite(r):
        return None
    freedom = len(points) - 3
    t = r * np.sqrt(freedom / max(1 - r * r, 1e-12))
    least = float(stats.t.ppf(0.975, freedom))
    interval = bootstrap(points, _partial, rounds=rounds, seed=seed, how="percentile")
    return Partial(
        len(points), r, float(2 * stats.t.sf(abs(t), freedom)), interval, least / np.sqrt(least**2 + freedom)
    )


def _partial(points: Floats) -> float:
    """Correlation of what z leaves of x and of y; not a number where z explains one of them whole."""
    if (np.ptp(points, axis=0) < 1e-12).any():
        return float("nan")
    r = np.asarray(np.corrcoef(points, rowvar=False))
    rest = (1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)
    return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt(rest)) if rest > 1e-12 else float("nan")


@dataclass(frozen=True)
class Slope:
    """One coefficient with its interval; ``clusters`` is what the degrees of freedom rest on."""

    value: float
    interval: Interval
    p: float
    n: int
    clusters: int


def clustered(y: ArrayLike, x: ArrayLike, groups: Sequence[Hashable], clusters: Sequence[Hashable]) -> Slope | None:
    """The common slope of y on x with an intercept for each group (task), errors clustered (by language).

    Cluster-robust variance with the small-sample factor CR1, and Student's t with clusters - 1 degrees of freedom
    (Cameron and Miller 2015). None with fewer than three clusters or where x does not vary inside the groups.
    """
    values, line = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
    names, members = list(dict.fromkeys(groups)), list(dict.fromkeys(clusters))
    for name in names:
        mine = np.array([group == name for group in groups])
        values, line = values - mine * values[mine].mean(), line - mine * line[mine].mean()
    spread = float(line @ line)
    if len(members) < 3 or spread < 1e-12:
        return None
    slope = float(line @ values) / spread
    left = values - slope * line
    sums = [float((line * left)[np.array([c == member for c in clusters])].sum()) for member in members]
    count, free = len(members), len(names) + 1
    factor = count / (count - 1) * (len(values) - 1) / max(len(values) - free, 1)
    error = float(np.sqrt(factor * sum(value**2 for value in sums))) / spread
    half = float(stats.t.ppf(0.975, count - 1)) * error
    p = float(2 * stats.t.sf(abs(slope) / error, count - 1)) if error > 1e-12 else 1.0
    return Slope(
        slope, Interval(slope, slope - half, slope + half, 0.95, count, "CR1", "cluster", p), p, len(values), count
    )


def by_size(gain: Measure, sizes: Mapping[str, float]) -> Slope | None:
    """Interaction of gain and size: points for each doubling of the base, with the base as the unit.

    ``sizes`` are parameters. The runs of one base share its pretraining, so their mean is one point; Student's t with
    bases - 2 degrees of freedom. None with fewer than three bases of known size, or one size.
    """
    per_base: dict[str, list[float]] = {}
    for pair, value in gain.values.items():
        if pair.base in sizes:
            per_base.setdefault(pair.base, []).append(value)
    x = np.log2([sizes[base] for base in per_base])
    y = np.array([float(np.mean(values)) for values in per_base.values()])
    if len(x) < 3 or np.ptp(x) < 1e-9:
        return None
    line = stats.linregress(x, y)
    half = float(stats.t.ppf(0.975, len(x) - 2)) * float(line.stderr)
    interval = Interval(line.slope, line.slope - half, line.slope + half, 0.95, len(x), "t", "base", float(line.pvalue))
    return Slope(float(line.slope), interval, float(line.pvalue), len(gain.values), len(x))
