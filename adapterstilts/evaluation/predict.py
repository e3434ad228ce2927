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
    done = 0
    for parts in chunks(arrays, adapted.engine.tokens, limit):
        chunk: dict[int, list[NDArray[np.float32]]] = {}
        for part in parts:
            batch = collate(arrays.ids, arrays.rows, arrays.examples, arrays.fields, part, pad_id=adapted.base.pad_id)
            if masking is not None:
                batch = masking.apply(batch, np.random.default_rng([0, int(part.min())]))
            batch = batch.to(adapted.model.device)
            with torch.no_grad():
                rows = [row.float().cpu().numpy() for row in head.outputs(adapted.logits(head, batch), batch)]
            for place, example in enumerate(part):
                chunk[int(example)] = rows[int(batch.examples[place]) : int(batch.examples[place + 1])]
            if progress is not None:
                progress((done + len(chunk)) / count)
        done += len(chunk)
        yield from (chunk[example] for example in sorted(chunk))


def chunks(arrays: Any, tokens: int, limit: int | None = None) -> Iterator[list[NDArray[np.int64]]]:
    """The examples of each batch of each chunk: chunks in order, in them batches of at most ``tokens`` by length."""
    lengths = lengths_of(arrays.rows, arrays.examples)
    count = min(limit or len(arrays), len(arrays))
    for begin in range(0, count, CHUNK):
        indices = np.arange(begin, min(begin + CHUNK, count))
        yield [indices[part] for part in by_length(lengths[indices], tokens)]
