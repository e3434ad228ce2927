"""States of a base in half precision, raised to fp32 for what trains on them, and kept in half precision.

Autograd keeps a module's input for the gradient of its weights. Of a raised input it would keep the copy in fp32, one
for every place that reads the same states; here it keeps the states and raises them again: the same bits, in half the
bytes or less.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

Raise = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Low:
    """A view of a raised tensor, as the tensor that it was raised from."""

    state: Tensor
    size: torch.Size
    stride: tuple[int, ...]
    offset: int | torch.SymInt

    def raised(self) -> Tensor:
        return self.state.float().as_strided(self.size, self.stride, self.offset)


@contextmanager
def upcasts(like: Tensor, lean: bool = True) -> Iterator[Raise]:
    """A function that raises tensors to fp32; what is computed from them inside this context keeps them unraised.

    Args:
        like: has the precision of what will be raised; for fp32 nothing is done.
        lean: False inside segments that are recomputed: what they keep is freed anyway, and not through these hooks.
    """
    if like.dtype == torch.float32 or not lean or not torch.is_grad_enabled():
        yield Tensor.float
        return
    # The raised ones are held as well, so that no other tensor can get their place in memory meanwhile.
    made: dict[int, tuple[Tensor, Tensor]] = {}

    def raised(state: Tensor) -> Tensor:
        high = state.float()
        if high is not state:
            made[high.untyped_storage().data_ptr()] = high, state.detach()
        return high

    def pack(tensor: Tensor) -> Tensor | Low:
        found = made.get(tensor.untyped_storage().data_ptr())
        return tensor if found is None else Low(found[1], tensor.size(), tensor.stride(), tensor.storage_offset())

    try:
        with saved_tensors_hooks(pack, lambda kept: kept.raised() if isinstance(kept, Low) else kept):
            yield raised
    finally:
        made.clear()  # autograd holds ``pack`` as long as the graph lives
