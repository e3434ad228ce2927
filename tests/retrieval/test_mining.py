"""Mining against a slow, obvious version of the published algorithm, written step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterstilts.retrieval.mining import (
    Lines,
    Margin,
    Mined,
    Retrieval,
    _falling,
    _one_to_one,
    candidates,
    margin_scores,
    mine,
    unify,
)
from adapterstilts.retrieval.neighbours import Neighbours, unit
from adapterstilts.retrieval.search import search

Matrix = list[list[float]]
Ranking = list[list[int]]

MARGINS = ("ratio", "distance", "absolute")


def margin_slowly(margin: str, a: float, b: float) -> float:
    if margin == "absolute":
        return a
    if margin == "distance":
        return a - b
    if b == 0:  # what a / b is in floats; an undefined ratio is never mined
        return -math.inf if a == 0 else math.copysign(math.inf, a)
    return a / b


def rank_slowly(cosines: Matrix, k: int) -> Ranking:
    return [[j for _, j in sorted((-cosine, j) for j, cosine in enumerate(row))[:k]] for row in cosines]


def mine_slowly(
    cosines: Matrix, forward: Ranking, backward: Ranking, margin: str, retrieval: str, minimum: float = 0.0
) -> list[tuple[int, int, float]]:
    """LASER ``mine_bitexts`` in plain Python: means, candidate scores, best of each side, then the retrieval mode."""
    source_mean = [sum(cosines[i][j] for j in ranked) / len(ranked) for i, ranked in enumerate(forward)]
    target_mean = [sum(cosines[i][j] for i in ranked) / len(ranked) for j, ranked in enumerate(backward)]

    def score(i: int, j: int) -> float:
        return margin_slowly(margin, cosines[i][j], (source_mean[i] + target_mean[j]) / 2)

    def first_best(scores: list[float]) -> int:
        return scores.index(max(scores))

    best_target = [ranked[first_best([score(i, j) for j in ranked])] for i, ranked in enumerate(forward)]
    best_source = [ranked[first_best([score(i, j) for i in ranked])] for j, ranked in enumerate(backward)]
    forward_pairs = [(i, j, score(i, j)) for i, j in enumerate(best_target)]
    backward_pairs = [(i, j, score(i, j)) for j, i in enumerate(best_source)]
    if retrieval == "forward":
        return forward_pairs
    if retrieval == "backward":
        return backward_pairs
    if retrieval == "intersection":
        return [(i, j, s) for i, j, s in forward_pairs if best_source[j] == i]
    mined, seen_sources, seen_targets = [], set(), set()
    for i, j, s in sorted(forward_pairs + backward_pairs, key=lambda pair: -pair[2]):
        if i not in seen_sources and j not in seen_targets:
            seen_sources.add(i)
            seen_targets.add(j)
            if s > minimum:
                mined.append((i, j, s))
    return mined


def _listed(mined: Mined) -> list[tuple[int, int, float]]:
    return list(zip(mined.source.tolist(), mined.target.tolist(), mined.scores.tolist(), strict=True))


def _everything() -> list[tuple[str, str]]:
    return [(m, r) for m in MARGINS for r in ("max", "forward", "backward", "intersection")]


@pytest.mark.parametrize(("margin", "retrieval"), _everything())
@pytest.mark.parametrize(("n", "m", "k"), [(60, 75, 4), (40, 40, 1), (3, 9, 4), (1, 1, 4), (1, 6, 2), (7, 1, 4)])
@pytest.mark.parametrize("how", ["one_pass", "faiss", "bf16"])
def test_random_vectors(margin: Margin, retrieval: Retrieval, n: int, m: int, k: int, how: str) -> None:
    rng = np.random.default_rng(n * m + k)
    x = unit(rng.normal(size=(n, 12)) + 1.0)
    y = unit(rng.normal(size=(m, 12)) + 1.0)
    y[: min(n, m) // 2] = unit(x[: min(n, m) // 2] + 0.1 * rng.normal(size=(min(n, m) // 2, 12)))
    cosines: Matrix = (x.astype(np.float64) @ y.T.astype(np.float64)).tolist()
    transposed = [list(column) for column in zip(*cosines, strict=True)]
    expected = mine_slowly(cosines, rank_slowly(cosines, k), rank_slowly(transposed, k), margin, retrieval)
    found = _listed(mine(search(x, y, k, how), margin=margin, retrieval=retrieval))  # type: ignore[arg-type]
    assert [pair[:2] for pair in found] == [pair[:2] for pair in expected]
    np.testing.assert_allclose([s for *_, s in found], [s for *_, s in expected], atol=1e-5)
    if retrieval == "max":
        assert len({i for i, *_ in found}) == len({j for _, j, _ in found}) == len(found)


CORNERS = [[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.5, -0.5, 0.5, -0.5], [0, 1.0, 0, 0], [0, 0, 0, 0]]
VECTORS = st.lists(st.sampled_from(CORNERS), min_size=1, max_size=8)


@given(VECTORS, VECTORS, st.integers(1, 5), st.sampled_from(_everything()))
@settings(max_examples=300, deadline=None)
def test_ties_duplicates_and_zero_vectors(x: Matrix, y: Matrix, k: int, way: tuple[Margin, Retrieval]) -> None:
    # Neighbours among ties are any of them, so the slow version takes those found; all values are exact in binary.
    neighbours = search(np.array(x, np.float32), np.array(y, np.float32), k)
    cosines = [[sum(a * b for a, b in zip(u, v, strict=True)) for v in y] for u in x]
    expected = mine_slowly(cosines, neighbours.indices.tolist(), neighbours.back_indices.tolist(), *way)
    assert _listed(mine(neighbours, margin=way[0], retrieval=way[1])) == expected


def test_identical_sets_give_the_identity() -> None:
    x = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    for retrieval in ("max", "forward", "backward", "intersection"):
        mined = mine(search(x, x.copy(), 4), retrieval=retrieval)
        assert sorted(zip(mined.source.tolist(), mined.target.tolist(), strict=True)) == [(i, i) for i in range(50)]


def test_a_chain_of_competing_pairs_is_settled_greedily() -> None:
    # s1-t1 0.9, s2-t1 0.8, s2-t2 0.7, s3-t2 0.6: taking the best first leaves s3 alone.
    neighbours = Neighbours(
        np.array([[0.9], [0.8], [0.6]], np.float32),
        np.array([[0], [0], [1]]),
        np.array([[0.9], [0.7]], np.float32),
        np.array([[0], [1]]),
        "one_pass",
    )
    mined = mine(neighbours, margin="absolute")
    assert [(i, j) for i, j, _ in _listed(mined)] == [(0, 0), (1, 1)]
    assert len(mine(neighbours, margin="absolute", minimum=0.8).source) == 1


def test_the_margin_lowers_sentences_that_are_near_to_everything() -> None:
    forward, backward = margin_scores(
        Neighbours(
            np.array([[0.9, 0.9], [0.8, 0.2]], np.float32),
            np.array([[0, 1], [0, 1]]),
            np.array([[0.9, 0.8], [0.9, 0.2]], np.float32),
            np.array([[0, 1], [0, 1]]),
            "faiss",
        )
    )
    assert forward[0, 0] == pytest.approx(0.9 / ((0.9 + 0.85) / 2))
    assert forward[1, 0] == backward[0, 1] == pytest.approx(0.8 / ((0.5 + 0.85) / 2))
    assert forward[1, 0] > forward[0, 0]  # by cosine it is the other way round


LINES = [("a", "one"), ("b", "two"), ("c", "one"), ("d", "three "), ("e", "three"), ("f", "four")]


def test_repeated_sentences_are_dropped_from_the_ids_as_in_laser() -> None:
    lines = unify(LINES, "drop")
    assert lines.rows.tolist() == [2, 1, 3, 4, 5]  # the last "one" stands for both
    assert lines.ids == ((), ("b",), (), (), ("f",))  # "three " and "three" are one sentence to the id map


def test_repeated_sentences_stand_for_all_their_ids_as_in_jiant() -> None:
    lines = unify(LINES, "expand")
    assert lines.rows.tolist() == [2, 1, 4, 5]
    assert lines.ids == (("a", "c"), ("b",), ("d", "e"), ("f",))


def test_pairs_are_named_by_their_ids() -> None:
    mined = Mined(np.array([0, 1, 2]), np.array([1, 0, 2]), np.array([1.5, 1.2, 1.1]))
    source = Lines(np.arange(3), (("a", "b"), ("c",), ()))
    target = Lines(np.arange(3), (("x",), ("y", "z"), ("w",)))
    assert candidates(mined, source, target) == {
        ("a", "y"): 1.5,
        ("a", "z"): 1.5,
        ("b", "y"): 1.5,
        ("b", "z"): 1.5,
        ("c", "x"): 1.2,
    }


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 60), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_one_to_one_is_the_walk_down_the_list(n: int, m: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, n, count), rng.integers(0, m, count)
    used: tuple[set[int], set[int]] = set(), set()
    walked = []
    for i, j in zip(source.tolist(), target.tolist(), strict=True):
        walked.append(i not in used[0] and j not in used[1])
        if walked[-1]:
            used[0].add(i)
            used[1].add(j)
    assert _one_to_one(source, target, n, m).tolist() == walked


@pytest.mark.parametrize("step", [1, -1])
def test_one_to_one_on_a_long_chain(step: int) -> None:
    """Every pair shares a sentence with the next: what is kept depends on the whole way down."""
    source, target = np.repeat(np.arange(50), 2)[1:][::step], np.repeat(np.arange(50), 2)[:-1][::step]
    kept = _one_to_one(source, target, 50, 50)
    assert kept.tolist() == [place % 2 == 0 for place in range(99)]


@given(st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5, math.inf, -math.inf, 1e-300])))
def test_falling_order_is_stable(scores: list[float]) -> None:
    expected = sorted(range(len(scores)), key=lambda place: -scores[place])
    assert _falling(np.array(scores, np.float64)).tolist() == expected
