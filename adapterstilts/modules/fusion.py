"""Fusion: how much of each frozen module is used, learned per layer and, with a gate, per token.

    fuse(a, b, ...)(x) = sum_m alpha_m(x) * added_m(x),   alpha = softmax over the modules

``weights`` learns one alpha per layer, ``gate`` a linear map of the input on top of it (the default), ``attention``
is AdapterFusion (Pfeiffer et al. 2021, arXiv 2005.00247), for bottlenecks only. All start as the even mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Product:
    """What a low-rank module adds, before its up-projection: ``inner`` up^T + ``shift``.

    A mixture of such outputs is one product of the mixed inner parts: nothing of (modules, T, d) is made or kept.
    """

    inner: Tensor  # (..., r)
    up: Tensor  # (d, r)
    shift: Tensor | None = None  # (d,)

    def times(self, weight: float) -> Product:
        """The product with a number."""
        return Product(self.inner * weight, self.up, None if self.shift is None else self.shift * weight)

    def dot(self, other: Tensor) -> Tensor:
        """(..., d) -> (...,): the inner product with what this stands for."""
        score = (torch.matmul(other, self.up) * self.inner).sum(-1)
        return score if self.shift is None else score + torch.matmul(other, self.shift)


Output = Tensor | Product


class Mixture(nn.Module):
    """alpha over what several modules add."""

    def mix(self, x: Tensor, outputs: Sequence[Output]) -> Tensor:
        """The weighted sum of the modules' outputs, each (..., d); ``x`` (..., width) decides the weights."""
        raise TypeError("a mixture says how it mixes")

    def penalty(self) -> Tensor | None:
        """What training adds to the loss for it."""
        return None

    def unevenness(self) -> float:
        """The largest of the parameters that lead away from the even mixture; 0 at the start."""
        raise TypeError("a mixture says where it started")


class Gate(Mixture):
    """alpha over ``count`` modules from an input of ``width``; width 0 gives weights that see no input."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(count))
        self.weight = nn.Parameter(torch.zeros(count, width)) if width else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., count), summing to 1."""
        if self.weight is None:
            return torch.softmax(self.bias, dim=-1).expand(*x.shape[:-1], -1)
        return torch.softmax(functional.linear(x, self.weight, self.bias), dim=-1)

    def mix(self, x: Tensor, outputs: Sequence[Output]) -> Tensor:
        return weighted(self(x), outputs)

    def unevenness(self) -> float:
        return max(float(parameter.detach().abs().max()) for parameter in self.parameters())


class Attention(Mixture):
    """AdapterFusion: scores q(x) . k(output), the mixture mapped by V. Parameters are named as in adapters.

    The key is folded into the query and the value follows the mixture, so that nothing of (modules, d, d) is made;
    equal to the library's order by associativity. It starts with equal scores and V = 1, where the library starts
    with random scores and 1e-6 off the diagonal, so that a fusion of one is exactly its module.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value = nn.Linear(width, width, bias=False)
        with torch.no_grad():
            nn.init.zeros_(self.query.weight)
            nn.init.zeros_(self.query.bias)
            generator = torch.Generator().manual_seed(0)
            self.key.weight.normal_(0.0, 0.02, generator=generator)
            nn.init.zeros_(self.key.bias)
            nn.init.eye_(self.value.weight)

    def forward(self, x: Tensor, outputs: Sequence[Output]) -> Tensor:
        """(..., d) and the modules' outputs -> (..., modules), summing to 1."""
        query = self.query(x)
        folded = functional.linear(query, self.key.weight.T)
        # The key's bias adds the same to every score; it keeps its (zero) gradient.
        same = (query * self.key.bias).sum(-1)
        scores = [o.dot(folded) if isinstance(o, Product) else (folded * o).sum(-1) for o in outputs]
        return torch.softmax(torch.stack([score + same for score in scores], dim=-1), dim=-1)

    def mix(self, x: Tensor, outputs: Sequence[Output]) -> Tensor:
        mixed: Tensor = self.value(weighted(self(x, outputs), outputs))
        return mixed

    def unevenness(self) -> float:
        return max(float(parameter.detach().abs().max()) for parameter in self.query.parameters())

    def penalty(self) -> Tensor:
        """0.01 |V - 1|^2, as in adapters."""
        identity = torch.eye(len(self.value.weight), device=self.value.weight.device)
        return 0.01 * (identity - self.value.weight).square().sum()


def make_mixture(how: str, width: int, count: int) -> Mixture:
    """The even mixture of ``count`` modules that a fusion starts as."""
    return Attention(width) if how == "attention" else Gate(0 if how == "weights" else width, count)


def weighted(alpha: Tensor, outputs: Sequence[Output]) -> Tensor:
    """sum_m alpha[..., m] * outputs[m]; products among them are mixed before their up-projections, in one."""
    shares = list(zip(alpha[..., None].unbind(-2), outputs, strict=True))
    parts = [output * share for share, output in shares if isinstance(output, Tensor)]
    low = [(share, output) for share, output in shares if isinstance(output, Product)]
    if low:
        inner = torch.cat([output.inner * share for share, output in low], dim=-1)
        parts.append(functional.linear(inner, torch.cat([output.up for _, output in low], dim=-1)))
        shifted = [(share, output.shift) for share, output in low if output.shift is not None]
        if shifted:
            shares_of = torch.cat([share for share, _ in shifted], dim=-1)
            parts.append(torch.matmul(shares_of, torch.stack([shift for _, shift in shifted])))
    mixed: Tensor = parts[0]
    for part in parts[1:]:
        mixed = mixed + part
    return mixed
