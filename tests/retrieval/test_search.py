from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapterstilts.errors import DataError, MissingDependency
from adapterstilts.retrieval import choice, one_pass
from adapterstilts.retrieval import search as room
from adapterstilts.retrieval.budget import Blocks
from adapterstilts.retrieval.choice import choose, costs
from adapterstilts.retrieval.neighbours import Neighbours, center, unit
from adapterstilts.retrieval.one_pass import both_directions
from adapterstilts.retrieval.search import nearest, search


def _random(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def _exact(n: int, seed: int) -> NDArray[np.float32]:
    """Vectors of length exactly 1 whose products are exact in any order of summing, with many ties."""
    rng = np.random.default_rng(seed)
    return rng.permuted(np.tile(np.array([0.5, 0.5, -0.5, 0.5, 0, 0], np.float32), (n, 1)), axis=1)


def _faiss(queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int) -> Any:
    x, y = queries.copy(), corpus.copy()
    faiss.normalize_L2(x)
    faiss.normalize_L2(y)
    index = faiss.IndexFlatIP(y.shape[1])
    index.add(y)
    return index.search(x, min(k, len(y)))


def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_pass, "_TILE", (24, 40))
    monkeypatch.setattr(one_pass, "Blocks", lambda: Blocks(held=70))
    monkeypatch.setattr(room, "_BLOCKS", Blocks(queries=30, corpus=50))


@pytest.mark.parametrize(("n", "m", "k"), [(200, 333, 4), (97, 51, 1), (64, 80, 10), (3, 500, 4), (1, 1, 4), (5, 2, 4)])
@pytest.mark.parametrize("how", ["one_pass", "faiss", "bf16"])
def test_all_ways_find_what_faiss_finds(n: int, m: int, k: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _small_blocks(monkeypatch)
    x, y = _random(n, 16, 1), 3 * _random(m, 16, 2) + 0.5
    found = search(x, y, k, how)  # type: ignore[arg-type]
    assert found.how == how
    for similarities, indices, (expected, places) in (
        (found.similarities, found.indices, _faiss(x, y, k)),
        (found.back_similarities, found.back_indices, _faiss(y, x, k)),
    ):
        assert similarities.dtype == np.float32 and indices.dtype == np.int64
        np.testing.assert_array_equal(indices, places)
        np.testing.assert_allclose(similarities, expected, atol=1e-6)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_both_directions_are_exact_under_ties(n: int, m: int, k: int, seed: int) -> None:
    x, y = _exact(n, seed), _exact(m, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        _small_blocks(patch)
        found = both_directions(x, y, k)
    for similarities, indices, scores, (expected, _) in (
        (found.similarities, found.indices, x @ y.T, _faiss(x, y, k)),
        (found.back_similarities, found.back_indices, y @ x.T, _faiss(y, x, k)),
    ):
        np.testing.assert_array_equal(similarities, expected)
        np.testing.assert_array_equal(similarities, np.sort(scores, axis=1)[:, ::-1][:, :k])
        np.testing.assert_array_equal(np.take_along_axis(scores, indices, axis=1), similarities)
        assert all(len(set(row)) == len(row) for row in indices.tolist())


@pytest.mark.parametrize("m", [70, 72, 8])
def test_blocks_on_another_device_find_the_same(m: int) -> None:
    x, y = unit(_random(300, 8, 1)), unit(_random(m, 8, 2))
    similarities, indices = room._torch_block(x, y, 5, "cpu")
    expected, places = _faiss(x, y, 5)
    np.testing.assert_array_equal(indices, places)
    np.testing.assert_allclose(similarities, expected, atol=1e-6)


@pytest.mark.parametrize("how", ["one_pass", "faiss", "bf16"])
def test_the_callers_arrays_stay_as_they_are(how: str, tmp_path: Path) -> None:
    x = _random(40, 8)
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")  # read-only, on disk
    found = search(stored, stored, 2, how)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.indices[:, 0], np.arange(40))
    fortran = np.asfortranarray(x.astype(np.float64))
    before = fortran.copy()
    again = search(fortran, fortran, 2, how)  # type: ignore[arg-type]
    np.testing.assert_array_equal(fortran, before)
    np.testing.assert_array_equal(again.indices[:, 0], np.arange(40))


def test_the_threads_of_faiss_are_put_back() -> None:
    before = faiss.omp_get_max_threads()
    nearest(_random(4, 4), _random(4, 4), 1, threads=before + 1)
    assert faiss.omp_get_max_threads() == before


def test_zero_vectors_are_near_to_nothing() -> None:
    x = np.zeros((2, 4), np.float32)
    assert (unit(x) == 0).all()
    assert (search(x, _random(3, 4), 2).similarities == 0).all()


def test_centring_takes_out_what_a_language_shares() -> None:
    meaning = _random(50, 16)
    x, y = meaning + 40 * _random(1, 16, 7), meaning + 40 * _random(1, 16, 8)
    np.testing.assert_array_equal(nearest(center(x), center(y), 1)[1][:, 0], np.arange(50))
    np.testing.assert_allclose(center(x), center(y), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(center(x), axis=1), 1, rtol=1e-5)
    assert (center(np.ones((3, 4), np.float32)) == 0).all()  # all alike: nothing left


@pytest.mark.parametrize(
    ("x", "y", "k", "message"),
    [
        (_random(3, 4), _random(3, 5), 1, r"shapes \(3, 4\) and \(3, 5\)"),
        (_random(3, 4), np.empty((0, 4), np.float32), 1, "3 sentences against 0"),
        (_random(3, 4), _random(3, 4), 0, "k = 0"),
        (_random(3, 4) * [[1], [np.nan], [1]], _random(3, 4), 1, "embedding 1 holds NaN"),
    ],
)
def test_unusable_embeddings_are_refused(x: NDArray[Any], y: NDArray[Any], k: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        both_directions(x, y, k)
    with pytest.raises(DataError, match=message):
        nearest(x, y, k)
    with pytest.raises(DataError, match=message):
        search(x, y, k, "bf16")


def test_the_way_is_chosen_by_size_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(search(_random(5, 4), _random(5, 4), 1), Neighbours)
    assert search(_random(5, 4), _random(5, 4), 1).how == "one_pass"
    assert choose(50, 50, 1024, device="cuda") == "gpu"
    assert set(costs(64)) == {"faiss", "one_pass", "bf16"} and min(costs(64).values()) > 0
    for way in ("faiss", "one_pass", "bf16"):
        monkeypatch.setattr(choice, "costs", lambda dimensions, way=way: {**costs(dimensions), way: 0.0})
        assert choose(50_000, 50_000, 64) == way


def test_without_faiss_the_others_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    assert set(costs.__wrapped__(64)) == {"one_pass", "bf16"}
    with pytest.raises(MissingDependency, match="pip install faiss-cpu"):
        search(_random(5, 4), _random(5, 4), 1, "faiss")
