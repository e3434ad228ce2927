"""The word embeddings of a frozen base: only the rows that can occur, and on the device where they should lie.

XLM-R Large has 250 002 rows, 46 % of its parameters; the data of one stage use a few thousand. Looking up fewer rows
gives the same bits. Nothing is written from here: modules, heads and exports never hold word embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapterstilts.errors import StageFailed

CHUNK = 1 << 22  # ids counted at a time


class WordEmbeddings(nn.Module):
    """Rows of a table by subword id.

    Args:
        weight: (rows, d), the rows of ``kept`` in their order.
        kept: ascending ids; None: all of them.
        size: subwords of the whole vocabulary.
        stay: the rows stay where they are when the encoder moves to another device.
    """

    place: Tensor | None

    def __init__(self, weight: Tensor, kept: Tensor | None, size: int, *, stay: bool = False) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.stay = size, int(weight.shape[1]), stay
        self.weight = nn.Parameter(weight, requires_grad=False)
        place = None
        if kept is not None:
            place = torch.full((size,), -1, dtype=torch.int32)
            place[kept] = torch.arange(len(kept), dtype=torch.int32)
        self.register_buffer("place", place, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """ids of any shape -> (..., d) on the device of ``ids``.

        Raises:
            StageFailed: a subword whose row is not held.
        """
        rows = ids.to(self.weight.device)
        if self.place is not None:
            found = self.place[rows]
            if bool((found < 0).any()):
                raise StageFailed(
                    f"subword {int(rows[found < 0][0])} has no embedding here",
                    why=f"{len(self.weight)} of {self.num_embeddings} rows are held: those of the stage's own data",
                    fix="set engine.compact: false",
                )
            rows = found
        return nn.functional.embedding(rows, self.weight).to(ids.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> WordEmbeddings:
        return self if self.stay else super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def golden_ids(size: int, count: int = 24) -> NDArray[np.int64]:
    """Subwords all over a vocabulary, of which every module stores its outputs; their rows are always held."""
    return np.arange(count, dtype=np.int64) * 7919 % (size - 5) + 4


def kept_ids(used: Iterable[NDArray[Any]], config: Any) -> NDArray[np.int64]:
    """The subwords that occur in these arrays, with the special ones and those of the golden outputs; ascending."""
    size = int(config.vocab_size)
    seen = np.zeros(size, dtype=bool)
    seen[golden_ids(size)] = True
    for name in ("bos_token_id", "pad_token_id", "eos_token_id"):
        if (token := getattr(config, name, None)) is not None:
            seen[int(token)] = True
    for ids in used:
        for begin in range(0, len(ids), CHUNK):
            seen[np.asarray(ids[begin : begin + CHUNK])] = True
    return np.flatnonzero(seen)
