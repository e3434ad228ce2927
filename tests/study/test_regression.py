"""Lines through languages, tasks and bases on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from adapterstilts.study.measures import Measure
from adapterstilts.study.regression import Slope, by_size, clustered, partial
from adapterstilts.study.scores import Pair


def languages(rng: np.random.Generator, count: int, slope: float, shared: float, gone: int = 0) -> Slope:
    """Two tasks over ``count`` languages, with effects of language that both share; the second lacks ``gone``."""
    distance, own = rng.random(count), shared * rng.normal(size=count)
    rows = [(t, k) for t in (0, 1) for k in range(count - gone * t)]
    y = [slope * distance[k] + own[k] + 5 * t + rng.normal() for t, k in rows]
    found = clustered(y, [distance[k] for _, k in rows], [t for t, _ in rows], [k for _, k in rows])
    assert found is not None
    return found


@pytest.mark.parametrize(("count", "low"), [(6, 0.015), (40, 0.035)])
@pytest.mark.parametrize(("shared", "gone"), [(0.0, 0), (1.0, 0), (1.0, 2)])
def test_no_slope_is_rarely_found(count: int, low: float, shared: float, gone: int) -> None:
    """At most nominal plus one point, with six languages as with forty; not far below it where languages are many."""
    rng = np.random.default_rng(7)
    p = np.array([languages(rng, count, 0.0, shared, gone).p for _ in range(1200)])
    assert low <= np.mean(p < 0.05) <= 0.06
    assert np.mean(p < 0.005) <= 0.009  # what a correction over ten lines asks for


@pytest.mark.parametrize("count", [6, 40])
def test_a_slope_is_covered(count: int) -> None:
    rng = np.random.default_rng(8)
    ends = [languages(rng, count, 3.0, 1.0, 1).interval for _ in range(800)]
    covered = np.mean([low is not None and high is not None and low <= 3.0 <= high for low, high in
                       ((e.low, e.high) for e in ends)])  # fmt: skip
    assert covered >= 0.93 and (count == 6 or covered <= 0.97)


def test_single_observations_as_clusters_agree_with_hc2_by_hand() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=12), rng.normal(size=12)
    found = clustered(y, x, ["t"] * 12, list(range(12)))
    design = np.column_stack([x, np.ones(12)])
    inverse = np.linalg.inv(design.T @ design)
    hat = np.einsum("ij,jk,ik->i", design, inverse, design)
    rest = y - design @ inverse @ design.T @ y
    error = np.sqrt((inverse @ (design.T * (rest**2 / (1 - hat))) @ design @ inverse)[0, 0])
    assert found is not None
    assert found.value == pytest.approx(stats.linregress(x, y).slope)
    assert 2 * stats.t.sf(abs(found.value) / error, 11) < found.p  # its freedom is below clusters - 1
    assert found.interval.high is not None
    freedom_half = (found.interval.high - found.value) / error
    assert stats.t.ppf(0.975, 11) < freedom_half < stats.t.ppf(0.975, 3)


def test_what_cannot_be_fitted_is_none() -> None:
    assert clustered([1.0, 2.0], [0.0, 1.0], ["t", "t"], [0, 1]) is None
    assert clustered([1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1.0, 1.0], ["a", "a", "b", "b"], [0, 1, 2, 3]) is None


def test_gain_by_size_rests_on_bases_and_not_on_runs() -> None:
    """Bases that differ by chance: with three seeds each the false positives stay nominal."""
    rng = np.random.default_rng(10)
    sizes = {f"b{k}": 2.0**k for k in range(6)}
    found = []
    for _ in range(2000):
        own = {base: rng.normal() for base in sizes}
        gain = {Pair(base, seed): own[base] + 0.1 * rng.normal() for base in sizes for seed in range(3)}
        line = by_size(Measure("gain", gain, ()), sizes)
        assert line is not None
        found.append(line.p < 0.05)
    assert np.mean(found) == pytest.approx(0.05, abs=0.01)


def test_partial_correlation_is_that_of_what_is_left() -> None:
    rng = np.random.default_rng(11)
    z = rng.normal(size=30)
    x, y = z + rng.normal(size=30), -2 * z + rng.normal(size=30)
    rest = [v - np.polyval(np.polyfit(z, v, 1), z) for v in (x, y)]
    found = partial(x, y, z, rounds=99)
    assert found is not None and found.r == pytest.approx(stats.pearsonr(*rest).statistic)
    assert partial(z, z, z) is None  # nothing is left
    p = []
    for _ in range(2000):
        z = rng.normal(size=8)
        item = partial(z + rng.normal(size=8), z + rng.normal(size=8), z, rounds=2)
        assert item is not None
        p.append(item.p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.01)
