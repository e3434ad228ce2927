"""The invariants of composition, on random weights. Each names what would be silently wrong without it."""

from __future__ import annotations

import pytest
import torch

from adapterstilts.encoder.base import load_base
from adapterstilts.errors import RecipeError
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Fuse, Leaf, Stack
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import METHODS as TABLE

from .conftest import hidden, method, random_batch, trained

METHODS = list(TABLE)
PACKED = [name for name, method in TABLE.items() if method.packs]  # prefix tuning has its own tests, in test_methods
BATCH = random_batch()


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return float((a - b).norm() / b.norm()) < tolerance


def run(fresh_base, modules, tree, **options):  # type: ignore[no-untyped-def]
    return hidden(Adapted(fresh_base(), modules, tree, **options), BATCH)


@pytest.mark.parametrize("name", [name for name, method in TABLE.items() if method.fresh_is_base])
def test_a_fresh_module_is_the_base(fresh_base, name):  # type: ignore[no-untyped-def]
    bare = run(fresh_base, {}, None)
    fresh = run(fresh_base, {"a": LeafWeights(method(name))}, Leaf("a"))
    assert torch.equal(bare, fresh) or close(fresh, bare, 1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_a_trained_module_is_not_the_base_and_switching_off_gives_it_back(fresh_base, name):  # type: ignore[no-untyped-def]
    a = trained(fresh_base(), name, 1)
    adapted = Adapted(fresh_base(), {"a": a}, Leaf("a"))
    bare = run(fresh_base, {}, None)
    assert not close(hidden(adapted, BATCH), bare, 1e-2)
    adapted.activate(None)
    assert close(hidden(adapted, BATCH), bare, 1e-6)
    adapted.activate(Leaf("a"))
    assert not close(hidden(adapted, BATCH), bare, 1e-2)


@pytest.mark.parametrize("below", PACKED)
@pytest.mark.parametrize("above", ["lora", "seq_bn"])
def test_stacking_a_fresh_module_changes_nothing(fresh_base, below, above):  # type: ignore[no-untyped-def]
    # adapters' own Stack of LoRAs erases the lower one here.
    a = trained(fresh_base(), below, 1)
    alone = run(fresh_base, {"a": a}, Leaf("a"))
    both = run(fresh_base, {"a": a, "b": LeafWeights(method(above))}, parse("stack(a, b)"))
    assert close(both, alone, 1e-6)
    assert close(run(fresh_base, {"a": a}, Stack((Leaf("a"),))), alone, 1e-7)


def test_a_stack_of_deltas_is_their_sum_in_any_order(fresh_base):  # type: ignore[no-untyped-def]
    modules = {"a": trained(fresh_base(), "lora", 1), "b": trained(fresh_base(), "lora", 2, r=2)}
    forward = run(fresh_base, modules, parse("stack(a, b)"))
    assert close(run(fresh_base, modules, parse("stack(b, a)")), forward)
    # By hand: both deltas added to the weights of a plain encoder.
    base = fresh_base()
    state = dict(base.model.named_parameters())
    with torch.no_grad():
        for leaf in modules.values():
            scale = leaf.method.parameters["alpha"] / leaf.method.parameters["r"]
            for path in {key.rsplit(".lora_", 1)[0] for key in leaf.tensors}:
                down, up = leaf.tensors[f"{path}.lora_A.weight"], leaf.tensors[f"{path}.lora_B.weight"]
                state[f"{path}.weight"] += scale * up @ down
    assert close(hidden(Adapted(base, {}, None), BATCH), forward)


def test_bottlenecks_run_in_order(fresh_base):  # type: ignore[no-untyped-def]
    modules = {"a": trained(fresh_base(), "seq_bn", 1), "b": trained(fresh_base(), "seq_bn", 2)}
    forward = run(fresh_base, modules, parse("stack(a, b)"))
    assert not close(run(fresh_base, modules, parse("stack(b, a)")), forward, 1e-3)


def test_families_mix_in_one_stack(fresh_base):  # type: ignore[no-untyped-def]
    a, b = trained(fresh_base(), "lora", 1), trained(fresh_base(), "seq_bn", 2)
    both = run(fresh_base, {"a": a, "b": b}, parse("stack(a, b)"))
    for alone in ({"a": a}, {"b": b}):
        assert not close(run(fresh_base, alone, Leaf(next(iter(alone)))), both, 1e-2)


@pytest.mark.parametrize(("name", "how"), [("lora", "gate"), ("lora", "weights"), ("seq_bn", "gate"),
                                           ("seq_bn", "weights"), ("seq_bn", "attention")])  # fmt: skip
def test_fuse_of_one_and_one_hot_fuse_are_the_module(fresh_base, name, how):  # type: ignore[no-untyped-def]
    modules = {key: trained(fresh_base(), name, number) for number, key in enumerate("abc")}
    alone = run(fresh_base, {"a": modules["a"]}, Leaf("a"))
    if name == "lora":  # the adapters library refuses a fusion of one; a stack says the same
        assert close(run(fresh_base, {"a": modules["a"]}, Fuse((Leaf("a"),), how)), alone)
    if how == "attention":
        return
    tree = Fuse((Leaf("a"), Leaf("b"), Leaf("c")), how)
    adapted = Adapted(fresh_base(), modules, tree)
    biases = {key: p for key, p in adapted.fusion_tensors().items() if key.endswith("bias")}
    assert biases
    even = hidden(adapted, BATCH)
    assert not close(even, alone, 1e-2)
    with torch.no_grad():
        for parameter in biases.values():
            parameter.copy_(torch.tensor([60.0, 0.0, 0.0]))
    assert close(hidden(adapted, BATCH), alone)


def test_an_even_fusion_of_equal_modules_is_the_module(fresh_base):  # type: ignore[no-untyped-def]
    for name, how in (("lora", "gate"), ("seq_bn", "attention"), ("seq_bn", "gate"), ("double_seq_bn", "attention")):
        a = trained(fresh_base(), name, 1)
        tree = Fuse((Leaf("a"), Leaf("b")), how)
        assert close(run(fresh_base, {"a": a, "b": a}, tree), run(fresh_base, {"a": a}, Leaf("a"))), (name, how)


def test_weights_on_leaves_scale_deltas(fresh_base):  # type: ignore[no-untyped-def]
    modules = {"a": trained(fresh_base(), "lora", 1)}
    half_twice = Stack((Leaf("a", 0.5), Leaf("a", 0.5)))
    assert close(run(fresh_base, modules, half_twice), run(fresh_base, modules, Leaf("a")))
    assert close(run(fresh_base, modules, Stack((Leaf("a"), Leaf("a", -1.0)))), run(fresh_base, {}, None))


@pytest.mark.parametrize("expression", ["stack(a, b)", "stack(fuse(a, c), b)", "stack(d, b)", "stack(fuse(d, e), b)",
                                        "stack(a, d, f)", "stack(fuse(d, e, how=attention), f)"])  # fmt: skip
def test_exactly_the_declared_tensors_train(fresh_base, expression):  # type: ignore[no-untyped-def]
    modules = {k: trained(fresh_base(), "lora", i) for i, k in enumerate("ac")}
    modules |= {k: trained(fresh_base(), "seq_bn", i) for i, k in enumerate("de")}
    modules |= {"b": LeafWeights(method("lora")), "f": LeafWeights(method("seq_bn"))}
    tree = parse(expression)
    top = "b" if "b)" in expression else "f"
    used = {
        name: weights
        for name, weights in modules.items()
        if name in expression.replace("fuse", "").replace("stack", "")
    }
    adapted = Adapted(fresh_base(), used, tree, train=frozenset({top}))
    everything = {**dict(adapted.model.named_parameters()), **adapted.fusion_tensors()}
    before = {name: p.detach().clone() for name, p in everything.items()}
    trainable = adapted.trainable()
    assert any(name.startswith("fusion/") for name in trainable) == ("fuse" in expression)
    optimizer = torch.optim.SGD(trainable.values(), lr=0.1)
    for _ in range(3):  # B starts at zero, so A and the gates move from the second step on
        optimizer.zero_grad()
        (adapted.encode(BATCH) * torch.linspace(-1, 1, 32)).square().sum().backward()
        assert all(p.grad is not None for p in trainable.values())
        optimizer.step()
    moved = {id(p) for name, p in everything.items() if not torch.equal(before[name], p)}
    assert moved == {id(p) for p in trainable.values()}


def test_fresh_tensors_depend_on_seed_and_name_not_on_order(fresh_base):  # type: ignore[no-untyped-def]
    new = LeafWeights(method("lora"))
    other = trained(fresh_base(), "lora", 1)
    one = Adapted(fresh_base(), {"x": new}, Leaf("x"), seed=3).tensors("x")
    torch.manual_seed(99)
    two = Adapted(fresh_base(), {"a": other, "x": new}, Leaf("x"), seed=3).tensors("x")
    three = Adapted(fresh_base(), {"x": new}, Leaf("x"), seed=4).tensors("x")
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert any(not torch.equal(one[key], three[key]) for key in one)


def test_layers_restrict_where_a_module_sits(fresh_base):  # type: ignore[no-untyped-def]
    for name in ("lora", "seq_bn"):
        adapted = Adapted(fresh_base(), {"a": LeafWeights(method(name, layers=[1]))}, Leaf("a"))
        assert {path.split("layer.")[1][0] for path in adapted.tensors("a")} == {"1"}


@pytest.mark.parametrize(("expression", "part"), [("fuse(u, x, how=attention)", "AdapterFusion"), ("0.5*d", "weighted"),
                                                  ("stack({language}, d)", "slot"),
                                                  ("merge(d, e)", "merge")])  # fmt: skip
def test_impossible_trees_are_refused_with_a_reason(fresh_base, expression, part):  # type: ignore[no-untyped-def]
    modules = {k: LeafWeights(method("seq_bn")) for k in "de"} | {k: LeafWeights(method("union")) for k in "ux"}
    with pytest.raises(RecipeError, match=part):
        Adapted(fresh_base(), modules, parse(expression))


def test_deltas_of_all_kinds_add_up_in_any_order(fresh_base):  # type: ignore[no-untyped-def]
    modules = {name: trained(fresh_base(), name, number) for number, name in enumerate(["lora", "dora", "ia3"])}
    forward = run(fresh_base, modules, parse("stack(lora, dora, ia3)"))
    assert close(run(fresh_base, modules, parse("stack(ia3, dora, lora)")), forward)
    # At one site the sum is that of the single modules' deltas.
    adapted = Adapted(fresh_base(), modules, parse("stack(lora, dora, ia3)"))
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(2))
    path = "encoder.layer.0.attention.self.key"
    outer = adapted.model.get_submodule(path)
    parts = []
    for name in modules:
        alone = Adapted(fresh_base(), {name: modules[name]}, Leaf(name)).model.get_submodule(path)
        base = alone.get_base_layer()(x)
        parts.append(alone(x) - base)
    torch.testing.assert_close(outer(x), base + sum(parts), atol=1e-5, rtol=1e-4)


def test_a_fusion_mixes_whatever_sits_at_a_place(fresh_base):  # type: ignore[no-untyped-def]
    """Both families, stacks, modules of other layers: one-hot it is that part."""
    modules = {"l": trained(fresh_base(), "lora", 1), "s": trained(fresh_base(), "seq_bn", 2)}
    modules |= {"u": trained(fresh_base(), "union", 3), "d": trained(fresh_base(), "double_seq_bn", 4, layers=[0])}
    tree = parse("fuse(l, stack(s, d), u, d, how=weights)")
    for chosen, child in enumerate(tree.children):  # type: ignore[union-attr]
        adapted = Adapted(fresh_base(), modules, tree)
        with torch.no_grad():
            for parameter in adapted.fusion_tensors().values():
                parameter.copy_(60.0 * torch.nn.functional.one_hot(torch.tensor(chosen), 4))
        assert close(hidden(adapted, BATCH), run(fresh_base, modules, child))


def test_a_union_is_the_stack_of_its_parts(fresh_base):  # type: ignore[no-untyped-def]
    parts = {"a": trained(fresh_base(), "lora", 1), "b": trained(fresh_base(), "par_bn", 2)}
    parts["c"] = trained(fresh_base(), "prefix_tuning", 3)
    of = [{"name": weights.method.name, **weights.method.parameters} for weights in parts.values()]
    tensors = {
        f"{number}-{weights.method.name}/{name}": tensor
        for number, weights in enumerate(parts.values(), start=1)
        for name, tensor in weights.tensors.items()
    }
    union = LeafWeights(method("union", of=of), tensors)
    stacked = run(fresh_base, parts, parse("stack(a, b, c)"))
    assert torch.equal(run(fresh_base, {"u": union}, Leaf("u")), stacked)
    for name in "abc":
        assert not close(run(fresh_base, {name: parts[name]}, Leaf(name)), stacked, 1e-2)


def test_a_mixture_that_never_moved_is_named(fresh_base):  # type: ignore[no-untyped-def]
    modules = {key: trained(fresh_base(), "seq_bn", number) for number, key in enumerate("abc")}
    modules["new"] = LeafWeights(method("lora"))
    for how in ("gate", "weights", "attention"):
        tree = parse(f"stack(fuse(a, b, how={how}), fuse(b, c), new)")
        adapted = Adapted(fresh_base(), modules, tree, train=frozenset({"new"}))
        assert len(adapted.even_fusions()) == 2
        first = next(iter(adapted.mixtures.values()))
        with torch.no_grad():
            next((first.query if how == "attention" else first).parameters()).add_(0.5)
        assert adapted.even_fusions() == ["fuse(b, c)"], how


@pytest.mark.parametrize("expression", ["fuse(s, c)", "fuse(s, c, how=attention)", "fuse(stack(d, p), s)"])
def test_modules_of_unlike_places_fuse_on_a_base_in_bf16(tiny_directory, fresh_base, expression):  # type: ignore[no-untyped-def]
    kinds = {"s": "seq_bn", "c": "compacter", "d": "double_seq_bn", "p": "par_bn"}
    modules = {name: trained(fresh_base(), kinds[name], number) for number, name in enumerate("scdp")}
    used = {name: modules[name] for name in "scdp" if f"{name}," in expression or f"{name})" in expression}
    half = Adapted(load_base(str(tiny_directory), "bf16"), used, parse(expression))
    assert close(hidden(half, BATCH), run(fresh_base, used, parse(expression)), 0.02)
