"""Unpadded execution of a library's encoder, without touching its classes.

The encoder runs on one sequence of all tokens, shape (1, T, d). Linear layers and norms are indifferent to that;
attention is intercepted and computed group by group of equally long rows. If attention ever took another way
(eager, output_attentions), rows would silently see each other: so interceptions are counted and must equal the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from adapterstilts.encoder.batch import Batch
from adapterstilts.errors import StageFailed


class PackedAttention(TorchFunctionMode):
    """Inside this context, scaled dot-product attention stays inside each row of the batch."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.groups = batch.groups
        self.total = len(batch.ids)
        self.calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            self.calls += 1
            return self._attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **options: Any) -> Tensor:
        """query, key, value (1, heads, T, d_head) -> (1, heads, T, d_head)."""
        if query.shape[0] != 1 or query.shape[2] != self.total or key.shape[2] != self.total:
            raise StageFailed(
                "attention of an unexpected shape in unpadded execution",
                why=f"{tuple(query.shape)} for {self.total} tokens: a method adds or repeats sequences",
                fix="set train.packed: false",
            )
        options["is_causal"] = False
        sizes = [rows * length for _, rows, length in self.groups]
        # Split, not slices: the gradient of a split is one concatenation, that of each slice a full tensor of zeros.
        parts = []
        for (_, rows, length), *cut in zip(
            self.groups, *(torch.split(t[0].transpose(0, 1), sizes) for t in (query, key, value)), strict=True
        ):
            q, k, v = (part.unflatten(0, (rows, length)).transpose(1, 2) for part in cut)
            # The bare function: inside the mode it would be intercepted again.
            with torch._C.DisableTorchFunction():
                part = functional.scaled_dot_product_attention(q, k, v, **options)
            parts.append(part.transpose(1, 2).flatten(0, 1))
        return torch.cat(parts).transpose(0, 1).unsqueeze(0)

    def check(self, layers: int) -> None:
        """Refuse the result when any layer's attention was not intercepted exactly once."""
        if self.calls != layers:
            raise StageFailed(
                f"{self.calls} attentions were intercepted in {layers} layers",
                why="another attention implementation ran, so packed rows would see each other",
                fix="load the base with attn_implementation='sdpa', or set train.packed: false",
            )
