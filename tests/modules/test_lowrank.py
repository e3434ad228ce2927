"""A mixture of low-rank outputs is the mixture of the outputs: values and gradients, and AdapterFusion's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.forward import End, Linear
from adapterstilts.modules.fusion import Product, make_mixture
from tests.modules.conftest import fresh_base, random_batch, tiny_directory, trained  # noqa: F401

WIDTH, RANK, TOKENS = 48, 6, 11


def products(count: int, shifted: bool) -> list[Product]:
    generator = torch.Generator().manual_seed(count)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    return [
        Product(drawn(1, TOKENS, RANK + m), drawn(WIDTH, RANK + m), drawn(WIDTH) if shifted else None)
        for m in range(count)
    ]


@pytest.mark.parametrize("how", ["gate", "weights", "attention"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("count", [1, 3, 9])
def test_mixed_before_the_up_projection(how, shifted, count):  # type: ignore[no-untyped-def]
    """In double precision: random scores saturate the softmax, which turns fp32's last digits into larger ones."""
    found = []
    for low in (True, False):
        torch.manual_seed(0)
        mixture = make_mixture(how, WIDTH, count).double()
        for parameter in mixture.parameters():
            parameter.data.normal_(0.0, 0.2)
        x = torch.randn(1, TOKENS, WIDTH, dtype=torch.float64, requires_grad=True)
        parts = products(count, shifted)
        dense = [torch.matmul(p.inner, p.up.T) + (0 if p.shift is None else p.shift) for p in parts]
        mixed = mixture.mix(x, parts if low else dense)
        mixed.square().sum().backward()
        leaves = [x, *mixture.parameters(), *(t for p in parts for t in (p.inner, p.up, p.shift) if t is not None)]
        found.append((mixed.detach(), torch.cat([t.grad.flatten() for t in leaves if t.grad is not None])))
    for low, dense in zip(*found, strict=True):
        assert float((low - dense).norm() / dense.norm()) < 1e-12


@pytest.mark.parametrize("kind", ["lora", "rslora", "seq_bn", "double_seq_bn"])
def test_fusions_of_low_rank_modules_take_this_way(fresh_base, kind, monkeypatch):  # type: ignore[no-untyped-def] # noqa: F811
    # Random LoRAs at the usual scale (8 for rslora) drown the base, and gradients of 1000 say more of rounding.
    scale = {} if "bn" in kind else {"alpha": 4}
    weights = {name: trained(fresh_base(), kind, number, **scale) for number, name in enumerate("abc")}
    trees = ["fuse(a, b, c)"] + (["fuse(a, b, c, how=attention)"] if "bn" in kind else ["fuse(0.5*a, b, c)"])
    batch = random_batch()
    for tree in trees:
        used: list[bool] = []
        found = []
        for low in (True, False):
            with monkeypatch.context() as patch:
                for place in (Linear, End):
                    own = place.product

                    def product(self, name, state, own=own, low=low, used=used):  # type: ignore[no-untyped-def]
                        made = own(self, name, state)
                        used.append(made is not None)
                        return made if low else None

                    patch.setattr(place, "product", product)
                adapted = Adapted(fresh_base(), weights, parse(tree), train=frozenset("c"))
                states = adapted.encode(batch)
                states.square().sum().backward()
            every = [p.grad.flatten() for p in adapted.trainable().values() if p.grad is not None]
            found.append((states.detach(), torch.cat(every)))
        assert any(used)
        for one, other in zip(*found, strict=True):
            assert float((one - other).norm() / other.norm()) < 1e-5
