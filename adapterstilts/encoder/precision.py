"""Linear layers of the frozen base with their weights in 8 or 4 bits.

``weight`` is a property that unpacks them, so that what reads a weight (peft's DoRA, a merge) works unchanged, and
no unpacked copy is kept: the backward pass unpacks again. Computation is in bf16.

    int8          one scale a row, round to nearest: 1 byte a weight
    nf4           NormalFloat of 4 bits, one scale each 64 weights (Dettmers et al. 2023, arXiv 2305.14314)
    int8-dynamic  weights and activations in int8, sums in int32: forward only, on a CPU
"""

from __future__ import annotations

import ctypes
import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterstilts.encoder.reference import require_precision
from adapterstilts.errors import StageFailed
from adapterstilts.settings import Precision

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "int8": torch.bfloat16,
    "nf4": torch.bfloat16,
    "int8-dynamic": torch.float32,
}
BLOCK = 64
# It misses an optional kernel on every CPU and says so when it is imported, by whomever.
logging.getLogger("bitsandbytes").setLevel(logging.CRITICAL)


def require(precision: Precision, device: torch.device) -> None:
    """Raises MissingDependency or StageFailed when this precision cannot be had here."""
    require_precision(precision)
    if precision == "int8-dynamic" and device.type != "cpu":
        raise StageFailed("int8-dynamic on a GPU", why="its kernels are for the CPU", fix="use int8, or nf4")


def _bitsandbytes() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from bitsandbytes import functional as found
    return found


def give_back() -> None:
    """Let the C library return what it holds of freed memory; elsewhere than glibc nothing happens.

    While a base is packed, every layer's temporary copies are freed and kept: 1.3 GB for XLM-R Large in nf4.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


class Packed(nn.Linear):
    """A frozen linear layer whose weights lie in fewer bits. peft and adapters see a plain ``nn.Linear``."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = (int(size) for size in weight.shape)
        kept = None if bias is None else nn.Parameter(bias.to(dtype), requires_grad=False)
        self.register_parameter("bias", kept)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        found: Tensor = _Unpacked.apply(input, self)  # type: ignore[no-untyped-call]
        return found


class _Unpacked(torch.autograd.Function):
    """x W^T + b for a W without gradient: backward unpacks W again instead of keeping it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Packed) -> Tensor:
        ctx.layer = layer
        return functional.linear(x, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.weight, None


class Int8(Packed):
    """One scale for each row of W."""

    packed: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__(weight, bias, dtype)
        scale = (weight.float().abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
        self.register_buffer("packed", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale.to(dtype))

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in)."""
        found: Tensor = self.packed * self.scale
        return found


class NF4(Packed):
    """Four bits a weight, one scale for each block of 64."""

    packed: Tensor
    scale: Tensor
    code: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias, torch.bfloat16)
        # Laid out as rows of one block: its CPU kernel (0.50.2) unpacks wrongly where a row is no multiple of a block.
        flat = functional.pad(weight.bfloat16().flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
        packed, state = _bitsandbytes().quantize_4bit(flat, blocksize=BLOCK, quant_type="nf4")
        for name, tensor in (("packed", packed), ("scale", state.absmax), ("code", state.code)):
            self.register_buffer(name, tensor)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in)."""
        library = _bitsandbytes()
        kept = {"absmax": self.scale, "code": self.code, "blocksize": BLOCK, "quant_type": "nf4"}
        shape = torch.Size((len(self.scale), BLOCK))
        state = library.QuantState(shape=shape, dtype=torch.bfloat16, **kept)
        flat: Tensor = library.dequantize_4bit(self.packed, state).flatten()
        return flat[: self.out_features * self.in_features].view(self.out_features, self.in_features)


class Dynamic(Int8):
    """Activations in int8, too, one scale for each token; no gradient can pass."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, bias, torch.float32)

    def forward(self, input: Tensor) -> Tensor:
        """(..., in) -> (..., out).

        Raises:
            StageFailed: a gradient is wanted.
        """
        if torch.is_grad_enabled() and input.requires_grad:
            why = "rounded activations let no gradient through: training would go on, wrongly"
            raise StageFailed("training on a base in int8-dynamic", why=why, fix="use int8, or nf4")
        rows = input.flatten(0, -2)
        scale = (rows.abs().amax(1, keepdim=True) / 127).clamp(min=1e-12)
        sums = torch._int_mm((rows / scale).round().to(torch.int8), self.packed.T)
        found = sums.float() * scale * self.scale.T
        return (found if self.bias is None else found + self.bias).view(*input.shape[:-1], -1)


PACKED: dict[str, Callable[[Tensor, Tensor | None], Packed]] = {"int8": Int8, "nf4": NF4, "int8-dynamic": Dynamic}
