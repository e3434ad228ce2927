"""The statistics on data with known truth, and against scipy where it has the same thing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adapterstilts.study.gains import corrected, gain, verdict
from adapterstilts.study.intervals import bootstrap, grouped_interval, resampled_interval, t_interval
from adapterstilts.study.scores import Score, Scores
from adapterstilts.study.tests import effect_size, holm, sign_flip

ARMS = 4
LANGUAGES = ("sw", "ur", "th")


def world(rng: np.random.Generator, effect: float) -> Scores:
    """Two bases of three seeds, four arms over one baseline, three languages."""
    rows = []
    for base in ("b0", "b1"):
        for seed in (1, 2, 3):
            start = rng.normal(60, 5) + rng.normal(0, 2, len(LANGUAGES))
            for arm in range(ARMS + 1):
                moved = start + rng.normal(0, 2) + rng.normal(0, 1, len(LANGUAGES))
                moved = moved + (effect if arm else 0.0)
                name = f"arm{arm}" if arm else "none"
                for language, value in zip(LANGUAGES, moved, strict=True):
                    rows.append(Score(base, name, seed, "xnli", language, "test", "accuracy", float(value), 300, "s"))
    return Scores(tuple(rows))


def claims(
    rng: np.random.Generator, worlds: int, effect: float, base_effect: float = 0.0
) -> tuple[float, float, float]:
    """Shares: single tests below 5 %, intervals that cover the truth, worlds with any verdict but "no gain found"."""
    single, covered, any_claim, tests = 0, 0, 0, 0
    for _ in range(worlds):
        scores = world(rng, effect)
        gains = corrected(gain(scores, f"arm{k + 1}", "none", LANGUAGES, "zero-shot") for k in range(ARMS))
        tests += len(gains)
        single += sum(g.p is not None and g.p < 0.05 for g in gains)
        covered += sum(not g.interval.excludes(effect) for g in gains)
        any_claim += any(verdict(g) != "no gain found" for g in gains)
    return single / tests, covered / tests, any_claim / worlds


def test_no_effect_is_rarely_claimed() -> None:
    single, covered, any_claim = claims(np.random.default_rng(0), 400, 0.0)
    assert 0.03 <= single <= 0.07
    assert 0.93 <= covered <= 0.97
    assert any_claim <= 0.07  # the family of four arms, after Holm


@pytest.mark.slow
def test_no_effect_is_rarely_claimed_over_2000_worlds() -> None:
    single, covered, any_claim = claims(np.random.default_rng(1), 2000, 0.0)
    assert 0.04 <= single <= 0.06
    assert 0.94 <= covered <= 0.96
    assert any_claim <= 0.055


def test_an_effect_is_found_and_covered() -> None:
    _, covered, any_claim = claims(np.random.default_rng(2), 200, 8.0)
    assert 0.93 <= covered <= 0.97
    assert any_claim > 0.8


def test_bases_that_differ_do_not_double_the_false_claims() -> None:
    rng = np.random.default_rng(3)
    pooled, grouped = 0, 0
    for _ in range(1500):
        values = rng.normal(0, 1, 2).repeat(3) + rng.normal(0, 0.4, 6)
        pooled += t_interval(values).excludes(0)
        grouped += grouped_interval(values, list("aaabbb")).excludes(0)
    assert grouped / 1500 < 0.75 * pooled / 1500


def test_grouped_interval_names_its_unit() -> None:
    apart = grouped_interval([1.0, 1.1, 0.9, 9.0, 9.1, 8.9], list("aaabbb"))
    assert apart.unit == "base" and apart.n == 2 and not apart.excludes(0)
    alike = grouped_interval([1.0, 3.0, 2.0, 1.5, 2.5, 2.2], list("aaabbb"))
    assert alike.unit == "run" and alike.n == 6 and alike.excludes(0)


def test_t_interval_agrees_with_scipy() -> None:
    x = np.random.default_rng(4).normal(1, 2, 7)
    ours, theirs = t_interval(x), stats.ttest_1samp(x, 0)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval()))
    assert ours.p == pytest.approx(theirs.pvalue)


def test_bootstrap_agrees_with_scipy() -> None:
    x = np.random.default_rng(5).exponential(1, 40)
    for how, name in (("bca", "BCa"), ("percentile", "percentile")):
        ours = bootstrap(x, how=how, rounds=5000)
        theirs = stats.bootstrap((x,), np.mean, method=name, n_resamples=5000).confidence_interval
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)


@pytest.mark.parametrize("n", [4, 6, 9])
def test_sign_flip_agrees_with_scipy(n: int) -> None:
    x = np.random.default_rng(n).normal(0.7, 1, n)
    theirs = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(x) == pytest.approx(theirs.pvalue)


def test_sampled_sign_flip_is_near_the_exact_one() -> None:
    x = np.random.default_rng(6).normal(0.35, 1, 16)
    assert sign_flip(np.append(x, [1e-9])) == pytest.approx(sign_flip(x), abs=0.02)


def test_sign_flip_false_positives_over_examples() -> None:
    rng = np.random.default_rng(7)
    p = [sign_flip(rng.integers(-1, 2, 100), rounds=400) for _ in range(400)]
    assert 0.02 <= float((np.array(p) < 0.05).mean()) <= 0.08


@given(st.lists(st.floats(-5, 5, allow_nan=False, allow_subnormal=False), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_sign_flip_ignores_order_and_sign(values: list[float]) -> None:
    p = sign_flip(values)
    assert 0 < p <= 1
    assert sign_flip([-v for v in values]) == pytest.approx(p)
    assert sign_flip(values[::-1]) == pytest.approx(p)


@given(st.lists(st.floats(0, 1), max_size=12))
@settings(max_examples=60, deadline=None)
def test_holm_keeps_order_and_never_shrinks(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    assert all(a <= 1 for a in adjusted)
    assert sorted(range(len(p)), key=lambda i: (p[i], i)) == sorted(range(len(p)), key=lambda i: (adjusted[i], p[i], i))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_effect_size() -> None:
    assert effect_size([1.0]) is None and effect_size([2.0, 2.0]) is None
    x = [1.0, 2.0, 3.0, 4.0]
    assert effect_size(x) == pytest.approx(2.5 / np.std(x, ddof=1) * (1 - 3 / 11))


def crossed(
    rng: np.random.Generator, *, runs: int, languages: int, examples: int, truth: float
) -> list[dict[str, dict[str, float]]]:
    """Differences with an effect of the run, of the language, of the example (shared by all runs), and noise."""
    of_run = rng.normal(0, 2, runs)
    of_language = rng.normal(0, 2, languages)
    of_example = rng.normal(0, 10, (languages, examples))
    return [
        {
            f"l{j}": {
                f"{j}-{k}": truth + of_run[i] + of_language[j] + of_example[j, k] + float(rng.normal(0, 5))
                for k in range(examples)
            }
            for j in range(languages)
        }
        for i in range(runs)
    ]


def test_resampling_every_level_covers_the_truth() -> None:
    rng = np.random.default_rng(8)
    covered, naive = 0, 0
    for trial in range(120):
        runs = crossed(rng, runs=12, languages=10, examples=20, truth=3.0)
        covered += not resampled_interval(runs, rounds=200, seed=trial).excludes(3.0)
        naive += not t_interval([np.mean([np.mean(list(x.values())) for x in run.values()]) for run in runs]).excludes(
            3.0
        )
    assert covered / 120 > 0.88
    assert naive < covered  # seeds alone know nothing of other languages and examples


def test_parallel_examples_are_drawn_together() -> None:
    rng = np.random.default_rng(9)
    shared = rng.normal(0, 10, 40)
    parallel = [{x: {str(k): float(shared[k]) for k in range(40)} for x in "abcd"} for _ in range(4)]
    apart = [{x: {f"{x}{k}": float(shared[k]) for k in range(40)} for x in "abcd"} for _ in range(4)]
    wide, narrow = (resampled_interval(runs, languages=False) for runs in (parallel, apart))
    assert wide.high is not None and wide.low is not None and narrow.high is not None and narrow.low is not None
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_gain_over_examples_uses_both_arms() -> None:
    rows, kept = [], {}
    rng = np.random.default_rng(10)
    for arm, level in (("none", 0.5), ("stack", 0.7)):
        for seed in (1, 2, 3):
            stage = f"{arm}{seed}"
            for language in LANGUAGES:
                correct = {str(k): float(rng.random() < level) for k in range(200)}
                kept[stage, language] = correct
                value = 100 * float(np.mean(list(correct.values())))
                rows.append(Score("b0", arm, seed, "xnli", language, "test", "accuracy", value, 200, stage))
    found = gain(Scores(tuple(rows)), "stack", "none", LANGUAGES, "zero-shot", lambda s, x: kept.get((s, x)))
    assert found is not None and found.resampled is not None
    assert found.resampled.mean == pytest.approx(found.mean)
    assert found.resampled.excludes(0)
    assert gain(Scores(tuple(rows)), "stack", "none", LANGUAGES, "z", lambda s, x: None).resampled is None  # type: ignore[union-attr]
