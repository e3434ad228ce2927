"""Approximate indexes by FAISS's own factory string: their recall is measured, their size bounded."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from adapterstilts.errors import BudgetError, DataError
from adapterstilts.retrieval.approximate import search_approximate
from adapterstilts.retrieval.budget import Blocks
from adapterstilts.retrieval.search import search


@pytest.fixture(scope="module")
def sides() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1200, 32)).astype(np.float32)
    y = (x[rng.permutation(1200)[:1000]] + 0.3 * rng.normal(size=(1000, 32))).astype(np.float32)
    return x, y


@pytest.mark.parametrize(
    "index", ["Flat", "IVF8,Flat;nprobe=3", "HNSW16", "SQ8", "PCA16,Flat", "IVF8,SQfp16;nprobe=8", "PQ8x4"]
)
def test_the_recall_said_is_the_recall(index: str, sides: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    x, y = sides
    found, exact = search_approximate(x, y, 4, index, blocks=Blocks(300, 400)), search(x, y, 4)
    true = np.mean([len(set(a) & set(b)) / 4 for a, b in zip(found.neighbours.indices, exact.indices, strict=True)])
    assert found.recall == pytest.approx(true, abs=0.08)
    assert found.neighbours.how == index
    if index == "Flat":
        assert found.recall == found.back_recall == 1
        np.testing.assert_array_equal(found.neighbours.back_indices, exact.back_indices)


def test_a_longer_walk_finds_more(sides: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    short, long = (search_approximate(*sides, 4, f"IVF16,Flat;nprobe={n}").recall for n in (1, 8))
    assert short < long


def test_an_index_too_large_is_refused(sides: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    with pytest.raises(BudgetError, match="HNSW32"):
        search_approximate(*sides, 4, "HNSW32", room=100_000)
    assert search_approximate(*sides, 4, "PQ8x4", room=100_000).bytes <= 100_000


def test_the_size_said_is_the_size(sides: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    import faiss

    index = faiss.index_factory(32, "SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(sides[0])
    index.add(sides[0])
    said = search_approximate(*sides, 4, "SQ8").bytes
    assert said == pytest.approx(len(faiss.serialize_index(index)), rel=0.01)


@pytest.mark.parametrize("index", ["Nonsense", "IVF5000,Flat", "IVF8,Flat;probes=3"])
def test_a_wrong_index_is_one_clear_error(index: str, sides: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    with pytest.raises(DataError, match="FAISS cannot make"):
        search_approximate(*sides, 4, index)


def test_fewer_found_than_asked(sides: tuple[NDArray[np.float32], NDArray[np.float32]]) -> None:
    x, y = sides
    found = search_approximate(x[:40], y[:40], 30, "IVF8,Flat;nprobe=1").neighbours
    assert found.indices.min() >= 0 and found.back_indices.min() >= 0
    assert found.similarities.min() >= -1
