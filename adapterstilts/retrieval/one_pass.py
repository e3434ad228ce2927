"""One blocked fp32 product that serves both directions of a search: each score is computed once. NumPy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from adapterstilts.retrieval.budget import Blocks
from adapterstilts.retrieval.neighbours import Indices, Neighbours, Similarities, Vectors, checked, unit

_TILE = (512, 2048)  # 4 MiB of scores, so that they stay in cache
_GROUP = 8  # scores of a row looked at through their maximum first


def both_directions(x: Vectors, y: Vectors, k: int, *, blocks: Blocks | None = None) -> Neighbours:
    """Neighbours of x in y and of y in x from one product x y^T, tile by tile: each score is computed once.

    Exact. A row of a tile is first looked at through the maxima of groups of scores: the k best scores lie in the k
    groups of highest maximum, and a tile that holds nothing better than the k best so far is left at once.
    Only ``blocks.held`` rows of y and one tile's rows of x are held as float32. NumPy only; its BLAS follows
    OMP_NUM_THREADS.
    """
    forward, backward = Best(len(x), checked(x, y, k)), Best(len(y), checked(y, x, k))
    held = (blocks or Blocks()).held
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


class Best:
    """The k best so far of each row: similarities falling, equal ones by index."""

    def __init__(self, rows: int, k: int) -> None:
        self.similarities = np.full((rows, k), -np.inf, np.float32)
        self.indices = np.full((rows, k), -1, np.int64)

    def merge(self, rows: Indices, similarities: Similarities, indices: Indices) -> None:
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
