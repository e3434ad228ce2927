"""Ways to compute attention inside each row of unpadded tokens, and which one is used where.

    grouped   one rectangular call for each group of equally long rows: no padding, few groups on short texts
    padded    one call over padded rows with a mask, while all linear layers stay unpadded: two copies more, one launch
    varlen    torch's kernel for rows of any length; CUDA, half precision, no dropout

On a CPU ``grouped`` is the fastest measured; the rules for GPUs follow from the kernels' limits and are not measured.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from adapterstilts.encoder.batch import Batch
from adapterstilts.encoder.dropout import drawn
from adapterstilts.errors import StageFailed

HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Rule:
    """``way`` is taken where all of this holds; None: whatever it is."""

    way: str
    device: str | None = None
    half: bool | None = None
    dropout: bool | None = None
    most_groups: int | None = None


RULES = (
    Rule("grouped", device="cpu"),
    Rule("varlen", device="cuda", half=True, dropout=False),
    Rule("grouped", most_groups=4),  # as few launches as padding needs, and nothing is wasted
    Rule("padded"),
)


def choose(device: torch.device, dtype: torch.dtype, dropout: float, groups: int) -> str:
    """The way of the first rule that holds."""
    return next(
        rule.way
        for rule in RULES
        if rule.device in (None, device.type)
        and rule.half in (None, dtype in HALF)
        and rule.dropout in (None, dropout > 0)
        and (rule.most_groups is None or groups <= rule.most_groups)
        and (rule.way != "varlen" or _has_varlen())
    )


@cache
def _has_varlen() -> bool:
    try:
        return importlib.util.find_spec("torch.nn.attention.varlen") is not None
    except ModuleNotFoundError:
        return False


class Way(Protocol):
    """query, key, value (T, heads, d_head) of a batch's tokens -> (T, heads, d_head)."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, batch: Batch, **options: Any) -> Tensor: ...


def grouped(query: Tensor, key: Tensor, value: Tensor, batch: Batch, **options: Any) -> Tensor:
    """Group by group."""
    return _by_group(query, [rows * length for _, rows, length in batch.groups], key, value, batch, **options)


def firsts(query: Tensor, key: Tensor, value: Tensor, batch: Batch, **options: Any) -> Tensor:
    """query (R, heads, d_head) of the rows' first tokens, in the order they lie; key and value of all tokens."""
    return _by_group(query, [rows for _, rows, _ in batch.groups], key, value, batch, **options)


def _by_group(query: Tensor, asking: list[int], key: Tensor, value: Tensor, batch: Batch, **options: Any) -> Tensor:
    # Split, not slices: the gradient of a split is one concatenation, that of each slice a full tensor of zeros.
    sizes = [rows * length for _, rows, length in batch.groups]
    cuts = zip(*(torch.split(t, n) for t, n in ((query, asking), (key, sizes), (value, sizes))), strict=True)
    parts = []
    for (_, rows, _), cut in zip(batch.groups, cuts, strict=True):
        q, k, v = (part.view(rows, -1, *part.shape[1:]).transpose(1, 2) for part in cut)
        parts.append(_attend(q, k, v, **options).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts)


def padded(query: Tensor, key: Tensor, value: Tensor, batch: Batch, **options: Any) -> Tensor:
    """All rows in one call, padded to the longest; what is padded is attended to by nobody."""
    begins, lengths = batch.in_order()
    column = torch.arange(max(length for _, _, length in batch.groups), device=query.device)
    real = column < lengths[:, None]  # (R, longest)
    index = torch.where(real, begins[:, None] + column, 0)
    q, k, v = (tensor[index].transpose(1, 2) for tensor in (query, key, value))  # (R, heads, longest, d_head)
    return _attend(q, k, v, attn_mask=real[:, None, None], **options).transpose(1, 2)[real]


def varlen(query: Tensor, key: Tensor, value: Tensor, batch: Batch, **options: Any) -> Tensor:
    """torch.nn.attention.varlen, forward and backward.

    Raises:
        StageFailed: no GPU, full precision, or dropout inside the attention.
    """
    if not query.is_cuda or query.dtype not in HALF or options.get("dropout_p"):
        where = f"{query.dtype} on {query.device.type}, attention dropout {options.get('dropout_p', 0.0)}"
        why = "its kernel is for CUDA and half precision, without dropout"
        raise StageFailed(f"attention `varlen` for {where}", why=why, fix="engine.attention: auto")
    from torch.nn.attention.varlen import varlen_attn

    begins, lengths = batch.in_order()
    ends = functional.pad((begins + lengths).int(), (1, 0))
    longest = max(length for _, _, length in batch.groups)
    q, k, v = (tensor.contiguous() for tensor in (query, key, value))
    found = varlen_attn(q, k, v, ends, ends, longest, longest, scale=options.get("scale"))
    assert isinstance(found, Tensor)  # a pair only when more is asked for
    return found


def _attend(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """One rectangular call, (rows, heads, length, d_head) each."""
    dropout = options.get("dropout_p") or 0.0
    known = not options.keys() - {"dropout_p", "scale"} and query.device.type == "cpu" and torch.is_grad_enabled()
    if known and (dropout or query.dtype in HALF):
        scale = options.get("scale") or query.shape[-1] ** -0.5
        found: Tensor = _WeightsAgain.apply(query, key, value, scale, dropout)  # type: ignore[no-untyped-call]
        return found
    # The bare function: inside `PackedAttention` it would be intercepted again.
    with torch._C.DisableTorchFunction():
        return functional.scaled_dot_product_attention(query, key, value, **options)


class _WeightsAgain(torch.autograd.Function):
    """Attention on a CPU whose backward pass makes the weights again by matrix products.

    torch's kernel keeps no weights either, but in bf16 its backward pass takes 3 to 6 times as long as this on rows of
    24 to 80 tokens, twice as long on 200, and as long from 384 on (torch 2.13, AMX): on short texts, a quarter of a
    whole step. With dropout torch has no kernel: it keeps the weights, what they are multiplied with, their product,
    and of bf16 all in fp32; this keeps one byte for each weight.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        ctx.scale, ctx.raised = scale, 1 / (1 - dropout)
        if not dropout:
            ctx.save_for_backward(query, key, value)
            with torch._C.DisableTorchFunction():
                return functional.scaled_dot_product_attention(query, key, value, scale=scale)
        weights = torch.softmax(query * scale @ key.mT, -1)
        kept = drawn(weights, dropout)
        ctx.save_for_backward(query, key, value, kept)
        found: Tensor = (weights * kept @ value).mul_(ctx.raised)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, *dropped = ctx.saved_tensors
        query, key, value, gradient = (tensor.contiguous() for tensor in (query, key, value, gradient))
        query, gradient = query * ctx.scale, gradient * ctx.raised
        weights = torch.softmax(query @ key.mT, -1)
        left, to_weights = weights, gradient @ value.mT
        for kept in dropped:
            left, to_weights = weights * kept, to_weights * kept
        scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
        return (scores @ key) * ctx.scale, scores.mT @ query, left.mT @ gradient, None, None


WAYS: Mapping[str, Way] = {"grouped": grouped, "padded": padded, "varlen": varlen}
