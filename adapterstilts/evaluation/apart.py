"""Streaming prediction where rows have modules of their own: one forward of the base, each row with its composition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapterstilts.encoder.batch import Batch, by_length, collate, lengths_of
from adapterstilts.modules.attach import Adapted


@torch.no_grad()
def outputs_apart(
    adapted: Adapted, heads: Sequence[Any], arrays: Any, chosen: NDArray[np.int64]
) -> Iterator[list[NDArray[np.float32]]]:
    """The logits of each example's rows, examples in their own order; all are held.

    Args:
        adapted: with several compositions active (``activate_apart``).
        heads: of each of these compositions.
        chosen: for each example, which of them answers it.
    """
    adapted.train_mode(False)
    found: dict[int, list[NDArray[np.float32]]] = {}

    def batch_of(examples: NDArray[np.int64]) -> Batch:
        made = collate(arrays.ids, arrays.rows, arrays.examples, arrays.fields, examples, pad_id=adapted.base.pad_id)
        return made.to(adapted.model.device)

    for part in by_length(lengths_of(arrays.rows, arrays.examples), adapted.engine.tokens):
        batch = batch_of(part)
        groups = [np.flatnonzero(chosen[part] == number) for number in range(len(heads))]
        tokens = [_tokens(batch, group) for group in groups]
        states = adapted.encode_apart(batch, tokens)
        for head, group, own in zip(heads, groups, tokens, strict=True):
            if not len(group):
                continue
            head.eval()
            alone = batch_of(part[group])
            # The same rows lie in another order there.
            mine = torch.empty_like(own)
            mine[_tokens(alone, np.arange(len(group)))] = own
            rows = [row.float().cpu().numpy() for row in head.outputs(head(states[mine], alone), alone)]
            for place, example in enumerate(part[group]):
                found[int(example)] = rows[int(alone.examples[place]) : int(alone.examples[place + 1])]
    yield from (found[example] for example in range(len(chosen)))


def _tokens(batch: Batch, examples: NDArray[np.int64]) -> Tensor:
    """Where the tokens of some examples of a batch are, row by row."""
    rows = [row for e in examples for row in range(int(batch.examples[e]), int(batch.examples[e + 1]))]
    starts, lengths = batch.starts.tolist(), batch.lengths.tolist()
    places = [torch.arange(starts[row], starts[row] + lengths[row]) for row in rows]
    return torch.cat(places or [torch.empty(0, dtype=torch.int64)]).to(batch.ids.device)
