"""Peak memory of the search: each way in a process of its own; and half a million sentences a side in 8 GB.

    python benchmarks/retrieval_memory.py --large FOLDER    # about 2 GB of files, a quarter of an hour

The large run searches 500,000 x 500,000 x 1024 under 8 GB with real files until a part of the second side is done (what
is held does not grow after the first block), and then 50,000 x 50,000 to the end, under a tenth of that limit above
what the process holds at the start.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
K = 4
GIB = 2**30


def vectors(count: int, dimensions: int) -> tuple[Floats, Floats]:
    """Anisotropic embeddings: a common direction, and one in ten rows has a noisy translation."""
    rng = np.random.default_rng(count)
    common = rng.normal(size=dimensions)
    x, y = (rng.normal(size=(count, dimensions)) + 2 * common for _ in range(2))
    pairs = rng.permutation(count)[: count // 10]
    y[pairs] = x[pairs] + 0.8 * rng.normal(size=(len(pairs), dimensions))
    return x.astype(np.float32), y.astype(np.float32)


def search_faiss(x: Floats, y: Floats, in_place: bool = False) -> tuple[Any, ...]:
    """As LASER and XTREME: normalised (in place, where the vectors are not needed again), one flat index a side."""
    import faiss

    faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    x, y = (x, y) if in_place else (x.copy(), y.copy())
    faiss.normalize_L2(x)
    faiss.normalize_L2(y)
    found: list[Any] = []
    for queries, corpus in ((x, y), (y, x)):
        index = faiss.IndexFlatIP(corpus.shape[1])
        index.add(corpus)
        found += index.search(queries, K)
        del index
    return tuple(found)


def search(x: Any, y: Any, how: Any = "auto") -> Any:
    """Ours."""
    from adapterstilts.retrieval.search import search

    return search(x, y, K, how, device="cuda" if how == "gpu" else "cpu")


def memory_row(count: int, dimensions: int) -> dict[str, Any]:
    """Peak resident memory above that of the imported libraries, each way in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        for name, array in zip("xy", vectors(count, dimensions), strict=True):
            np.save(Path(folder, f"{name}.npy"), array)
        peaks = {}
        for way in ("ours", "theirs"):
            done = subprocess.run(
                [sys.executable, __file__, "--way", way, folder], check=True, capture_output=True, text=True
            )
            peaks[way] = json.loads(done.stdout)
        pairs = zip(*(np.load(Path(folder, f"{way}.npy")).tolist() for way in peaks), strict=True)
        recall = sum(len(set(a) & set(b)) for a, b in pairs) / (2 * count * K)
    ours, theirs = (peaks[way]["above"] / 2**20 for way in ("ours", "theirs"))
    return {
        "what": f"peak memory of the search ({peaks['ours']['how']}), MiB",
        "against": "FAISS IndexFlatIP, both directions",
        "n": count,
        "equal": f"recall@{K} {recall:.6f}; whole process {peaks['ours']['peak'] / 2**20:.0f} "
        f"against {peaks['theirs']['peak'] / 2**20:.0f}",
        "target": 4.0,
        "ours": ours,
        "ours_range": [ours, ours],
        "theirs": theirs,
        "theirs_range": [theirs, theirs],
        "times_faster": theirs / ours,
    }


def one_way(way: str, folder: Path) -> None:
    """One way in this process; prints its peak."""
    import faiss

    faiss.omp_set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from adapterstilts.retrieval.budget import resident

    mode: Any = "r" if way == "ours" else None
    x, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xy")
    chosen: Any = "faiss" if way == "theirs" else _loaded(len(x), len(y), x.shape[1])
    before = _from_here(resident())
    x, y = (np.load(folder / f"{name}.npy", mmap_mode=mode) for name in "xy")
    if way == "ours":
        found = search(x, y, chosen)
        neighbours = found.indices, found.back_indices
    else:
        plain = search_faiss(x, y, in_place=True)
        neighbours = plain[1], plain[3]
    print(json.dumps({"above": _peak() - before, "peak": _peak(), "how": chosen}))
    np.save(folder / f"{way}.npy", np.concatenate(neighbours))


def large(folder: Path) -> None:
    """Half a million sentences a side under 8 GB in part, a tenth of them under a tenth of the rest as a whole."""
    from adapterstilts.retrieval import search as room
    from adapterstilts.retrieval.budget import blocks_for, resident

    n, dimensions = 500_000, 1024
    folder.mkdir(parents=True, exist_ok=True)
    for number, side in enumerate("xy"):
        if not (folder / f"{side}.npy").is_file():
            made = np.lib.format.open_memmap(folder / f"{side}.npy", mode="w+", dtype=np.float16, shape=(n, dimensions))
            rng = np.random.default_rng(number)
            shared = np.random.default_rng(9).normal(size=dimensions)
            for start in range(0, n, 10_000):
                made[start : start + 10_000] = rng.normal(size=(10_000, dimensions)) + shared
            del made
    x, y = (np.load(folder / f"{side}.npy", mmap_mode="r") for side in "xy")
    chosen: Any = _loaded(n, n, dimensions)
    start = _from_here(resident())
    blocks = blocks_for(8 * GIB, n, n, dimensions, K, bytes_per_value=2)
    clock = time.process_time()
    part = 4 * 4096
    room.search(x, y[:part], K, chosen, blocks=blocks)
    seconds = time.process_time() - clock
    result: dict[str, Any] = {
        "how": chosen,
        "whole": {"limit_gib": 8, "targets_searched": part, "peak_gib": _peak() / GIB, "cpu_seconds": seconds}
        | {"extrapolated_cpu_hours": seconds * n / part / 3600, "blocks": vars(blocks)},
    }
    tenth = n // 10
    start = _from_here(resident())
    limit = start + 8 * GIB // 10
    blocks = blocks_for(limit, tenth, tenth, dimensions, K, bytes_per_value=2)
    clock = time.process_time()
    room.search(x[:tenth], y[:tenth], K, chosen, blocks=blocks)
    result["tenth"] = {
        "limit_above_start_gib": 0.8,
        "peak_above_start_gib": (_peak() - start) / GIB,
        "kept": _peak() <= limit,
        "cpu_seconds": time.process_time() - clock,
    }
    print(json.dumps(result, indent=1))


def _loaded(n: int, m: int, dimensions: int) -> Any:
    """The way that is chosen, with its libraries loaded and set up: they are no part of what a search takes."""
    from adapterstilts.retrieval.search import plan_search

    way = plan_search(n, m, dimensions)
    search(np.ones((64, 64), np.float32), np.ones((64, 64), np.float32), way)
    return way


def _from_here(held: int) -> int:
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is none of the search
    return held


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=Path, metavar="FOLDER")
    parser.add_argument("--way", nargs=2, metavar=("WAY", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        one_way(options.way[0], Path(options.way[1]))
    elif options.large:
        large(options.large)
    else:
        print(json.dumps(memory_row(10_000, 1024), indent=1))
