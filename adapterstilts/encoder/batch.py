"""A batch of sequences laid end to end, without padding.

Rows lie sorted by length, so equally long ones are neighbours and attention sees each group as one rectangular
tensor: no padding, few calls. ``starts`` and ``lengths`` keep the rows' own order for the heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Level = Literal["example", "row", "token", "state"]
HELD = "held:"  # begins the name of a field of hidden states: held:12 are those above 12 layers


@dataclass(frozen=True)
class Batch:
    """T tokens in R rows of E examples.

    Attributes:
        ids: (T,) token ids.
        positions: (T,) XLM-R positions: pad id + 1 + index inside the row.
        starts: (R,) first token of each row.
        lengths: (R,) tokens of each row.
        examples: (E + 1,) example e owns rows examples[e] .. examples[e + 1].
        groups: (offset, rows, length) of equally long rows, in the order of ``ids``.
        fields: what heads need; token fields are (T,), row fields (R,), example fields (E,); state fields (T, d) are
            hidden states that are known already.
    """

    ids: Tensor
    positions: Tensor
    starts: Tensor
    lengths: Tensor
    examples: Tensor
    groups: tuple[tuple[int, int, int], ...]
    fields: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.examples) - 1

    def held(self) -> tuple[int, Tensor] | None:
        """A layer and the hidden states (T, d) above it that came with the data, as they were stored."""
        found = next((name for name in self.fields if name.startswith(HELD)), None)
        return None if found is None else (int(found.removeprefix(HELD)), self.fields[found])

    def in_order(self) -> tuple[Tensor, Tensor]:
        """(starts, lengths) of the rows in the order in which their tokens lie."""
        order = torch.argsort(self.starts)
        return self.starts[order], self.lengths[order]

    def firsts(self) -> Batch:
        """The rows' first tokens as rows of one token, in the rows' own order; token fields lose their meaning."""
        count = len(self.starts)
        return replace(
            self,
            ids=self.ids[self.starts],
            positions=self.positions[self.starts],
            starts=torch.arange(count, device=self.ids.device),
            lengths=torch.ones_like(self.lengths),
            groups=((0, count, 1),),
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("ids", "positions", "starts", "lengths", "examples")}
        return replace(self, **moved, fields={name: value.to(device) for name, value in self.fields.items()})


def collate(
    ids: NDArray[np.int32],
    rows: NDArray[np.int64],
    examples: NDArray[np.int64],
    fields: Mapping[str, tuple[Level, NDArray[np.generic]]],
    chosen: Sequence[int] | NDArray[np.int64],
    *,
    pad_id: int,
) -> Batch:
    """The chosen examples of tokenised arrays (data/arrays.py) as one unpadded batch."""
    row_index = np.concatenate([np.arange(examples[e], examples[e + 1]) for e in chosen])
    counts = np.array([examples[e + 1] - examples[e] for e in chosen])
    begins, lengths = rows[row_index], rows[row_index + 1] - rows[row_index]
    order = np.argsort(lengths, kind="stable")
    starts = np.empty(len(order), dtype=np.int64)
    starts[order] = np.concatenate([[0], np.cumsum(lengths[order])[:-1]])
    within = np.concatenate([np.arange(n) for n in lengths[order]])
    token_index = np.repeat(begins[order], lengths[order]) + within
    own = np.asarray(chosen, dtype=np.int64)
    index = {"token": token_index, "state": token_index, "row": row_index, "example": own}
    return Batch(
        ids=torch.from_numpy(ids[token_index].astype(np.int64)),
        positions=torch.from_numpy(within + pad_id + 1),
        starts=torch.from_numpy(starts),
        lengths=torch.from_numpy(lengths),
        examples=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        groups=_groups(lengths[order]),
        fields={name: torch.from_numpy(np.array(array[index[level]])) for name, (level, array) in fields.items()},
    )


def joined(batches: Sequence[Batch]) -> tuple[Batch, list[Tensor]]:
    """One batch of the rows of several, first to last, and where the tokens of each are in it, in their own order.

    Fields stay behind.
    """
    lengths = torch.cat([batch.lengths for batch in batches])
    order = torch.argsort(lengths, stable=True)
    starts = torch.empty_like(lengths)
    starts[order] = torch.cumsum(lengths[order], 0) - lengths[order]
    ids, positions = (torch.empty(int(lengths.sum()), dtype=torch.int64, device=lengths.device) for _ in range(2))
    places: list[Tensor] = []
    for batch, begins in zip(batches, torch.split(starts, [len(batch.starts) for batch in batches]), strict=True):
        within = torch.arange(len(batch.ids), device=batch.ids.device)
        # Which row a token of the batch is in: rows lie in the order of their starts.
        row = torch.argsort(batch.starts).repeat_interleave(batch.in_order()[1])
        place = begins[row] + within - batch.starts[row]
        ids[place], positions[place] = batch.ids, batch.positions
        places.append(place)
    examples = torch.cumsum(torch.cat([torch.zeros_like(lengths[:1]), *(b.examples.diff() for b in batches)]), 0)
    groups = _groups(lengths[order].cpu().numpy())
    return Batch(ids, positions, starts, lengths, examples, groups, {}), places


def _groups(lengths: NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    values, counts = np.unique(lengths, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(values * counts)[:-1]])
    return tuple(zip(offsets.tolist(), counts.tolist(), values.tolist(), strict=True))


def by_length(lengths: NDArray[np.int64], tokens: int) -> list[NDArray[np.int64]]:
    """Split examples, sorted by length, into parts of at most ``tokens`` tokens; a longer one stands alone.

    Args:
        lengths: tokens of each example.

    Returns:
        Index arrays that together hold every example once.
    """
    order = np.argsort(lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    parts: list[NDArray[np.int64]] = []
    begin = 0
    while begin < len(order):
        used = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, used + tokens, side="right")))
        parts.append(order[begin:end])
        begin = end
    return parts


def lengths_of(rows: NDArray[np.int64], examples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Tokens per example of tokenised arrays."""
    return np.asarray(rows[examples[1:]] - rows[examples[:-1]])
