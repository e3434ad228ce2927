"""Streaming prediction: the head's outputs per example, in order, without ever holding those of a whole data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapterstilts.encoder.batch import by_length, collate, lengths_of
from adapterstilts.encoder.masking import Masking
from adapterstilts.modules.attach import Adapted

CHUNK = 2048  # examples sorted together; outputs of one chunk are all that is held


def outputs(
    adapted: Adapted,
    head: Any,
    arrays: Any,
    *,
    masking: Masking | None = None,
    limit: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[list[NDArray[np.float32]]]:
    """The logits of each example's rows, as formats decode them, examples in their own order.

    Args:
        arrays: tokenised arrays (data/arrays.py).
        masking: of masked_lm; which words are hidden depends on their place in the data alone.
        limit: only the first examples.
    """
    adapted.train_mode(False)
    head.eval()
    count = min(limit or len(arrays), len(arrays))
    lengths = lengths_of(arrays.rows, arrays.examples)
    for begin in range(0, count, CHUNK):
        indices = np.arange(begin, min(begin + CHUNK, count))
        chunk: dict[int, list[NDArray[np.float32]]] = {}
        for part in by_length(lengths[indices], adapted.engine.tokens):
            batch = collate(
                arrays.ids, arrays.rows, arrays.examples, arrays.fields, indices[part], pad_id=adapted.base.pad_id
            )
            if masking is not None:
                batch = masking.apply(batch, np.random.default_rng([0, int(indices[part].min())]))
            batch = batch.to(adapted.model.device)
            with torch.no_grad():
                rows = [row.float().cpu().numpy() for row in head.outputs(adapted.logits(head, batch), batch)]
            for place, example in enumerate(indices[part]):
                chunk[int(example)] = rows[int(batch.examples[place]) : int(batch.examples[place + 1])]
            if progress is not None:
                progress((begin + len(chunk)) / count)
        yield from (chunk[int(example)] for example in indices)
