"""The bf16 product with proven candidates: always what the fp32 product finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapterstilts.retrieval import rescored as room
from adapterstilts.retrieval.budget import Blocks
from adapterstilts.retrieval.mining import mine
from adapterstilts.retrieval.neighbours import Neighbours, unit
from adapterstilts.retrieval.one_pass import both_directions
from adapterstilts.retrieval.rescored import both_rescored

Floats = NDArray[np.float32]
RESOLVED = 2e-7  # two units in the last place of a similarity in fp32


def sentences(n: int, m: int, d: int, seed: int = 0, shared: float = 2.0) -> tuple[Floats, Floats]:
    """Vectors with a large common part, as encoders make them; half of the targets are noisy translations."""
    rng = np.random.default_rng(seed)
    common = shared * rng.normal(size=d)
    x, y = rng.normal(size=(n, d)) + common, rng.normal(size=(m, d)) + common
    half = min(n, m) // 2
    y[:half] = x[:half] + 0.5 * rng.normal(size=(half, d))
    return x.astype(np.float32), y.astype(np.float32)


def agree(found: Neighbours, x: Floats, y: Floats, k: int) -> None:
    """The similarities are the k highest in float64, and each index has the similarity it is listed with."""
    scores = unit(x).astype(np.float64) @ unit(y).astype(np.float64).T
    for similarities, indices, exact in (
        (found.similarities, found.indices, scores),
        (found.back_similarities, found.back_indices, scores.T),
    ):
        k_here = min(k, exact.shape[1])
        assert similarities.shape == indices.shape == (len(exact), k_here)
        np.testing.assert_allclose(similarities, -np.sort(-exact, axis=1)[:, :k_here], atol=1e-6)
        np.testing.assert_allclose(np.take_along_axis(exact, indices, axis=1), similarities, atol=1e-6)
        assert all(len(set(row)) == len(row) for row in indices.tolist())
        assert (np.diff(similarities, axis=1) <= 0).all()


@pytest.mark.parametrize(
    ("n", "m", "k"), [(700, 900, 4), (513, 401, 1), (300, 777, 20), (90, 2, 4), (1, 1, 4), (9, 1000, 4)]
)
@pytest.mark.parametrize("shared", [0.0, 2.0, 8.0])
def test_it_finds_what_fp32_finds(n: int, m: int, k: int, shared: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TILE", (128, 256))
    x, y = sentences(n, m, 48, n, shared)
    found = both_rescored(x, y, k)
    assert found.how == "bf16"
    agree(found, x, y, k)
    plain = both_directions(x, y, k)
    agree(plain, x, y, k)
    scores = unit(x).astype(np.float64) @ unit(y).astype(np.float64).T
    for one, other, exact in (
        (found.indices, plain.indices, scores),
        (found.back_indices, plain.back_indices, scores.T),
    ):
        # Which of two neighbours comes first where fp32 cannot order them depends on the processor.
        clear = (np.diff(-np.sort(-exact, axis=1)[:, : k + 1], axis=1) < -RESOLVED).all(axis=1)
        assert clear.mean() > 0.95
        np.testing.assert_array_equal(one[clear], other[clear])


@given(
    st.integers(1, 150), st.integers(1, 150), st.integers(1, 6), st.integers(1, 12), st.integers(0, 1000), st.booleans()
)
@settings(max_examples=60, deadline=None)
def test_ties_duplicates_and_zero_vectors(n: int, m: int, k: int, kinds: int, seed: int, near: bool) -> None:
    """Few different vectors, many times each; where ``near``, differences that bf16 does not see."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(kinds, 16)).astype(np.float32)
    pool[0] = 0
    x, y = (pool[rng.integers(0, kinds, count)] for count in (n, m))
    if near:
        x, y = (side * (1 + 1e-4 * rng.normal(size=side.shape)).astype(np.float32) for side in (x, y))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "TILE", (32, 64))
        agree(both_rescored(x, y, k), x, y, k)


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sentences(600, 500, 32)
    whole = both_rescored(x, y, 4)
    for held in (64, 256):
        parts = both_rescored(x, y, 4, blocks=Blocks(held=held))
        np.testing.assert_array_equal(parts.indices, whole.indices)
        np.testing.assert_array_equal(parts.back_indices, whole.back_indices)
        assert mine(parts).source.tolist() == mine(whole).source.tolist()


def test_few_pairs_are_scored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    exact = room._exact
    monkeypatch.setattr(room, "_exact", lambda *a: counted.append(len(a[2])) or exact(*a))
    monkeypatch.setattr(room, "_dense", lambda *a: pytest.fail("a tile was scored in fp32"))
    both_rescored(*sentences(3000, 3000, 256), 4)
    assert sum(counted) < 0.02 * 3000 * 3000


def test_the_stated_bound_holds_for_every_pair() -> None:
    x, y = sentences(200, 320, 64, shared=3.0)
    device = torch.device("cpu")
    means = room._mean(x, device), room._mean(y, device)
    with room._one_thread_each(1) as pool:
        source = room._side(pool, room._Strip.of(200, 64, device), x, 0, means[0], means[1], True)
        target = room._side(pool, room._Strip.of(320, 64, device), y, 0, means[1], means[0], False)
    scores = (source.rounded @ target.rounded.T).double()
    exact = torch.from_numpy(unit(x).astype(np.float64) @ unit(y).astype(np.float64).T)
    off = (scores + means[0].double() @ means[1].double() - exact).abs()
    room_left = source.errors(target, room._SUM)[:, None] + room._STORED * scores.abs() - off
    assert room_left.min() > 0
    assert off.max() > 0.05 * (source.errors(target, room._SUM).max())  # and is no empty phrase


def test_where_sums_are_worse_than_the_bound_fp32_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = sentences(1500, 1500, 256)
    side = room._side

    def careless(*a: Any) -> Any:
        made = side(*a)
        made.rounded[:, :9] *= 1.1  # a product that is not what was promised
        return made

    monkeypatch.setattr(room, "_side", careless)
    found = both_rescored(x, y, 4)
    assert found.how == "one_pass"
    agree(found, x, y, 4)


def test_memory_mapped_half_precision_is_read_only(tmp_path: Path) -> None:
    x, y = sentences(300, 280, 32)
    for name, side in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", side.astype(np.float16))
    stored = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy"]
    agree(both_rescored(*stored, 3), *(np.array(side, np.float32) for side in stored), 3)


@pytest.mark.parametrize("shared", [2.0, 8.0])
def test_the_number_of_threads_changes_no_bit(shared: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "TILE", (128, 256))
    x, y = sentences(700, 900, 48, shared=shared)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(both_rescored(x, y, 4))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for name in ("similarities", "indices", "back_similarities", "back_indices"):
            np.testing.assert_array_equal(getattr(other, name), getattr(found[0], name))
