"""Approximate search by any FAISS factory string, with its recall measured against exact search on a sample.

``IVF256,Flat``, ``IVF256,SQ8``, ``HNSW32``, ``PCA256,Flat``, ``OPQ16,PQ16`` and so on; search-time parameters follow a
semicolon: ``IVF256,Flat;nprobe=16``. Below about a million sentences exact search is usually as fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from adapterstilts.errors import BudgetError, DataError
from adapterstilts.retrieval.budget import Blocks, forget, size
from adapterstilts.retrieval.neighbours import Indices, Neighbours, Similarities, Vectors, unit
from adapterstilts.retrieval.search import faiss_or_refuse, nearest

TRAIN_ROWS = 65_536  # an index is trained on a sample of at most this many vectors
ASKED = 200  # queries whose neighbours are compared with the exact ones


@dataclass(frozen=True)
class Approximate:
    """Neighbours by an approximate index, and the share of the exact k nearest among them, both ways."""

    neighbours: Neighbours
    recall: float
    back_recall: float
    bytes: int  # of the larger index


def search_approximate(
    x: Vectors, y: Vectors, k: int, index: str, *, room: int | None = None, blocks: Blocks | None = None, seed: int = 0
) -> Approximate:
    """k neighbours of both directions through one index a side, built one after the other.

    Args:
        room: bytes that an index may take.

    Raises:
        DataError: not a factory string, or too few vectors to train it. BudgetError: it would be larger than ``room``.
    """
    forward, recall, taken = nearest_approximate(x, y, k, index, room=room, blocks=blocks, seed=seed)
    backward, back_recall, also = nearest_approximate(y, x, k, index, room=room, blocks=blocks, seed=seed)
    return Approximate(Neighbours(*forward, *backward, index), recall, back_recall, max(taken, also))


def nearest_approximate(
    queries: Vectors,
    corpus: Vectors,
    k: int,
    index: str,
    *,
    room: int | None = None,
    blocks: Blocks | None = None,
    seed: int = 0,
) -> tuple[tuple[Similarities, Indices], float, int]:
    """((similarities, indices) [n, k], recall@k on a sample, bytes of the index).

    Where an index finds fewer than k, the rest has similarity -1 and repeats the first found.
    """
    sizes = blocks or Blocks()
    k = min(k, len(corpus))
    built, taken = _built(corpus, index, room, sizes, seed)
    similarities = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), sizes.queries):
        asked = unit(queries[start : start + sizes.queries])
        similarities[start : start + len(asked)], indices[start : start + len(asked)] = built.search(asked, k)
    missing = indices < 0
    similarities[missing] = -1
    indices[missing] = np.broadcast_to(np.maximum(indices[:, :1], 0), indices.shape)[missing]
    del built
    return (similarities, indices), _recall(queries, corpus, indices, missing, k, sizes, seed), taken


def _built(corpus: Vectors, index: str, room: int | None, sizes: Blocks, seed: int) -> tuple[Any, int]:
    faiss = faiss_or_refuse()
    factory, *parameters = (part.strip() for part in index.split(";"))
    rng = np.random.default_rng(seed)
    count = min(len(corpus), TRAIN_ROWS, sizes.corpus)
    sample = unit(corpus[np.sort(rng.choice(len(corpus), count, replace=False))])
    forget(corpus)
    try:
        built = faiss.index_factory(corpus.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        built.train(sample)
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            faiss.ParameterSpace().set_index_parameter(built, name, float(value))
    except (RuntimeError, ValueError) as error:
        why = str(error).strip().rpartition("Error: ")[2]
        fix = "such as IVF256,Flat;nprobe=16 or HNSW32; a smaller list for fewer sentences"
        raise DataError(f"FAISS cannot make `{index}` of {len(corpus)} sentences", why=why, fix=fix) from error
    # What a vector takes is not stated by every kind of index, so it is measured on parts of the sample.
    measured = min(count, 8192)
    built.add(sample[: measured // 2])
    first = len(faiss.serialize_index(built))
    built.add(sample[measured // 2 : measured])
    second = len(faiss.serialize_index(built))
    slope = (second - first) / max(1, measured - measured // 2)
    taken = int(second + slope * (len(corpus) - measured))
    if room is not None and taken > room:
        raise BudgetError(
            f"an index `{index}` of {len(corpus)} sentences takes {size(taken)}",
            why=f"{size(max(0, room))} of --max-memory are left for it",
            fix="an index with smaller codes (IVF256,SQ8 or OPQ64,PQ64), or exact search, which needs no index",
        )
    del sample
    built.reset()
    for start in range(0, len(corpus), sizes.corpus):
        built.add(unit(corpus[start : start + sizes.corpus]))
    return built, taken


def _recall(queries: Vectors, corpus: Vectors, found: Indices, missing: Any, k: int, sizes: Blocks, seed: int) -> float:
    rng = np.random.default_rng(seed + 1)
    rows = np.sort(rng.choice(len(queries), min(len(queries), ASKED), replace=False))
    _, exact = nearest(queries[rows], corpus, k, blocks=sizes)
    right = sum(
        len(set(exact[i].tolist()) & set(found[row][~missing[row]].tolist())) for i, row in enumerate(rows.tolist())
    )
    return right / exact.size
