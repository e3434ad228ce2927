"""Memory: what a search takes, and the block sizes that keep it below a limit.

Every size here is of the whole process, as the operating system counts it (resident, mapped pages included).
"""

from __future__ import annotations

import gc
import mmap
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import BudgetError

SLACK = 64 * 2**20  # libraries' own buffers: BLAS, FAISS, thread stacks
TILES = 32 * 2**20  # the one-pass search's scores of a tile, its maxima and candidates
SMALLEST = 256  # rows of a block below which a search would only read


@dataclass(frozen=True)
class Blocks:
    """Rows that a search holds at a time as float32: of queries, of the corpus, and of the one-pass search's side."""

    queries: int = 16_384
    corpus: int = 131_072
    held: int = 8_192


def resident() -> int:
    """Bytes of this process that are in memory now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # not Linux: the largest so far is the safe side
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget(vectors: NDArray[Any]) -> None:
    """Let the pages of a memory-mapped array go; the data stays in its file, and nothing happens to other arrays."""
    base: Any = vectors
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        base.madvise(mmap.MADV_DONTNEED)


def blocks_for(
    limit: int, n: int, m: int, dimensions: int, k: int, *, bytes_per_value: int = 4, held: int | None = None
) -> Blocks:
    """The largest blocks with which a search of n by m vectors, and the mining after it, stay below ``limit`` bytes.

    Args:
        held: bytes that the process holds anyway; default what it holds now.

    Raises:
        BudgetError: not even the smallest blocks fit.
    """
    gc.collect()
    used = resident() if held is None else held
    # Neighbours (similarities, indices, and the copies of a merge), margin scores in float64, ranked lists and pairs.
    results = (n + m) * (k * (12 * 2 + 8 * 4) + 200)
    free = limit - used - results - SLACK - TILES
    row = dimensions * (4 + 4 + bytes_per_value)  # normalised, FAISS's copy, and the mapped pages it came from
    if free < 3 * SMALLEST * row:
        least = used + results + SLACK + TILES + 3 * SMALLEST * row
        raise BudgetError(
            f"{n} x {m} sentences do not fit into {size(limit)}",
            why=f"the process holds {size(used)}, the results take {size(results)}, the smallest blocks "
            f"{size(SLACK + TILES + 3 * SMALLEST * row)}",
            fix=f"--max-memory {-(-least // 2**20)}MiB, or fewer sentences at a time",
        )
    whole = Blocks()
    rows = free // row
    return Blocks(
        queries=max(SMALLEST, min(whole.queries, rows // 4)),
        corpus=max(SMALLEST, min(whole.corpus, rows // 2)),
        held=max(SMALLEST, min(whole.held, rows // 2)),
    )


def tokens_for(limit: int, width: int, inner: int, most: int = 4096, least: int = 514) -> int:
    """The token budget of an encoding batch that stays below ``limit`` bytes with the model that is loaded.

    Raises:
        BudgetError: not even the longest sentence fits.
    """
    gc.collect()
    # Live at the same time in a layer: hidden states in and out, queries, keys, values, the two inner states.
    per_token = 4 * (12 * width + 3 * inner)
    free = limit - resident() - SLACK
    if free < least * per_token:
        raise BudgetError(
            f"encoding does not fit into {size(limit)}",
            why=f"the process with its model holds {size(resident())}, {least} tokens take {size(least * per_token)}",
            fix=f"--max-memory {-(-(resident() + SLACK + least * per_token) // 2**20)}MiB",
        )
    return int(min(most, free // per_token))


def size(number: int) -> str:
    """Bytes for people."""
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def refuse_model(limit: int, directory: Path | None) -> None:
    """Refuse a base whose weights alone do not fit, before they are loaded.

    Raises:
        BudgetError: they do not.
    """
    weights = sum(path.stat().st_size for path in directory.glob("*.safetensors")) if directory else 0
    if (least := resident() + weights + SLACK) > limit:
        raise BudgetError(
            f"the base does not fit into {size(limit)}",
            why=f"its weights take {size(weights)}, the process without it {size(resident())}",
            fix=f"--max-memory {-(-least // 2**20)}MiB or more",
        )
