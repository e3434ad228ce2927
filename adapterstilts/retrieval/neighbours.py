"""Sentence vectors made comparable, and what a search finds among them.

The caller's arrays are never changed (trap: FAISS's own ``normalize_L2`` works in place); they may be memory-mapped and
of any float type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import DataError
from adapterstilts.retrieval.budget import forget

Vectors = NDArray[np.floating[Any]]
Similarities = NDArray[np.float32]
Indices = NDArray[np.int64]

_READ_ROWS = 1024  # of memory-mapped vectors that are copied at a time
_PART = 2048  # rows whose lengths are taken at a time


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of each source in the targets and of each target in the sources, nearest first.

    ``similarities`` [n, k] and ``indices`` [n, k] belong to sources; ``back_similarities`` and ``back_indices``
    [m, k'] to targets; k is at most the number of rows on the other side. ``how`` names the way they were found.
    """

    similarities: Similarities
    indices: Indices
    back_similarities: Similarities
    back_indices: Indices
    how: str


def unit(vectors: Vectors) -> NDArray[np.float32]:
    """A contiguous float32 copy with rows of length 1; zero rows stay zero, as in FAISS.

    Memory-mapped vectors are read part by part, and no page of them stays in memory.
    """
    copy = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), _READ_ROWS):
        copy[start : start + _READ_ROWS] = vectors[start : start + _READ_ROWS]
        forget(vectors)
    copy *= inverse_lengths(copy)[:, None]
    return copy


def center(vectors: Vectors) -> NDArray[np.float32]:
    """Sentences minus the mean of their own language, then of length 1: takes out what a language shares.

    Multilingual encoders keep language identity in such a constant offset. Uses no labels and no other language.
    """
    copy = np.array(vectors, dtype=np.float32, order="C")
    copy -= np.mean(vectors, axis=0, dtype=np.float64).astype(np.float32)
    copy *= inverse_lengths(copy)[:, None]
    return copy


def checked(queries: Vectors, corpus: Vectors, k: int) -> int:
    """k, at most the number of corpus rows.

    Raises:
        DataError: shapes that cannot be compared, an empty side, k below 1.
    """
    if queries.ndim != 2 or corpus.ndim != 2 or queries.shape[1] != corpus.shape[1]:
        raise DataError(
            f"embeddings of shapes {queries.shape} and {corpus.shape} cannot be compared",
            why="both sides need one vector a sentence, from the same base and layer",
            fix="embed both sides with the same module and layer",
        )
    if not len(queries) or not len(corpus) or k < 1:
        raise DataError(
            f"no neighbours to find: {len(queries)} sentences against {len(corpus)}, k = {k}",
            why="a side of the bitext is empty, or k is below 1",
            fix="check the data of this language and the number of neighbours",
        )
    return min(k, len(corpus))


def inverse_lengths(vectors: Vectors) -> NDArray[np.float32]:
    """1 / length of each row, 0 of a zero row.

    Raises:
        DataError: NaN or infinity among them.
    """
    lengths = np.empty(len(vectors), np.float32)
    for i in range(0, len(vectors), _PART):
        block = np.asarray(vectors[i : i + _PART], np.float32)
        lengths[i : i + _PART] = np.sqrt(np.einsum("nd,nd->n", block, block))
    if not np.isfinite(lengths).all():
        raise DataError(
            f"embedding {int(np.argmin(np.isfinite(lengths)))} holds NaN or infinity",
            why="the encoder overflowed, or the file was cut short",
            fix="embed again with precision: fp32",
        )
    return np.where(lengths > 0, 1 / np.maximum(lengths, np.finfo(np.float32).tiny), 0).astype(np.float32)
