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

    Cluster-robust variance CR2 with Satterthwaite's degrees of freedom (Bell and McCaffrey 2002, Pustejovsky and
    Tipton 2018): careful with few clusters, where CR1 with clusters - 1 degrees finds 12 of 100 slopes that are not
    there (6 clusters). None with fewer than three clusters or where x does not vary inside the groups.
    """
    values, line = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
    own = np.array([[group == name for name in dict.fromkeys(groups)] for group in groups], dtype=float)
    members = list(dict.fromkeys(clusters))
    if len(members) < 3 or np.ptp(line - own @ (own.T @ line / own.sum(axis=0))) < 1e-9:
        return None
    design = np.column_stack([line, own])
    inverse = np.linalg.inv(design.T @ design)
    slope = float(inverse[0] @ design.T @ values)
    left = np.eye(len(values)) - design @ inverse @ design.T  # what the fit leaves of each error
    weights = []
    for member in members:
        mine = np.array([cluster == member for cluster in clusters])
        sizes, axes = np.linalg.eigh(left[np.ix_(mine, mine)])
        kept = sizes > 1e-10
        root = (axes[:, kept] / np.sqrt(sizes[kept])) @ axes[:, kept].T
        weights.append(left[:, mine] @ root @ design[mine] @ inverse[0])
    shares = np.stack(weights)
    spread = shares @ shares.T
    freedom = float(np.trace(spread) ** 2 / np.sum(spread**2))
    error = float(np.linalg.norm(shares @ values))
    half = float(stats.t.ppf(0.975, freedom)) * error
    p = float(2 * stats.t.sf(abs(slope) / error, freedom)) if error > 1e-12 else 1.0
    count = len(members)
    return Slope(
        slope, Interval(slope, slope - half, slope + half, 0.95, count, "CR2", "cluster", p), p, len(values), count
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
