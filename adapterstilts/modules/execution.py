"""Running an adapted encoder: unpadded layer by layer, or padded through the library's own forward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from adapterstilts.encoder.attention import firsts
from adapterstilts.encoder.base import Base
from adapterstilts.encoder.batch import Batch
from adapterstilts.encoder.norms import before_attention, behind_layers
from adapterstilts.encoder.packed import PackedAttention
from adapterstilts.encoder.precision import DTYPES, give_back
from adapterstilts.errors import StageFailed
from adapterstilts.modules import bottleneck
from adapterstilts.settings import EngineSettings

BETWEEN = 4  # layers after which a lean allocator gives back what was freed


class Execution:
    """Batches in, hidden states out, as the engine's settings say; what is active may only run padded."""

    base: Base
    model: Any
    engine: EngineSettings
    packs: bool  # False: a method adds keys to every sequence, so only the padded forward is right
    bottlenecks: bool  # the model holds modules of the adapters library
    ways: set[str]  # of attention, that ran so far
    real: Tensor | None = None  # in a padded forward, which places (rows, width) hold tokens of the batch

    @property
    def packed(self) -> bool:
        """Whether batches run unpadded."""
        return self.engine.packed and self.packs

    def layers(self, batch: Batch, stop: int | None = None) -> Iterator[Tensor]:
        """Hidden states (T, d) in fp32 after the embeddings and after each layer up to ``stop``.

        Nothing above ``stop`` is computed. Layer 0 is the embedding output, as in ``hidden_states`` of transformers.
        What cannot run unpadded runs padded, and whole.
        """
        if not self.packed:
            states = self._padded(batch, all_layers=True)
            yield from states if stop is None else states[: stop + 1]
            return
        yield from (hidden[0].float() for hidden in self.states(batch, stop=stop))

    def states(
        self, batch: Batch, stop: int | None = None, below: tuple[int, Tensor] | None = None
    ) -> Iterator[Tensor]:
        """Hidden states (1, T, d) in the base's own type, unpadded, after the embeddings and each layer up to ``stop``.

        Args:
            below: a layer and its hidden states, to go on from; only what follows is given.
        """
        if below is None:
            level, hidden = 0, self._embedded(batch)
            yield hidden
        else:
            level, hidden = below
        for number, layer in enumerate(self.model.encoder.layer[level:stop], start=level + 1):
            hidden = self._through([layer], hidden, batch)
            yield hidden if number < self.base.layers else behind_layers(self.model, hidden)

    def encode(self, batch: Batch) -> Tensor:
        """(T, d) hidden states of the last layer in fp32.

        Raises:
            StageFailed: segments are to be recomputed, and what is active only runs padded.
        """
        if not self.packed:
            if self.engine.recompute and torch.is_grad_enabled():
                why = "a method adds keys to every sequence, and the library's padded forward is run whole"
                raise StageFailed("recompute for a module that cannot run unpadded", why=why, fix="engine.recompute: 0")
            return self.encode_padded(batch)
        level, hidden = self._begun(batch)
        last = self._all(list(self.model.encoder.layer)[level:], hidden, batch)
        return behind_layers(self.model, last)[0].float()

    def logits(self, head: Any, batch: Batch) -> Tensor:
        """What a head says of a batch; of the last layer only what it reads is computed."""
        if not (self.packed and self.engine.first_only and head.reads_first):
            return head(self.encode(batch), batch)  # type: ignore[no-any-return]
        return head(self.encode_firsts(batch), batch.firsts())  # type: ignore[no-any-return]

    def encode_firsts(self, batch: Batch) -> Tensor:
        """(R, d) hidden states of the last layer in fp32 of the rows' first tokens, and no others."""
        *below, last = self.model.encoder.layer
        level, hidden = self._begun(batch)
        firsts = self._first(last, self._all(below[level:], hidden, batch), batch)
        return behind_layers(self.model, firsts)[0].float()

    def encode_padded(self, batch: Batch) -> Tensor:
        """The same through the library's padded forward: the reference, and the way for what cannot be packed."""
        return self._padded(batch)[-1]

    def _begun(self, batch: Batch) -> tuple[int, Tensor]:
        """A layer and its hidden states (1, T, d): those that the batch brings along, else the embeddings."""
        held = batch.held()
        if held is None:
            return 0, self._embedded(batch)
        level, states = held
        return level, states.view(DTYPES[self.base.precision])[None]

    def _embedded(self, batch: Batch) -> Tensor:
        """(1, T, d)."""
        found: Tensor = self.model.embeddings(
            input_ids=batch.ids[None],
            # Explicit zeros: transformers' own buffer is too short for more than 514 tokens.
            token_type_ids=torch.zeros_like(batch.ids)[None],
            position_ids=batch.positions[None],
        )
        return found

    def _all(self, layers: Sequence[nn.Module], hidden: Tensor, batch: Batch) -> Tensor:
        """Through all these layers; in training, segments keep only their input when the settings say so."""
        again, lean = self.engine.recompute, self.engine.allocator == "lean"
        if not torch.is_grad_enabled() or not (again or lean):
            return self._through(layers, hidden, batch)
        for begin in range(0, len(layers), again or BETWEEN):
            segment = layers[begin : begin + (again or BETWEEN)]
            # The interception is entered inside the segment, so what is computed again runs in it, too.
            hidden = (
                checkpoint(self._segment, segment, hidden, batch, use_reentrant=False)
                if again
                else self._segment(segment, hidden, batch)
            )
        return hidden

    def _segment(self, layers: Sequence[nn.Module], hidden: Tensor, batch: Batch) -> Tensor:
        # What a segment frees lies in pieces between what is kept, too small for the next one: the heap would grow with
        # every segment, where only its input is kept to four times what is alive.
        if hidden.device.type == "cpu":
            give_back()
        return self._through(layers, hidden, batch)

    def _through(self, layers: Sequence[nn.Module], hidden: Tensor, batch: Batch) -> Tensor:
        for layer in layers:
            with PackedAttention(batch, self.engine.attention) as attention, self._running():
                output = layer(hidden, None)
            attention.check(1)
            self.ways.add(attention.taken)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def _first(self, layer: Any, hidden: Tensor, batch: Batch) -> Tensor:
        """One layer for the rows' first tokens alone, (1, R, d): all tokens are attended to, <s> alone attends."""
        attention = layer.attention.self
        order = torch.argsort(batch.starts)

        def heads(states: Tensor) -> Tensor:
            return states[0].view(states.shape[1], attention.num_attention_heads, -1)

        with self._running():
            read = before_attention(layer, hidden)
            query, key, value = attention.query(read[:, batch.starts]), attention.key(read), attention.value(read)
            dropout = attention.dropout_prob if attention.training else 0.0
            mixed = firsts(heads(query)[order], heads(key), heads(value), batch, dropout_p=dropout)
            context = torch.empty_like(query).index_copy(1, order, mixed.flatten(1)[None])
            output: Tensor = layer.feed_forward_chunk(layer.attention.output(context, hidden[:, batch.starts]))
        return output

    def _running(self) -> AbstractContextManager[None]:
        return bottleneck.running(self.model) if self.bottlenecks else nullcontext()

    def _padded(self, batch: Batch, all_layers: bool = False) -> list[Tensor]:
        """(T, d) in fp32 of the last layer, or of the embeddings and every layer."""
        width = int(batch.lengths.max())
        index = batch.starts[:, None] + torch.arange(width, device=batch.ids.device)[None]
        mask = torch.arange(width, device=batch.ids.device)[None] < batch.lengths[:, None]
        ids = torch.where(mask, batch.ids[index.clamp(max=len(batch.ids) - 1)], self.base.pad_id)
        self.real = mask
        output = self.model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=all_layers)
        self.real = None
        states = output.hidden_states if all_layers else (output.last_hidden_state,)
        flat = states[0].new_zeros(len(batch.ids), states[0].shape[-1])
        return [flat.index_copy(0, index[mask], hidden[mask]).float() for hidden in states]
