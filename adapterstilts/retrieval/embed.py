"""Sentence embeddings of every layer in one pass, stopping at the highest layer asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from adapterstilts.encoder.batch import by_length, collate, lengths_of
from adapterstilts.encoder.heads import pool
from adapterstilts.modules.attach import Adapted


def embed(
    adapted: Adapted,
    arrays: Any,
    layers: Sequence[int],
    *,
    pooling: Literal["mean", "cls"] = "mean",
    limit: int | None = None,
    tokens: int = 4096,
    progress: Callable[[float], None] | None = None,
) -> NDArray[np.float32]:
    """Embeddings (layers, sentences, d) in the order of ``layers``.

    Pooling takes in ``<s>`` and ``</s>``, as XTREME and jiant do. Layer 0 is the embedding output.
    """
    adapted.train_mode(False)
    count = min(limit or len(arrays), len(arrays))
    place = {layer: index for index, layer in enumerate(layers)}
    result = np.empty((len(layers), count, adapted.base.width), dtype=np.float32)
    done = 0
    for chosen in by_length(lengths_of(arrays.rows, arrays.examples)[:count], tokens):
        batch = collate(arrays.ids, arrays.rows, arrays.examples, {}, chosen, pad_id=adapted.base.pad_id)
        batch = batch.to(adapted.model.device)
        with torch.no_grad():
            for layer, hidden in enumerate(adapted.layers(batch, stop=max(layers))):
                if layer in place:
                    result[place[layer], chosen] = pool(hidden, batch, pooling).cpu().numpy()
        done += len(chosen)
        if progress is not None:
            progress(done / count)
    return result
