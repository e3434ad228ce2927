"""Dropout on a CPU that keeps one byte for each element until the backward pass, where torch keeps a factor.

From one seed the same elements are dropped as by torch. On a GPU torch keeps a byte itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def drawn(like: Tensor, p: float) -> Tensor:
    """1 for what stays when each element is dropped with probability ``p``, of the same shape."""
    # Not booleans: to multiply with those takes twice as long.
    return torch.empty(like.shape, dtype=torch.uint8, device=like.device).bernoulli_(1 - p)


class Dropout(nn.Dropout):
    """In place of a base's own."""

    def forward(self, input: Tensor) -> Tensor:
        """(...) -> (...)."""
        if self.training and 0 < self.p < 1 and input.requires_grad and input.device.type == "cpu":
            found: Tensor = _Kept.apply(input, self.p)  # type: ignore[no-untyped-call]
            return found
        return super().forward(input)


def lean(model: nn.Module) -> None:
    """Every dropout of a model becomes one of these."""
    for path, module in list(model.named_modules()):
        if type(module) is nn.Dropout:
            model.set_submodule(path, Dropout(module.p))


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        kept = drawn(x, p)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - p)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (gradient * kept).mul_(ctx.scale), None
