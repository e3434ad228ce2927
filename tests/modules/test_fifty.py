"""Fifty modules on one base cost fifty modules, and another composition of them counts within milliseconds."""

from __future__ import annotations

import time

import pytest
import torch

from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.expressions import parse
from tests.conftest import unit

from .conftest import hidden, random_batch, trained

BATCH = random_batch()
NAMES = [f"m{number}" for number in range(50)]


def held(adapted: Adapted) -> int:
    """Bytes of all tensors of the encoder and its modules."""
    tensors = {id(t): t for t in (*adapted.model.parameters(), *adapted.model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


@pytest.mark.parametrize("kind", ["lora", "seq_bn"])
def test_fifty_modules(fresh_base, kind):  # type: ignore[no-untyped-def]
    places = {"sites": ["query", "value"]} if kind == "lora" else {}
    two = [trained(fresh_base(), kind, seed, **places) for seed in (0, 1)]
    modules = {name: two[number % 2] for number, name in enumerate(NAMES)}
    own = sum(tensor.numel() * tensor.element_size() for tensor in modules["m0"].tensors.values())
    several = Adapted(fresh_base(), modules, Leaf("m0"))
    assert held(several) - held(Adapted(fresh_base(), {"m0": modules["m0"]}, None)) == 49 * own
    spent = []
    for name in NAMES[1:8]:
        began = time.process_time()
        several.activate(parse(f"stack(m0, {name})"))
        spent.append(time.process_time() - began)
    assert min(spent) < unit() / 10  # 8 ms where 20,000 JSON round trips take 80
    both = Adapted(fresh_base(), {name: modules[name] for name in ("m0", "m7")}, parse("stack(m0, m7)"))
    torch.testing.assert_close(hidden(several, BATCH), hidden(both, BATCH), atol=1e-5, rtol=1e-4)
