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


def test_one_run_has_no_interval() -> None:
    assert nested_interval([{"a": {"0": 1.0, "1": 2.0}}]) is None
    assert nested_interval([{"a": {"0": 1.0}}, {"a": {"0": 2.0}}]) is None
