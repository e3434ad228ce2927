"""Several modules in one pass over the base: each has the outputs and gradients that it has alone."""

from __future__ import annotations

import pytest
import torch

from adapterstilts.encoder.batch import joined
from adapterstilts.encoder.heads import build_head
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf, Stack
from adapterstilts.settings import EngineSettings
from tests.modules.conftest import fresh_base, random_batch, tiny_directory, trained  # noqa: F401

LENGTHS = [(7, 3, 11, 7, 2), (5,), (11, 9, 3, 2, 30), (7, 7)]


def test_a_joined_batch_holds_the_rows_of_each() -> None:
    batches = [random_batch(seed, lengths) for seed, lengths in enumerate(LENGTHS)]
    whole, places = joined(batches)
    assert len(whole) == sum(map(len, batches)) and sum(n * length for _, n, length in whole.groups) == len(whole.ids)
    assert torch.equal(torch.sort(torch.cat(places))[0], torch.arange(len(whole.ids)))
    rows = iter(zip(whole.starts.tolist(), whole.lengths.tolist(), strict=True))
    for batch, place in zip(batches, places, strict=True):
        assert torch.equal(whole.ids[place], batch.ids) and torch.equal(whole.positions[place], batch.positions)
        for start, length in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True):
            begin, count = next(rows)
            assert count == length and torch.equal(whole.ids[begin : begin + count], batch.ids[start : start + length])
    sizes = [length for _, n, length in whole.groups for _ in range(n)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("format", ["classification", "tagging"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_modules_have_the_gradients_of_themselves_alone(tiny_directory, format, precision):  # type: ignore[no-untyped-def] # noqa: F811
    from adapterstilts.encoder.base import load_base

    def base():  # type: ignore[no-untyped-def]
        return load_base(str(tiny_directory), precision)

    names = {"a": "lora", "b": "seq_bn", "c": "union", "d": "ia3", "under": "double_seq_bn"}
    weights = {name: trained(base(), method, number) for number, (name, method) in enumerate(names.items())}
    trees = [Leaf("a"), Leaf("b"), Stack((Leaf("under"), Leaf("c"))), Leaf("d")]
    torch.manual_seed(0)
    heads = [build_head(format, 32, 3) for _ in trees]
    batches = [random_batch(seed, lengths) for seed, lengths in enumerate(LENGTHS)]

    def gradients(adapted: Adapted, name: str, head: torch.nn.Module) -> torch.Tensor:
        found = [*adapted.tensors(name).values(), *head.parameters()]
        return torch.cat([p.grad.flatten() for p in found if p.grad is not None])

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return torch.sin(torch.arange(logits.numel()) + logits.flatten()).sum()

    both = Adapted(base(), weights, None, engine=EngineSettings())
    both.activate_apart(trees, train=frozenset("abcd"))
    together = [logits for _, logits in both.logits_apart(heads, batches)]
    sum(map(loss, together)).backward()  # type: ignore[union-attr]
    found = [gradients(both, name, head) for name, head in zip("abcd", heads, strict=True)]
    assert all(p.grad is None for p in both.tensors("under").values())
    for name, tree, head, batch, logits, own in zip("abcd", trees, heads, batches, together, found, strict=True):
        alone = Adapted(base(), weights, tree, train=frozenset(name))
        head.zero_grad()
        wanted = alone.logits(head, batch)
        loss(wanted).backward()
        far = 1e-5 if precision == "fp32" else 3e-2
        reference = gradients(alone, name, head)
        assert len(reference) == len(own)
        assert float((logits - wanted).detach().norm() / wanted.detach().norm()) < far, name
        assert float((own - reference).norm() / reference.norm()) < far, name
