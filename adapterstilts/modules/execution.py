"""Running an adapted encoder: unpadded layer by layer, or padded through the library's own forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from adapterstilts.encoder.base import Base
from adapterstilts.encoder.batch import Batch
from adapterstilts.encoder.packed import PackedAttention
from adapterstilts.modules import bottleneck


class Execution:
    """Batches in, hidden states out. What is active decides whether a batch can run unpadded."""

    base: Base
    model: Any
    packs: bool  # False: a method adds keys to every sequence, so only the padded forward is right
    bottlenecks: bool  # the model holds modules of the adapters library

    def layers(self, batch: Batch, stop: int | None = None) -> Iterator[Tensor]:
        """Hidden states (T, d) in fp32 after the embeddings and after each layer up to ``stop``, unpadded.

        Nothing above ``stop`` is computed. Layer 0 is the embedding output, as in ``hidden_states`` of transformers.
        What cannot run unpadded runs padded, and whole.
        """
        if not self.packs:
            states = self._padded(batch, all_layers=True)
            yield from states if stop is None else states[: stop + 1]
            return
        embedded = self.model.embeddings(
            input_ids=batch.ids[None],
            # Explicit zeros: transformers' own buffer is too short for more than 514 tokens.
            token_type_ids=torch.zeros_like(batch.ids)[None],
            position_ids=batch.positions[None],
        )
        yield embedded[0].float()
        hidden = embedded
        for layer in self.model.encoder.layer[:stop]:
            with PackedAttention(batch) as packed, self._running():
                output = layer(hidden, None)
            packed.check(1)
            hidden = output[0] if isinstance(output, tuple) else output
            yield hidden[0].float()

    def encode(self, batch: Batch) -> Tensor:
        """(T, d) hidden states of the last layer in fp32, unpadded."""
        *_, hidden = self.layers(batch)
        return hidden

    def _running(self) -> AbstractContextManager[None]:
        return bottleneck.running(self.model) if self.bottlenecks else nullcontext()

    def encode_padded(self, batch: Batch) -> Tensor:
        """The same through the library's padded forward: the reference, and the way for what cannot be packed."""
        return self._padded(batch)[-1]

    def _padded(self, batch: Batch, all_layers: bool = False) -> list[Tensor]:
        """(T, d) in fp32 of the last layer, or of the embeddings and every layer."""
        width = int(batch.lengths.max())
        index = batch.starts[:, None] + torch.arange(width, device=batch.ids.device)[None]
        mask = torch.arange(width, device=batch.ids.device)[None] < batch.lengths[:, None]
        ids = torch.where(mask, batch.ids[index.clamp(max=len(batch.ids) - 1)], self.base.pad_id)
        output = self.model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=all_layers)
        states = output.hidden_states if all_layers else (output.last_hidden_state,)
        flat = states[0].new_zeros(len(batch.ids), states[0].shape[-1])
        return [flat.index_copy(0, index[mask], hidden[mask]).float() for hidden in states]

    def encoder(self, packed: bool) -> Callable[[Batch], Tensor]:
        """Packed or padded execution."""
        return self.encode if packed else self.encode_padded
