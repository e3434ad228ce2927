"""The test with every level random, on data with known truth."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from adapterstilts.study.families import FAMILIES, relatives
from adapterstilts.study.intervals import resampled_interval
from adapterstilts.study.nested import Error, error_of_mean, nested_interval
from adapterstilts.tasks.registry import TaskRegistry

Runs = list[dict[str, dict[str, float]]]
SIX = {name: name[0] for name in ("a1", "a2", "b1", "b2", "c1", "c2")}  # three families of two
UNEQUAL = {name: name[0] for name in ("a1", "a2", "a3", "b1", "b2", "c1")}


def runs_of(table: np.ndarray, names: list[str] | None = None) -> Runs:
    names = names or [str(k) for k in range(table.shape[1])]
    return [
        {name: {str(i): float(v) for i, v in enumerate(row)} for name, row in zip(names, own, strict=True)}
        for own in table
    ]


def drawn(seed: int, run: float, language: float, example: float, noise: float) -> np.ndarray:
    draw = np.random.default_rng(seed).standard_normal
    table = 3 + run * draw((4, 1, 1)) + language * draw((1, 6, 1)) + example * draw((1, 1, 30))
    return np.asarray(table + noise * draw((4, 6, 30)))


def test_shared_examples_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 10, 40)
    runs = [{x: {str(k): shared[k] + rng.normal() for k in range(40)} for x in "abcdef"} for _ in range(4)]
    apart = [{x: {f"{x}{k}": v for k, v in enumerate(by.values())} for x, by in run.items()} for run in runs]
    wide, narrow = nested_interval(runs), nested_interval(apart)
    assert wide is not None and narrow is not None and wide.mean == pytest.approx(narrow.mean)
    assert wide.high - wide.mean > 2 * (narrow.high - narrow.mean)  # type: ignore[operator]


@pytest.mark.parametrize("p", [0.9, 0.3, 0.05, 1e-3, 1e-9])
def test_p_and_interval_are_one_test(p: float) -> None:
    error = Error(2.0, ((0.7, 3.0), (0.4, 5.0), (0.1, 29.0)))
    distance = error.critical(p) * np.sqrt(error.variance)
    assert error.p(distance) == pytest.approx(p, rel=1e-6)
    assert error.p(distance * 1.01) < p < error.p(distance * 0.99)


def test_one_clear_level_is_students_t_of_that_level() -> None:
    table = drawn(3, 40, 0.1, 0.1, 1)
    found = nested_interval(runs_of(table))
    wanted = stats.ttest_1samp(table.mean(axis=(1, 2)), 0.0)
    low, high = wanted.confidence_interval(0.95)
    assert found is not None and found.p == pytest.approx(wanted.pvalue, rel=0.02)
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.02)


def test_order_and_scale_do_not_matter() -> None:
    table = drawn(5, 2, 3, 4, 5)
    first = nested_interval(runs_of(table))
    other = nested_interval(runs_of(-10 * table[::-1, ::-1, ::-1]))
    assert first is not None and other is not None and first.p == pytest.approx(other.p)
    assert (-10 * first.high, -10 * first.low) == pytest.approx((other.low, other.high))  # type: ignore[operator]


def false_positives(dims: tuple[int, ...], more: dict[tuple[int, ...], float], draws: int = 3000) -> float:
    """In percent: of normal data the mean squares are independent chi-squares, and independent of the mean."""
    rng = np.random.default_rng(0)
    keys = [key for size in range(1, len(dims) + 1) for key in combinations(range(len(dims)), size)]
    freedom = {key: float(np.prod([dims[k] - 1 for k in key])) for key in keys}
    expected = {key: 1.0 + sum(by for outer, by in more.items() if set(key) <= set(outer)) for key in keys}
    truth = sum((-1.0) ** (len(key) + 1) * expected[key] for key in keys)
    chance = []
    for _ in range(draws):
        squares = {key: (expected[key] * rng.chisquare(freedom[key]) / freedom[key], freedom[key]) for key in keys}
        error = error_of_mean(squares, 1)
        chance.append(2 * stats.norm.sf(error.critical(0.05) * np.sqrt(error.variance / truth)))
    return 100 * float(np.mean(chance))


# How much more than noise the mean square of what varies has; 4 to 6 are one point.
VARIES: dict[str, dict[tuple[int, ...], float]] = {
    "seeds a little": {(0,): 1.0},
    "languages a little": {(1,): 1.0},
    "examples a little": {(2,): 1.0},
    "seeds": {(0,): 5.0},
    "languages clearly": {(1,): 1000.0},
    "seeds and languages": {(0,): 5.0, (1,): 5.0},
    "all three": {(0,): 5.0, (1,): 5.0, (2,): 5.0},
}


@pytest.mark.parametrize("dims", [(4, 6, 30), (6, 10, 60)])
@pytest.mark.parametrize("varies", VARIES)
def test_false_positives_are_near_nominal(varies: str, dims: tuple[int, ...]) -> None:
    assert 4.0 <= false_positives(dims, VARIES[varies]) <= 6.0


@pytest.mark.parametrize("more", [{}, {(1, 2): 5.0}, {(0, 2): 1.0}])
def test_without_a_level_it_is_careful(more: dict[tuple[int, ...], float]) -> None:
    """Noise alone, or pairs of levels: too wide, never too narrow."""
    assert 2.5 <= false_positives((4, 6, 30), more) <= 5.0


# Standard deviations of run, language, example, language with example, and noise, and how many intervals of 100 may
# miss the truth: 4 to 6 are one point, four times the error of such a simulation.
DESIGNS = {
    "seeds": ((10, 0, 0, 0, 5), 4.0, 6.0),
    "languages": ((0, 10, 0, 0, 5), 4.0, 6.0),
    "examples": ((0, 0, 20, 0, 20), 4.0, 6.0),
    "all three": ((5, 5, 10, 0, 20), 4.0, 6.0),
    "languages correlated over examples": ((0, 0, 20, 20, 20), 4.0, 6.0),
    "languages and examples, uncorrelated": ((0, 0, 0, 30, 20), 2.5, 5.0),
    "noise alone": ((0, 0, 0, 0, 20), 2.5, 5.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_cover_the_truth(design: str) -> None:
    """8,000 data sets of 4 runs, 6 languages and 30 examples with a gain of three points."""
    (run, language, example, pair, noise), low, high = DESIGNS[design]
    rng = np.random.default_rng(7)
    missed = 0
    for _ in range(8000):
        draw = rng.standard_normal
        table = 3 + run * draw((4, 1, 1)) + language * draw((1, 6, 1)) + example * draw((1, 1, 30))
        table = table + pair * draw((1, 6, 30)) + noise * draw((4, 6, 30))
        found = nested_interval(runs_of(table))
        assert found is not None and found.p is not None and (found.p < 0.05) == found.excludes()
        missed += found.excludes(3.0)
    assert low <= missed / 80 <= high


# -- relatives --------------------------------------------------------------------------------------------------------


def test_every_language_of_a_task_has_a_family() -> None:
    registry = TaskRegistry()
    spoken = {code for name in registry.names() if not name.startswith("lab-") for code in registry.get(name).languages}
    unknown = {code for code in spoken if code.split("-")[0] not in FAMILIES}
    assert not unknown


def test_languages_without_relatives_are_drawn_one_by_one() -> None:
    runs = runs_of(drawn(1, 2, 3, 4, 5), list(SIX))
    alone = nested_interval(runs)
    assert alone is not None and alone.unit == "language"
    assert alone == nested_interval(runs, families={name: name for name in SIX})


def test_twins_are_one_draw() -> None:
    table = drawn(2, 2, 6, 4, 5)[:, :3]
    twins = nested_interval(runs_of(np.repeat(table, 2, axis=1), list(SIX)), families=SIX)
    single = nested_interval(runs_of(table, ["a", "b", "c"]))
    assert twins is not None and single is not None and twins.unit == "family"
    for one, other in zip((twins.low, twins.high, twins.p), (single.low, single.high, single.p), strict=True):
        assert one == pytest.approx(other)


def test_one_family_leaves_its_languages_fixed() -> None:
    table = drawn(4, 2, 50, 4, 5)
    names = list(SIX)
    one = nested_interval(runs_of(table, names), families=dict.fromkeys(names, "x"))
    fixed = nested_interval(runs_of(table.mean(axis=1, keepdims=True)))
    assert one is not None and fixed is not None and one.unit == "run"
    assert (one.low, one.high) == pytest.approx((fixed.low, fixed.high))
    drawn_all = nested_interval(runs_of(table, names))
    assert drawn_all is not None and drawn_all.high - drawn_all.low > 3 * (one.high - one.low)  # type: ignore[operator]


def test_resampling_draws_families_whole() -> None:
    table = np.repeat(drawn(6, 0, 10, 0, 1)[:, :3], 2, axis=1)
    together = resampled_interval(runs_of(table, list(SIX)), families=SIX)
    apart = resampled_interval(runs_of(table, list(SIX)), families={})
    assert (together.unit, apart.unit) == ("family", "language")
    assert together.high - together.low > 1.2 * (apart.high - apart.low)  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("families", [SIX, UNEQUAL], ids=["equal", "unequal"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_relatives_do_not_narrow_the_interval(share: float, families: dict[str, str]) -> None:
    """A clear effect of language, of which relatives share a part; 2,000 data sets."""
    rng = np.random.default_rng(11)
    groups = relatives(list(families), families)
    missed = blind = 0
    for _ in range(2000):
        draw = rng.standard_normal
        common = np.empty(6)
        for group in groups:
            common[group] = draw()
        language = 10 * (np.sqrt(share) * common + np.sqrt(1 - share) * draw(6))
        table = 3 + 2 * draw((4, 1, 1)) + language[None, :, None] + 20 * draw((4, 6, 30))
        runs = runs_of(table, list(families))
        found, without = nested_interval(runs, families=families), nested_interval(runs, families={})
        assert found is not None and without is not None
        missed += found.excludes(3.0)
        blind += without.excludes(3.0)
    assert 3.5 <= missed / 20 <= 6.0
    assert blind > 1.5 * missed


def test_one_run_has_no_interval() -> None:
    assert nested_interval([{"a": {"0": 1.0, "1": 2.0}}]) is None
    assert nested_interval([{"a": {"0": 1.0}}, {"a": {"0": 2.0}}]) is None
