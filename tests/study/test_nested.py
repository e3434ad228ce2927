"""The test with every level random, on data with known truth."""

from __future__ import annotations

import numpy as np
import pytest

from adapterstilts.study.nested import nested_interval


def drawn(
    rng: np.random.Generator, *, seeds: int = 6, languages: int = 8, examples: int = 30, truth: float, parallel: bool
) -> list[dict[str, dict[str, float]]]:
    """Crossed effects of seeds, languages and examples; in a parallel test set the examples are those of all."""
    by_seed, by_language = rng.normal(0, 2, seeds), rng.normal(0, 2, languages)
    own = rng.normal(0, 10, (1 if parallel else languages, examples))
    noise = rng.normal(0, 20, (seeds, languages, examples))
    return [
        {
            f"l{j}": {
                f"{0 if parallel else j}-{k}": truth + by_seed[i] + by_language[j] + own[0 if parallel else j, k]
                + noise[i, j, k]
                for k in range(examples)
            }
            for j in range(languages)
        }
        for i in range(seeds)
    ]  # fmt: skip


def rates(trials: int, parallel: bool) -> tuple[float, float]:
    """(false positives without an effect, coverage of a true effect of 3)."""
    rng = np.random.default_rng(0)
    wrong = covered = 0
    for _ in range(trials):
        none = nested_interval(drawn(rng, truth=0.0, parallel=parallel))
        some = nested_interval(drawn(rng, truth=3.0, parallel=parallel))
        assert none is not None and some is not None and none.p is not None
        wrong += none.p < 0.05
        covered += not some.excludes(3.0)
    return wrong / trials, covered / trials


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [True, False])
def test_rates_over_2000_simulations(parallel: bool) -> None:
    wrong, covered = rates(2000, parallel)
    assert 0.04 <= wrong <= 0.06
    assert 0.93 <= covered <= 0.97


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
