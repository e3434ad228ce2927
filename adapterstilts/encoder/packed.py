"""Unpadded execution of a library's encoder, without touching its classes.

The encoder runs on one sequence of all tokens, shape (1, T, d). Linear layers and norms are indifferent to that;
attention is intercepted and computed inside each row (attention.py). If attention ever took another way (eager,
output_attentions), rows would silently see each other: so interceptions are counted and must equal the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from adapterstilts.encoder.attention import WAYS, choose
from adapterstilts.encoder.batch import Batch
from adapterstilts.errors import StageFailed


class PackedAttention(TorchFunctionMode):
    """Inside this context, scaled dot-product attention stays inside each row of the batch.

    Args:
        way: of attention.py; ``auto`` takes that of its rules. The one taken is in ``taken`` afterwards.
    """

    def __init__(self, batch: Batch, way: str = "auto") -> None:
        super().__init__()
        self.batch, self.way = batch, way
        self.calls = 0
        self.taken = ""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            self.calls += 1
            return self._attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        """query, key, value (1, heads, T, d_head) -> (1, heads, T, d_head)."""
        total = len(self.batch.ids)
        if query.shape[0] != 1 or query.shape[2] != total or key.shape[2] != total:
            raise StageFailed(
                "attention of an unexpected shape in unpadded execution",
                why=f"{tuple(query.shape)} for {total} tokens: a method adds or repeats sequences",
                fix="set engine.packed: false",
            )
        own = choose(query.device, query.dtype, dropout_p, len(self.batch.groups))
        self.taken = own if self.way == "auto" else self.way
        q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
        mixed = WAYS[self.taken](q, k, v, self.batch, dropout_p=dropout_p, **options)
        return mixed.transpose(0, 1)[None]

    def check(self, layers: int) -> None:
        """Refuse the result when any layer's attention was not intercepted exactly once."""
        if self.calls != layers:
            raise StageFailed(
                f"{self.calls} attentions were intercepted in {layers} layers",
                why="another attention implementation ran, so packed rows would see each other",
                fix="load the base with attn_implementation='sdpa', or set engine.packed: false",
            )
