"""Every switch of the engine against the plain run: values and all gradients, over formats, methods and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from adapterstilts.encoder.attention import RULES, WAYS, _attend, choose
from adapterstilts.encoder.batch import collate
from adapterstilts.encoder.heads import build_head
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import leaves
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.methods import METHODS
from adapterstilts.settings import EngineSettings
from tests.encoder.test_packed import FORMATS, batch_for
from tests.modules.conftest import fresh_base, tiny_directory, trained  # noqa: F401

PLAIN = EngineSettings(first_only=False)
EXACT = 1e-5  # relative Frobenius error of all gradients in fp32


def gradients(
    base: Any, weights: Any, tree: str, batch: Any, format: str, engine: EngineSettings, **options: Any
) -> Any:
    """(loss, all gradients, the adapted encoder) of one batch."""
    names = sorted(weights)
    adapted = Adapted(base, weights, parse(tree), train=frozenset(names[-1:]), keep_fusion=False, engine=engine)
    adapted.train_mode(True, base_dropout=options.get("base_dropout", False))
    torch.manual_seed(7)
    head = build_head(format, base.width, 3, pool=options.get("pool", "cls"))
    loss, units = head.loss(adapted.logits(head, batch), batch)
    (loss / units).backward()
    every = [p.grad for p in [*adapted.trainable().values(), *head.parameters()]]
    assert all(gradient is not None for gradient in every)
    return float(loss.detach()), torch.cat([gradient.flatten() for gradient in every]), adapted


def assert_same(found: Any, wanted: Any, most: float = EXACT) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=1e-6)
    assert float((found[1] - wanted[1]).norm() / wanted[1].norm()) <= most


@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("modules", [{"a": "lora"}, {"a": "lora", "b": "seq_bn"}, {"a": "compacter"}])
def test_recomputed_segments_give_the_same_bits(fresh_base, size, modules):  # type: ignore[no-untyped-def] # noqa: F811
    weights = {name: trained(fresh_base(), kind, 1) for name, kind in modules.items()}
    tree, batch = f"stack({', '.join(modules)})", batch_for("tagging")
    wanted = gradients(fresh_base(), weights, tree, batch, "tagging", PLAIN)
    found = gradients(fresh_base(), weights, tree, batch, "tagging", EngineSettings(recompute=size))
    assert found[0] == wanted[0] and torch.equal(found[1], wanted[1])


def test_recomputed_segments_keep_less(fresh_base):  # type: ignore[no-untyped-def] # noqa: F811
    weights, batch = {"a": trained(fresh_base(), "lora", 1)}, batch_for("tagging")
    kept = {}
    for size in (0, 1):
        numbers: list[int] = []

        def pack(tensor: torch.Tensor, numbers: list[int] = numbers) -> torch.Tensor:
            numbers.append(tensor.numel())
            return tensor

        adapted = Adapted(
            fresh_base(), weights, parse("a"), train=frozenset("a"), engine=EngineSettings(recompute=size)
        )
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            adapted.encode(batch).sum()
        kept[size] = sum(numbers)
    assert kept[1] < kept[0] / 4


@pytest.mark.parametrize("format", ["classification", "multiple_choice"])
@pytest.mark.parametrize("kind", [name for name, method in METHODS.items() if method.packs])
def test_a_last_layer_of_first_tokens_is_the_whole_one(fresh_base, kind, format):  # type: ignore[no-untyped-def] # noqa: F811
    weights, batch = {"a": trained(fresh_base(), kind, 1)}, batch_for(format)
    wanted = gradients(fresh_base(), weights, "a", batch, format, PLAIN)
    assert_same(gradients(fresh_base(), weights, "a", batch, format, EngineSettings()), wanted)


@pytest.mark.parametrize("tree", ["stack(a, b)", "fuse(a, b)", "stack(fuse(a, b), c)"])
@pytest.mark.parametrize("kind", ["lora", "seq_bn"])
def test_a_last_layer_of_first_tokens_in_compositions(fresh_base, tree, kind):  # type: ignore[no-untyped-def] # noqa: F811
    weights = {name: trained(fresh_base(), kind, ord(name)) for name in leaves(parse(tree))}
    batch = batch_for("classification")
    wanted = gradients(fresh_base(), weights, tree, batch, "classification", PLAIN)
    assert_same(gradients(fresh_base(), weights, tree, batch, "classification", EngineSettings()), wanted)


def test_other_heads_get_every_token(fresh_base):  # type: ignore[no-untyped-def] # noqa: F811
    weights = {"a": trained(fresh_base(), "lora", 1)}
    for format, pool in (
        ("tagging", "cls"),
        ("span", "cls"),
        ("classification", "mean"),
        ("classification", "cls_mean"),
    ):
        batch = batch_for(format)
        wanted = gradients(fresh_base(), weights, "a", batch, format, PLAIN, pool=pool)
        found = gradients(fresh_base(), weights, "a", batch, format, EngineSettings(), pool=pool)
        assert found[0] == wanted[0] and torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("modules", [{"a": "lora"}, {"a": "seq_bn"}])
def test_padded_attention_under_unpadded_linears(fresh_base, format, modules):  # type: ignore[no-untyped-def] # noqa: F811
    weights = {name: trained(fresh_base(), kind, 1) for name, kind in modules.items()}
    batch = batch_for(format)
    wanted = gradients(fresh_base(), weights, "a", batch, format, PLAIN)
    found = gradients(fresh_base(), weights, "a", batch, format, EngineSettings(attention="padded", first_only=False))
    assert_same(found, wanted)
    assert wanted[2].ways == {"grouped"} and found[2].ways == {"padded"}


@pytest.mark.parametrize(
    ("device", "dtype", "dropout", "groups", "way"),
    [
        ("cpu", torch.float32, 0.0, 90, "grouped"),
        ("cpu", torch.bfloat16, 0.1, 90, "grouped"),
        ("cuda", torch.bfloat16, 0.0, 90, "varlen"),
        ("cuda", torch.bfloat16, 0.0, 1, "varlen"),
        ("cuda", torch.bfloat16, 0.1, 90, "padded"),
        ("cuda", torch.float32, 0.0, 90, "padded"),
        ("cuda", torch.float32, 0.0, 3, "grouped"),
    ],
)
def test_the_way_of_attention_follows_the_rules(device, dtype, dropout, groups, way):  # type: ignore[no-untyped-def]
    assert choose(torch.device(device), dtype, dropout, groups) == way
    assert {rule.way for rule in RULES} == set(WAYS)


@pytest.mark.parametrize("lengths", [(1,), (512,), (1, 512), (1, 2, 3, 64, 64, 511), tuple(range(1, 40))])
@pytest.mark.parametrize("kind", ["lora", "seq_bn"])
def test_ragged_rows_alone_and_together(tmp_path_factory, lengths, kind):  # type: ignore[no-untyped-def]
    from adapterstilts.encoder.base import load_base
    from tests.modules.conftest import make_tiny

    directory = str(make_tiny(tmp_path_factory.mktemp("long"), positions=514))
    random = np.random.default_rng(0)
    rows = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(4, 97, rows[-1]).astype(np.int32)
    fields = {"label": ("token", random.choice([-100, 0, 1, 2], rows[-1]))}
    fields["label"][1][rows[:-1]] = 1
    count = len(lengths)

    def batch(chosen: Any) -> Any:
        return collate(ids, rows, np.arange(count + 1), fields, chosen, pad_id=1)

    weights = {"a": trained(load_base(directory), kind, 1)}
    found = {}
    for name, engine in (
        ("packed", PLAIN),
        ("padded", EngineSettings(packed=False)),
        ("recompute", EngineSettings(recompute=1)),
    ):
        found[name] = gradients(load_base(directory), weights, "a", batch(range(count)), "tagging", engine)
    assert_same(found["packed"], found["padded"])
    assert torch.equal(found["packed"][1], found["recompute"][1])
    adapted = found["packed"][2]
    with torch.no_grad():
        whole = batch(range(count))
        together = adapted.encode(whole)
        for row in {0, count // 2, count - 1}:
            start, length = int(whole.starts[row]), int(whole.lengths[row])
            torch.testing.assert_close(
                adapted.encode(batch([row])), together[start : start + length], atol=1e-5, rtol=1e-4
            )


@pytest.mark.parametrize(("rows", "asking", "length"), [(1, 40, 40), (3, 7, 7), (2, 1, 30)])
def test_attention_in_bf16_has_the_gradients_of_fp32(rows: int, asking: int, length: int) -> None:
    """Its backward pass is ours on a CPU; what it gives is as near to fp32 as torch's own kernel in bf16."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, 4, asking, 16), (rows, 4, length, 16), (rows, 4, length, 16)]
    inputs = [torch.randn(shape, generator=generator) for shape in shapes]
    gradient = torch.randn(shapes[0], generator=generator)

    def gradients(dtype: torch.dtype, attend: Any) -> Tensor:
        leaves = [tensor.to(dtype).requires_grad_() for tensor in inputs]
        found = torch.autograd.grad(attend(*leaves, scale=0.3), leaves, gradient.to(dtype))
        return torch.cat([part.float().flatten() for part in found])

    exact = gradients(torch.float64, functional.scaled_dot_product_attention)
    own, torchs = (gradients(torch.bfloat16, way) for way in (_attend, functional.scaled_dot_product_attention))
    error = float((own - exact).norm() / exact.norm())
    assert error < 1e-2
    assert error < 2 * float((torchs - exact).norm() / exact.norm())
