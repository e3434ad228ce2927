"""Dropout on a CPU: what torch draws, torch's gradients, and less kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from adapterstilts.encoder.attention import _attend
from adapterstilts.encoder.base import Base
from adapterstilts.encoder.dropout import Dropout
from tests.modules.conftest import fresh_base, tiny_directory  # noqa: F401

TYPES = {torch.float32: 1e-6, torch.bfloat16: 1e-2}


def kept(run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What a function returns, and the bytes that autograd holds of it."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        found = run()
    return found, sum(held.values())


def relative(found: Tensor, wanted: Tensor) -> float:
    return float(((found - wanted).norm() / wanted.norm()).detach())


@pytest.mark.parametrize("dtype", TYPES)
def test_drops_what_torch_drops_and_keeps_a_byte(dtype: torch.dtype) -> None:
    x, gradient = (torch.randn(1, 37, 64, dtype=dtype) for _ in range(2))
    x.requires_grad_(True)
    torch.manual_seed(3)
    wanted = functional.dropout(x, 0.1)
    own = Dropout(0.1)
    torch.manual_seed(3)
    found, size = kept(lambda: own(x))
    assert torch.equal(found == 0, wanted == 0) and bool((found == 0).any()) and size == x.numel()
    assert relative(found, wanted) < TYPES[dtype]
    assert relative(*(torch.autograd.grad(y, x, gradient)[0] for y in (found, wanted))) < TYPES[dtype]


def test_without_training_everything_passes() -> None:
    x = torch.randn(5, requires_grad=True)
    assert torch.equal(Dropout(0.5).eval()(x), x) and torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("rows", "length"), [(1, 30), (3, 9)])
def test_attention_with_dropout_is_torchs_and_keeps_less(dtype: torch.dtype, rows: int, length: int) -> None:
    query, key, value = (torch.randn(rows, 4, length, 16, dtype=dtype, requires_grad=True) for _ in range(3))
    gradient = torch.randn(rows, 4, length, 16, dtype=dtype)
    torch.manual_seed(5)
    wanted, theirs = kept(lambda: functional.scaled_dot_product_attention(query, key, value, dropout_p=0.2))
    torch.manual_seed(5)
    found, ours = kept(lambda: _attend(query, key, value, dropout_p=0.2))
    assert ours < theirs and relative(found, wanted) < TYPES[dtype]
    pairs = zip(*(torch.autograd.grad(y, (query, key, value), gradient) for y in (found, wanted)), strict=True)
    assert all(relative(own, other) < TYPES[dtype] for own, other in pairs)


def test_every_dropout_of_a_base_is_this_one(fresh_base: Callable[[], Base]) -> None:  # noqa: F811
    found = {type(module) for module in fresh_base().model.modules() if isinstance(module, torch.nn.Dropout)}
    assert found == {Dropout}
