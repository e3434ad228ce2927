"""Exact nearest neighbours by cosine, both directions of a sentence retrieval task, in bounded memory.

Three ways give the same neighbours: two FAISS searches (``IndexFlatIP``, as LASER and XTREME do), one blocked product
that serves both directions, and the same blocks on a GPU. The caller's arrays are never changed (trap: FAISS's own
``normalize_L2`` works in place); they may be memory-mapped and of any float type.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import DataError, MissingDependency
from adapterstilts.retrieval.budget import Blocks, forget

Vectors = NDArray[np.floating[Any]]
Similarities = NDArray[np.float32]
Indices = NDArray[np.int64]
Way = Literal["faiss", "one_pass", "gpu"]

_BLOCKS = Blocks()
_READ_ROWS = 1024  # of memory-mapped vectors that are copied at a time
_TILE = (512, 2048)  # of the one-pass product: 4 MiB of scores, so that they stay in cache
_GROUP = 8  # scores of a row looked at through their maximum first
# Measured, ns a score on one core: the product, per dimension; picking the best both ways, FAISS's and our own.
_PRODUCT, _FAISS_PICK, _OWN_PICK = 0.0175, 0.9, 2.8
_SMALL = 1_000_000  # scores up to which one product always won


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
    copy *= _inverse_lengths(copy)[:, None]
    return copy


def center(vectors: Vectors) -> NDArray[np.float32]:
    """Sentences minus the mean of their own language, then of length 1: takes out what a language shares.

    Multilingual encoders keep language identity in such a constant offset. Uses no labels and no other language.
    """
    copy = np.array(vectors, dtype=np.float32, order="C")
    copy -= np.mean(vectors, axis=0, dtype=np.float64).astype(np.float32)
    copy *= _inverse_lengths(copy)[:, None]
    return copy


def nearest(
    queries: Vectors,
    corpus: Vectors,
    k: int,
    *,
    threads: int | None = None,
    device: str = "cpu",
    blocks: Blocks | None = None,
) -> tuple[Similarities, Indices]:
    """The k corpus rows nearest to each query by cosine: similarities [n, k] falling, and their indices [n, k].

    k becomes min(k, m). On the CPU through FAISS ``IndexFlatIP`` on normalised copies, block by block; on another
    device through torch in full float32. ``threads`` holds for this FAISS search only. ``blocks`` bounds the memory
    (`budget.blocks_for`) and never changes the result. Raises DataError on unusable shapes, MissingDependency without
    FAISS.
    """
    k = _checked(queries, corpus, k)
    sizes = blocks or _BLOCKS
    block = _faiss_block if device == "cpu" else _torch_block
    similarities = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    with _faiss_threads(threads if device == "cpu" else None):
        for start in range(0, len(queries), sizes.queries):
            asked = unit(queries[start : start + sizes.queries])
            best = _Best(len(asked), k)
            for offset in range(0, len(corpus), sizes.corpus):
                found, places = block(asked, unit(corpus[offset : offset + sizes.corpus]), k, device)
                best.merge(np.arange(len(asked)), found, places + offset)
            similarities[start : start + len(asked)] = best.similarities
            indices[start : start + len(asked)] = best.indices
            del asked  # before the next one is made
    return similarities, indices


def both_directions(x: Vectors, y: Vectors, k: int, *, blocks: Blocks | None = None) -> Neighbours:
    """Neighbours of x in y and of y in x from one product x y^T, tile by tile: each score is computed once.

    Exact. A row of a tile is first looked at through the maxima of groups of scores: the k best scores lie in the k
    groups of highest maximum, and a tile that holds nothing better than the k best so far is left at once.
    Only ``blocks.held`` rows of y and one tile's rows of x are held as float32. NumPy only; its BLAS follows
    OMP_NUM_THREADS.
    """
    forward, backward = _Best(len(x), _checked(x, y, k)), _Best(len(y), _checked(y, x, k))
    held = (blocks or _BLOCKS).held
    rows, columns = _TILE
    for start in range(0, len(y), held):
        kept = unit(y[start : start + held])
        for i in range(0, len(x), rows):
            block = unit(x[i : i + rows])
            for j in range(0, len(kept), columns):
                tile = block @ kept[j : j + columns].T
                height, width = tile.shape
                group = math.gcd(width, _GROUP)
                forward.update(i, tile.reshape(height, group, width // group), start + j)
                group = math.gcd(height, _GROUP)
                backward.update(start + j, tile.reshape(group, height // group, width).transpose(2, 0, 1), i)
        del kept  # before the next one is made
    return Neighbours(forward.similarities, forward.indices, backward.similarities, backward.indices, "one_pass")


def search(
    x: Vectors,
    y: Vectors,
    k: int,
    how: Literal["auto", "faiss", "one_pass", "gpu"] = "auto",
    *,
    threads: int | None = None,
    device: str = "cpu",
    blocks: Blocks | None = None,
) -> Neighbours:
    """Neighbours in both directions; ``auto`` takes the GPU when ``device`` names one, else what measured fastest."""
    if how == "auto":
        how = choose(len(x), len(y), x.shape[1], threads=threads, device=device)
    if how == "one_pass":
        return both_directions(x, y, k, blocks=blocks)
    place = "cpu" if how == "faiss" else device if device != "cpu" else "cuda"
    forward = nearest(x, y, k, threads=threads, device=place, blocks=blocks)
    backward = nearest(y, x, k, threads=threads, device=place, blocks=blocks)
    return Neighbours(*forward, *backward, how)


def choose(n: int, m: int, dimensions: int, *, threads: int | None = None, device: str = "cpu") -> Way:
    """The way expected to be fastest for n x m scores, from costs measured on this code.

    One product saves half of the multiplications, but picks its best on one core: it wins where vectors are long and
    cores are few (1.8 times at 1024 dimensions on one core), FAISS where it has many cores.
    """
    if device != "cpu":
        return "gpu"
    if n * m <= _SMALL:
        return "one_pass"
    try:
        cores = threads or int(faiss_or_refuse().omp_get_max_threads())
    except MissingDependency:
        return "one_pass"
    return "one_pass" if cores * _OWN_PICK < _PRODUCT * dimensions + _FAISS_PICK else "faiss"


class _Best:
    """The k best so far of each row: similarities falling, equal ones by index."""

    def __init__(self, rows: int, k: int) -> None:
        self.similarities = np.full((rows, k), -np.inf, np.float32)
        self.indices = np.full((rows, k), -1, np.int64)

    def merge(self, rows: NDArray[np.int64], similarities: Similarities, indices: Indices) -> None:
        """Bring new candidates [r, c] of some rows in."""
        similarities = np.concatenate((self.similarities[rows], similarities), axis=1)
        indices = np.concatenate((self.indices[rows], indices), axis=1)
        order = np.lexsort((indices, -similarities), axis=1)[:, : self.similarities.shape[1]]
        self.similarities[rows] = np.take_along_axis(similarities, order, axis=1)
        self.indices[rows] = np.take_along_axis(indices, order, axis=1)

    def update(self, start: int, grouped: NDArray[np.float32], offset: int) -> None:
        """Bring a tile in: grouped [r, g, c] holds the scores of row start + r with column offset + g' * c + c'."""
        k = self.similarities.shape[1]
        groups, width = grouped.shape[1:]
        highest = grouped.max(axis=1)
        hit = np.flatnonzero(highest.max(axis=1) > self.similarities[start : start + len(grouped), -1])
        if not hit.size:
            return
        wanted = min(k, width)
        places = np.argpartition(highest[hit], width - wanted, axis=1)[:, width - wanted :]
        members = np.arange(groups)[None, :, None]
        similarities = grouped[hit[:, None, None], members, places[:, None, :]].reshape(len(hit), -1)
        indices = (places[:, None, :] + members * width + offset).reshape(len(hit), -1)
        if similarities.shape[1] > k:
            top = np.argpartition(similarities, similarities.shape[1] - k, axis=1)[:, -k:]
            similarities = np.take_along_axis(similarities, top, axis=1)
            indices = np.take_along_axis(indices, top, axis=1)
        self.merge(start + hit, similarities, indices)


def _checked(queries: Vectors, corpus: Vectors, k: int) -> int:
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


def _inverse_lengths(vectors: Vectors) -> NDArray[np.float32]:
    rows = _TILE[1]
    lengths = np.empty(len(vectors), np.float32)
    for i in range(0, len(vectors), rows):
        block = np.asarray(vectors[i : i + rows], np.float32)
        lengths[i : i + rows] = np.sqrt(np.einsum("nd,nd->n", block, block))
    if not np.isfinite(lengths).all():
        raise DataError(
            f"embedding {int(np.argmin(np.isfinite(lengths)))} holds NaN or infinity",
            why="the encoder overflowed, or the file was cut short",
            fix="embed again with precision: fp32",
        )
    return np.where(lengths > 0, 1 / np.maximum(lengths, np.finfo(np.float32).tiny), 0).astype(np.float32)


def faiss_or_refuse() -> Any:
    """The faiss package. Raises MissingDependency."""
    try:
        import faiss
    except ImportError as error:
        raise MissingDependency(
            "this search needs FAISS", why=str(error), fix="pip install faiss-cpu, or search how: one_pass"
        ) from error
    return faiss


@contextmanager
def _faiss_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    faiss = faiss_or_refuse()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss_block(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int, device: str
) -> tuple[Similarities, Indices]:
    index = faiss_or_refuse().IndexFlatIP(corpus.shape[1])
    index.add(corpus)
    found: tuple[Similarities, Indices] = index.search(queries, min(k, len(corpus)))
    return found


def _torch_block(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int, device: str
) -> tuple[Similarities, Indices]:
    import torch

    places = torch.from_numpy(corpus).to(device)
    found = [
        # Query by query block, so that the score matrix stays below 1 GiB whatever the corpus block.
        torch.topk(torch.from_numpy(part).to(device) @ places.T, min(k, len(corpus)), dim=1)
        for part in np.array_split(queries, max(1, math.ceil(len(queries) / 2048)))
    ]
    similarities = torch.cat([top.values for top in found]).cpu().numpy()
    return similarities, torch.cat([top.indices for top in found]).cpu().numpy()
