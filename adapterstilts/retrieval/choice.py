"""Which exact search is the fastest for given sizes: products are timed on this machine, picking the best is known.

On one core with AMX a bf16 product of 1024 dimensions takes an eighth of an fp32 one; without it the same product is
slower than fp32. That cannot be told from the sizes alone, so one tile of each is timed (about 0.1 s, once for each
number of dimensions), and only where the search takes longer than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np

from adapterstilts.errors import MissingDependency

Way = Literal["faiss", "one_pass", "bf16", "gpu"]

SMALL = 50_000_000  # scores up to which one fp32 product takes less than a second: nothing is timed
_TILE = (512, 2048)
# Measured on one core, ns a score: picking the best of both directions. That of one_pass runs on one core, whatever
# their number; that of bf16 takes in preparing the vectors and scoring candidates again.
_PICK = {"faiss": 0.9, "one_pass": 2.8, "bf16": 5.0}


def choose(n: int, m: int, dimensions: int, *, device: str = "cpu") -> Way:
    """The way expected to be fastest for n x m scores of vectors of so many dimensions."""
    if device != "cpu":
        return "gpu"
    if n * m <= SMALL:
        return "one_pass"
    expected = costs(dimensions)
    return min(expected, key=lambda way: expected[way])


@lru_cache
def costs(dimensions: int) -> dict[Way, float]:
    """ns a score, both directions together, of each way that this machine has, with the threads it may use."""
    import torch

    from adapterstilts.retrieval.rescored import PARTS

    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(rows, dimensions)).astype(np.float32) for rows in _TILE)
    product = _timed(lambda: x @ y.T)
    found: dict[Way, float] = {"one_pass": product + _PICK["one_pass"]}
    a, b = torch.from_numpy(x).bfloat16(), torch.from_numpy(y).bfloat16()
    found["bf16"] = _timed(lambda: a @ b.T) + _PICK["bf16"] / min(torch.get_num_threads(), PARTS)
    cores = faiss_threads()
    if cores:
        found["faiss"] = 2 * product + _PICK["faiss"] / cores
    return found


def faiss_threads() -> int:
    """Threads that FAISS uses; 0 where it is not installed."""
    from adapterstilts.retrieval.search import faiss_or_refuse

    try:
        return int(faiss_or_refuse().omp_get_max_threads())
    except MissingDependency:
        return 0


def _timed(product: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):  # the best of them: the first one sets up the library
        start = time.perf_counter()
        product()
        seconds.append(time.perf_counter() - start)
    return 1e9 * min(seconds) / (_TILE[0] * _TILE[1])
