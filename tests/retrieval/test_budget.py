"""Memory limits: sizes read, blocks chosen, limits kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterstilts.amounts import count_bytes
from adapterstilts.errors import BudgetError
from adapterstilts.retrieval.budget import Blocks, blocks_for, refuse_model, tokens_for
from adapterstilts.retrieval.search import search

GIB = 2**30


def test_half_a_million_by_half_a_million_fits_into_8_gib() -> None:
    blocks = blocks_for(8 * GIB, 500_000, 500_000, 1024, 4, bytes_per_value=2, held=GIB)
    assert blocks.queries >= 16_384 and blocks.corpus >= 65_536


def test_blocks_shrink_with_the_limit() -> None:
    sizes = [blocks_for(limit, 10**5, 10**5, 1024, 4, held=0).corpus for limit in (GIB // 4, GIB // 2, GIB, 4 * GIB)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_the_impossible_is_refused_with_the_size_that_would_do() -> None:
    with pytest.raises(BudgetError, match="--max-memory") as caught:
        blocks_for(100 * 2**20, 10**6, 10**6, 1024, 4, held=0)
    assert caught.value.exit_code == 4
    assert caught.value.fix is not None
    enough = count_bytes(caught.value.fix.split()[1].rstrip(","))
    assert blocks_for(enough, 10**6, 10**6, 1024, 4, held=0).corpus >= 256


def test_a_base_that_does_not_fit_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(20 * GIB)  # sparse
    with pytest.raises(BudgetError, match="the base does not fit"):
        refuse_model(4 * GIB, tmp_path)
    with pytest.raises(BudgetError, match="encoding"):
        tokens_for(1, 1024, 4096)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 50), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_any_block_size_finds_the_same(n: int, m: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 8)), rng.normal(size=(m, 8))
    whole = search(x, y, 4, "faiss")
    for how in ("faiss", "one_pass", "bf16"):
        found = search(x, y, 4, how, blocks=Blocks(rows, rows + 3, rows))  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.indices, whole.indices)
        np.testing.assert_array_equal(found.back_indices, whole.back_indices)
        np.testing.assert_allclose(found.similarities, whole.similarities, atol=2e-6)


MEASURED = """
import json, sys
from pathlib import Path
import faiss, numpy as np
from adapterstilts.retrieval import budget, search
from adapterstilts.retrieval.mining import mine
place, how, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
if how == "bf16":
    before = budget.resident()
    search.search(np.ones((64, 64)), np.ones((64, 64)), 1, how)
    limit += budget.resident() - before  # torch itself is no part of the search
x, y = (np.load(f"{place}/{name}.npy", mmap_mode="r") for name in "xy")
blocks = budget.blocks_for(limit, len(x), len(y), x.shape[1], 4, bytes_per_value=x.itemsize)
mined = mine(search.search(x, y, 4, how, blocks=blocks))
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
pairs = sorted(zip(mined.source.tolist(), mined.target.tolist()))
print(json.dumps({"peak": int(peak.split()[1]) * 1024, "limit": limit, "pairs": pairs}))
"""


def test_the_limit_is_kept(tmp_path: Path) -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("resident memory is read from /proc")
    rng = np.random.default_rng(0)
    for name in "xy":
        np.save(tmp_path / f"{name}.npy", rng.standard_normal((3000, 6144), dtype=np.float32))  # 70 MiB each
    limit = 224 * 2**20  # the libraries take about 60 MiB; both sides and FAISS's copy of one would take 210 more
    found = {}
    for how in ("one_pass", "bf16", "faiss"):
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, str(tmp_path), how, str(limit)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
        )
        found[how] = json.loads(done.stdout)
        assert found[how]["peak"] <= found[how]["limit"], how
    # In many dimensions random scores lie so close that the last bit of a sum decides some.
    *ours, faiss = (set(map(tuple, found[how]["pairs"])) for how in found)
    for pairs in ours:
        assert len(pairs & faiss) > 0.999 * len(pairs | faiss)


def test_one_and_two_threads_find_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((1500, 64), dtype=np.float32))
    np.save(tmp_path / "y.npy", rng.standard_normal((1700, 64), dtype=np.float32))
    pairs = []
    for how in ("one_pass", "bf16", "faiss"):
        for threads in ("1", "2"):
            done = subprocess.run(
                [sys.executable, "-c", MEASURED, str(tmp_path), how, str(4 * GIB)],
                capture_output=True,
                text=True,
                check=True,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": threads,
                    "OPENBLAS_NUM_THREADS": threads,
                    "PYTHONPATH": str(Path(__file__).parent.parent.parent),
                },
            )
            pairs.append(json.loads(done.stdout)["pairs"])
    assert pairs[0] and all(found == pairs[0] for found in pairs)
