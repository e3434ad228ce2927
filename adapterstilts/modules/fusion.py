"""Fusion: how much of each frozen module is used, learned per layer and, with a gate, per token.

    fuse(a, b, ...)(x) = sum_m alpha_m(x) * output_m(x),   alpha = softmax over the modules

``weights`` learns one alpha per layer, ``gate`` a linear map of the input on top of it (the default), ``attention``
is AdapterFusion (Pfeiffer et al. 2021, arXiv 2005.00247), for bottlenecks only. All start as the even mixture.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """alpha over ``count`` modules from an input of ``width``; width 0 gives weights that see no input."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(count))
        self.weight = nn.Parameter(torch.zeros(count, width)) if width else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., count), summing to 1."""
        if self.weight is None:
            return torch.softmax(self.bias, dim=-1).expand(*x.shape[:-1], -1)
        return torch.softmax(nn.functional.linear(x, self.weight, self.bias), dim=-1)

    def mix(self, x: Tensor, outputs: list[Tensor]) -> Tensor:
        """Weighted sum of the modules' outputs, each (..., d)."""
        alpha: Tensor = self(x)
        mixed = outputs[0] * alpha[..., 0:1]
        for index, output in enumerate(outputs[1:], start=1):
            mixed = mixed + output * alpha[..., index : index + 1]
        return mixed


class GateFusion(nn.Module):
    """A gate with the call of adapters' fusion layer, so that it can stand in its place."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, query: Tensor, key: Tensor, value: Tensor, residual: Tensor, **_: Any) -> Tensor:
        """query (1, T, d), value (1, T, modules, d), residual (1, T, d) -> (1, T, d)."""
        alpha: Tensor = self.gate(query)
        return (alpha.unsqueeze(-1) * value).sum(dim=2) + residual


def start_attention(layer: Any) -> None:
    """Start AdapterFusion as the even mixture of its modules: equal scores, identity values.

    The library starts with random scores and 1e-6 off the diagonal, so that a fusion of one is not quite its module.
    """
    with torch.no_grad():
        nn.init.zeros_(layer.query.weight)
        nn.init.zeros_(layer.query.bias)
        nn.init.eye_(layer.value.weight)
