"""Full fine-tuning as a module: the very bits that were trained, in the base's places, and out of them again."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from adapterstilts.encoder.base import load_base
from adapterstilts.errors import RecipeError
from adapterstilts.modules import exchange, full
from adapterstilts.modules.artifact import load_adapted, read_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.merge import merge_whole
from adapterstilts.modules.merged import export_merged

from .conftest import hidden, method, random_batch, trained
from .test_artifact import store
from .test_exchange import plain, same

BATCH = random_batch(3)


def step(adapted, steps=3):  # type: ignore[no-untyped-def]
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=1e-2, weight_decay=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        (adapted.encode(BATCH) * torch.linspace(-1, 1, 32)).square().mean().backward()
        optimizer.step()


def test_it_trains_like_the_model_itself_and_gives_back_its_bits(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    adapted = Adapted(fresh_base(), {"a": LeafWeights(method("full"))}, Leaf("a"), train=frozenset({"a"}))
    step(adapted)
    by_hand = fresh_base()
    by_hand.model.requires_grad_(True)
    optimizer = torch.optim.AdamW(by_hand.model.parameters(), lr=1e-2, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        loss = (Adapted.encode(_bare(by_hand), BATCH) * torch.linspace(-1, 1, 32)).square().mean()
        loss.backward()
        optimizer.step()
    wanted = dict(by_hand.model.named_parameters())
    found = adapted.tensors("a")
    assert set(found) == set(wanted) and all(torch.equal(found[path], wanted[path]) for path in wanted)
    # Through the file, too, and the module below is untouched by it.
    (tmp_path / "m").mkdir()
    module, before = store_as(tmp_path / "m", adapted)
    again = load_adapted(fresh_base(), read_module(tmp_path / "m"))
    loaded = again.tensors(module.trained)
    assert all(torch.equal(loaded[path], wanted[path]) for path in wanted)
    assert torch.equal(hidden(again, BATCH), before)
    again.activate(None)
    assert torch.equal(hidden(again, BATCH), hidden(Adapted(fresh_base(), {}, None), BATCH))


def _bare(base):  # type: ignore[no-untyped-def]
    adapted = Adapted(copy.copy(base), {}, None)
    base.model.requires_grad_(True)
    return adapted


def store_as(directory, adapted):  # type: ignore[no-untyped-def]
    from adapterstilts.modules.artifact import write_module

    module = write_module(directory, adapted, trained="a", parents={}, heads={}, base="b", tokenizer="t")
    return module, hidden(adapted, BATCH)


@pytest.mark.parametrize("above", ["lora", "dora", "ia3", "pissa", "seq_bn", "union"])
def test_what_stands_on_it_starts_from_it_and_trains_alone(fresh_base, above):  # type: ignore[no-untyped-def]
    whole = trained(fresh_base(), "full", 1)
    alone = hidden(Adapted(fresh_base(), {"a": whole}, Leaf("a")), BATCH)
    modules = {"a": whole, "b": LeafWeights(method(above))}
    adapted = Adapted(fresh_base(), modules, parse("stack(a, b)"), train=frozenset({"b"}))
    torch.testing.assert_close(hidden(adapted, BATCH), alone, atol=1e-4, rtol=1e-4)
    before = {path: parameter.clone() for path, parameter in adapted.tensors("a").items()}
    step(adapted)
    assert all(torch.equal(before[path], parameter) for path, parameter in adapted.tensors("a").items())
    assert not torch.allclose(hidden(adapted, BATCH), alone, atol=1e-3)
    adapted.activate(Leaf("a"))
    assert torch.equal(hidden(adapted, BATCH), alone)


def test_layers_and_embeddings_say_what_is_held(fresh_base):  # type: ignore[no-untyped-def]
    chosen = method("full", layers=[1], embeddings=False)
    adapted = Adapted(fresh_base(), {"a": LeafWeights(chosen)}, Leaf("a"), train=frozenset({"a"}))
    assert {path.split("layer.")[1][0] for path in adapted.tensors("a")} == {"1"}
    trained_ones = {id(parameter) for parameter in adapted.trainable().values()}
    assert {id(parameter) for parameter in adapted.model.parameters() if parameter.requires_grad} == trained_ones


def test_task_arithmetic(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    a, _ = store(tmp_path / "a", fresh_base, {"x": trained(fresh_base(), "full", 1)}, Leaf("x"), "x")
    b, _ = store(tmp_path / "b", fresh_base, {"x": trained(fresh_base(), "full", 2)}, Leaf("x"), "x")
    made = merge_whole(fresh_base(), [a, b], [1.0, -0.5])
    own = dict(fresh_base().model.named_parameters())
    tensors = [Adapted(fresh_base(), {"x": leaf}, None).tensors("x") for leaf in
               (made.weights, *a.weights().values(), *b.weights().values())]  # fmt: skip
    for path, merged in tensors[0].items():
        wanted = own[path] + (tensors[1][path] - own[path]) - 0.5 * (tensors[2][path] - own[path])
        torch.testing.assert_close(merged, wanted)
    first = merge_whole(fresh_base(), [a, b], [1.0, 0.0]).weights.tensors
    assert all(torch.equal(first[path], bits) for path, bits in a.weights()[a.trained].tensors.items())


def test_it_becomes_a_plain_checkpoint(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    from transformers import AutoModel

    from .test_exchange import composed

    module, ours = composed(tmp_path, fresh_base, "stack(a, b)", {"a": "full", "b": "lora"})
    adapted = Adapted(fresh_base(), module.weights(), module.bound())
    export_merged(module, fresh_base(), adapted, tmp_path / "out")
    same(plain(AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False)), ours)
    with pytest.raises(RecipeError, match="export merged"):
        exchange.export_parts(module, "peft", tmp_path / "peft", "base")


@pytest.mark.parametrize(("expression", "told"), [
    ("stack(b, a)", "above another"), ("stack(a, c)", "above another"), ("0.5*a", "weighted"), ("fuse(a, b)", "inside"),
])  # fmt: skip
def test_it_stands_at_the_bottom_alone(fresh_base, expression, told):  # type: ignore[no-untyped-def]
    modules = {name: LeafWeights(method("full")) for name in "ac"} | {"b": LeafWeights(method("lora"))}
    with pytest.raises(RecipeError, match=told):
        Adapted(fresh_base(), modules, parse(expression))


def test_a_base_in_half_precision_is_refused(tiny_directory):  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match="fp32"):
        Adapted(load_base(str(tiny_directory), "bf16"), {"a": LeafWeights(method("full"))}, Leaf("a"))


def test_bits_that_a_difference_of_floats_would_lose():  # type: ignore[no-untyped-def]
    base, now = torch.tensor([1.0, -0.0, 1e-30, 3.0]), torch.tensor([1e-9, 0.0, -7.7, float("inf")])
    assert not torch.equal(base + (now - base), now)
    found = nn.Parameter(base.clone(), requires_grad=False)
    full.fill(found, full.changed(base, now))
    assert torch.equal(found.view(torch.int32), now.view(torch.int32))
