"""The test with every level random, on data with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from adapterstilts.study.nested import nested_interval


def test_shared_examples_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 10, 40)
    runs = [{x: {str(k): shared[k] + rng.normal() for k in range(40)} for x in "abcdef"} for _ in range(4)]
    apart = [{x: {f"{x}{k}": v for k, v in enumerate(by.values())} for x, by in run.items()} for run in runs]
    wide, narrow = nested_interval(runs), nested_interval(apart)
    assert wide is not None and narrow is not None and wide.mean == pytest.approx(narrow.mean)
    assert wide.high - wide.mean > 2 * (narrow.high - narrow.mean)  # type: ignore[operator]


# Standard deviations of run, language, example, language with example, and noise, and how many intervals of 100 may
# miss the truth: 4 to 6 are one point, twice the error of such a simulation. Where nothing but noise or but pairs of
# language and example varies, the interval is too wide, never too narrow (see `nested_interval`).
DESIGNS = {
    "seeds": ((10, 0, 0, 0, 5), 4.0, 6.0),
    "languages": ((0, 10, 0, 0, 5), 4.0, 6.0),
    "examples": ((0, 0, 20, 0, 20), 4.0, 6.0),
    "all three": ((5, 5, 10, 0, 20), 4.0, 6.0),
    "languages correlated over examples": ((0, 0, 20, 20, 20), 4.0, 6.0),
    "languages and examples, uncorrelated": ((0, 0, 0, 30, 20), 1.0, 5.0),
    "noise alone": ((0, 0, 0, 0, 20), 1.0, 5.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_cover_the_truth(design: str) -> None:
    """2,000 data sets of 4 runs, 6 languages and 30 examples with a gain of three points."""
    (run, language, example, pair, noise), low, high = DESIGNS[design]
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(2000):
        draw = rng.standard_normal
        table = 3 + run * draw((4, 1, 1)) + language * draw((1, 6, 1)) + example * draw((1, 1, 30))
        table = table + pair * draw((1, 6, 30)) + noise * draw((4, 6, 30))
        runs = [{str(k): {str(i): float(v) for i, v in enumerate(row)} for k, row in enumerate(own)} for own in table]
        found = nested_interval(runs)
        assert found is not None and found.p is not None and (found.p < 0.05) == found.excludes()
        missed += found.excludes(3.0)
    assert low <= missed / 20 <= high


def test_one_run_has_no_interval() -> None:
    assert nested_interval([{"a": {"0": 1.0, "1": 2.0}}]) is None
    assert nested_interval([{"a": {"0": 1.0}}, {"a": {"0": 2.0}}]) is None
