"""The invariants of design.md 4 over random trees of random methods, each an expression that a user could write.

On random modules of a small random base and (slow) again on modules that were trained on the embedded world.

A tree is first judged by planning. What planning refuses, attaching refuses too; what it allows runs and holds.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import adapterstilts
from adapterstilts.api.places import open_store
from adapterstilts.encoder.base import load_base
from adapterstilts.encoder.batch import collate
from adapterstilts.errors import RecipeError
from adapterstilts.modules.artifact import load_adapted, read_module, write_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import BASE, Fuse, Leaf, Stack, Tree, leaves, map_leaves, simplify
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.forward import fusions
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import METHODS, get_method
from adapterstilts.recipe.facts import Facts, impossible
from adapterstilts.recipe.facts import trained as module_facts
from adapterstilts.settings import EngineSettings

from .conftest import hidden, make_tiny, method, random_batch, small, trained

BATCH = random_batch(4)
FRESH = "fresh"
NAMES = [f"{name}-{number}" for name in METHODS for number in (1, 2)]


def facts(name: str) -> Facts:
    return module_facts(method(name), BASE, frozenset(), {})


KNOWN = {name: facts(name[:-2]) for name in NAMES}
KNOWN |= {FRESH: Facts(frozenset())}
# Without shrinking, which rebuilds models for minutes: the trees are small as they are.
FEW = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Depth up to 3, every module once; weights where they can be. Half of the trees are of one family."""
    family = draw(st.sampled_from([None, "delta", "delta", "bottleneck"]))
    names = [name for name in NAMES if family in (None, METHODS[name[:-2]].family)]
    order = draw(st.permutations(names))
    rest = iter(order)

    def tree(depth: int, inside: bool) -> Tree:
        kind = draw(st.sampled_from(["leaf", "stack", "fuse"] if depth else ["stack", "fuse"]))
        if kind == "leaf" or depth == 3:
            name = next(rest)
            weighted = METHODS[name[:-2]].family == "delta" and not inside and draw(st.booleans())
            return Leaf(name, draw(st.sampled_from([0.5, -1.5])) if weighted else 1.0)
        count = draw(st.integers(1, 2 if depth else 3))
        if kind == "stack":
            return Stack(tuple(tree(depth + 1, inside) for _ in range(count)))
        how = draw(st.sampled_from(["gate", "gate", "weights", "attention"]))
        return Fuse(tuple(tree(depth + 1, True) for _ in range(count)), how)

    return tree(0, False)


@pytest.fixture(scope="module", params=["random", pytest.param("trained", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """(base factory, leaf factory): the same modules for every example; random, or trained on the embedded world."""
    if request.param == "trained":
        return lambda *precision: load_base("lab/s0", *precision), lab_modules(tmp_path_factory.mktemp("lab"))
    directory = str(make_tiny(tmp_path_factory.mktemp("properties")))

    @cache
    def leaf(name: str) -> LeafWeights:
        return trained(load_base(directory), name[:-2], NAMES.index(name))

    return lambda *precision: load_base(directory, *precision), leaf


def lab_modules(store: Path):  # type: ignore[no-untyped-def]
    """Name -> the weights of a module that was trained on a task of the embedded world, when it is first asked for."""

    @cache
    def leaf(name: str) -> LeafWeights:
        kind, number = name[:-2], int(name[-1])
        settings = {"epochs": 1, "batch": 16, "learning_rate": 1e-3 if kind == "full" else 1e-2}
        chosen = {"name": kind, **small(kind)}
        task = ("lab-siqa", "lab-siqa/qac")[number - 1]
        options = {"base": "lab/s0", "method": chosen, "limit": 64, "settings": settings, "store": store}
        made = adapterstilts.train(task, name=name, seed=number, **options)
        module = read_module(open_store(store).path(made.hash))
        return module.weights()[module.trained]

    return leaf


def attach(world, tree: Tree, fresh: str = "", precision: str = "fp32", **options):  # type: ignore[no-untyped-def]
    base, leaf = world
    modules = {name: LeafWeights(method(fresh)) if name == FRESH else leaf(name) for name in leaves(tree)}
    return Adapted(base(precision), modules, tree, **options)


def close(one: torch.Tensor, two: torch.Tensor, tolerance: float = 2e-5) -> bool:
    return float((one - two).norm() / two.norm()) < tolerance


def possible(tree: Tree) -> bool:
    return not list(impossible(tree, KNOWN))


def single_delta(tree: Tree) -> bool:
    return all(METHODS[name[:-2]].family == "delta" for name in leaves(tree))


def shaken(adapted: Adapted) -> None:
    """Mixtures away from their even start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, parameter in sorted(adapted.fusion_tensors().items()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)


@FEW
@given(trees())
def test_planning_and_attaching_agree(world, tree):  # type: ignore[no-untyped-def]
    if possible(tree):
        assert torch.isfinite(hidden(attach(world, tree), BATCH)).all()
        return
    with pytest.raises(RecipeError):
        attach(world, tree)


@FEW
@given(trees().filter(possible), st.sampled_from([n for n, m in METHODS.items() if m.fresh_is_base]))
def test_a_fresh_module_on_top_changes_nothing_and_alone_trains(world, tree, fresh):  # type: ignore[no-untyped-def]
    both = Stack((tree, Leaf(FRESH)))
    known = {**KNOWN, FRESH: facts(fresh)}
    assume(not list(impossible(both, known)))
    below = attach(world, tree)
    adapted = attach(world, both, fresh, train=frozenset({FRESH}))
    wanted = hidden(below, BATCH)
    assert close(hidden(adapted, BATCH), wanted)
    adapted.train_mode(True)
    found = adapted.encode(BATCH)
    assert close(found.detach(), wanted)  # train mode, dropout 0
    found.square().mean().backward()
    trainable = {id(parameter) for parameter in adapted.trainable().values()}
    declared = {id(p) for p in (*adapted.tensors(FRESH).values(), *adapted.fusion_tensors().values())}
    assert trainable == declared
    everything = [*adapted.model.parameters(), *adapted.fusion_tensors().values()]
    for parameter in everything:
        assert parameter.requires_grad == (id(parameter) in trainable)
        assert (parameter.grad is not None) == (id(parameter) in trainable)


@FEW
@given(trees().filter(possible))
def test_stacks_flatten_and_packed_is_padded(world, tree):  # type: ignore[no-untyped-def]
    adapted = attach(world, tree)
    shaken(adapted)
    found = hidden(adapted, BATCH)
    with torch.no_grad():
        assert close(adapted.encode_padded(BATCH), found)
    if not fusions(tree):
        assert close(hidden(attach(world, simplify(tree)), BATCH), found)
    assert close(hidden(attach(world, Stack((Stack((tree,)),))), BATCH), hidden(attach(world, tree), BATCH))


def reference(world, tree: Tree, path: str, x: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """What a tree of deltas adds at one site, from single modules and the table of docs/architecture.md."""
    if isinstance(tree, Leaf):
        site = attach(world, Leaf(tree.name)).model.get_submodule(path)
        base = site.get_base_layer()(x) if hasattr(site, "get_base_layer") else site(x)
        return tree.weight * (site(x) - base)
    parts = [reference(world, child, path, x) for child in tree.children]  # type: ignore[union-attr]
    return sum(parts) / (len(parts) if isinstance(tree, Fuse) else 1)  # type: ignore[return-value]


@FEW
@given(trees().filter(lambda tree: possible(tree) and single_delta(tree)), st.randoms(use_true_random=False))
def test_deltas_add_up_as_the_table_says_in_any_order(world, tree, random):  # type: ignore[no-untyped-def]
    path = "encoder.layer.1.output.dense"
    adapted = attach(world, tree)
    with torch.no_grad():
        site = adapted.model.get_submodule(path)
        base = site.get_base_layer() if hasattr(site, "get_base_layer") else site
        x = torch.randn(1, 4, base.in_features, generator=torch.Generator().manual_seed(8))
        torch.testing.assert_close(site(x) - base(x), reference(world, tree, path, x), atol=2e-4, rtol=1e-3)

    def shuffled(node: Tree) -> Tree:
        if isinstance(node, Leaf):
            return node
        children = list(map(shuffled, node.children))  # type: ignore[union-attr]
        random.shuffle(children)
        return replace(node, children=tuple(children))  # type: ignore[type-var]

    assert close(hidden(attach(world, shuffled(tree)), BATCH), hidden(adapted, BATCH))


@FEW
@given(trees().filter(lambda tree: possible(tree) and isinstance(tree, Fuse) and tree.how != "attention"), st.data())
def test_a_one_hot_mixture_is_that_part(world, tree, data):  # type: ignore[no-untyped-def]
    chosen = data.draw(st.integers(0, len(tree.children) - 1))
    adapted = attach(world, tree)
    outer = {
        name: parameter
        for name, parameter in adapted.fusion_tensors().items()
        if name.startswith(_key(tree)) and name.endswith("bias")
    }
    with torch.no_grad():
        for parameter in outer.values():
            parameter.copy_(60.0 * torch.nn.functional.one_hot(torch.tensor(chosen), len(tree.children)))
    assert close(hidden(adapted, BATCH), hidden(attach(world, tree.children[chosen]), BATCH))


def _key(tree: Fuse) -> str:
    from adapterstilts.modules.forward import fusion_key

    return fusion_key(tree)


@settings(FEW, max_examples=12)
@given(trees().filter(possible))
def test_what_is_stored_loads_with_equal_outputs(world, tree):  # type: ignore[no-untyped-def]
    base, leaf = world
    top = leaves(tree)[-1]
    with tempfile.TemporaryDirectory() as folder:
        ids, places = {}, {}
        for name in leaves(tree)[:-1]:
            alone = Adapted(base(), {name: leaf(name)}, Leaf(name))
            (Path(folder) / name).mkdir()
            made = write_module(Path(folder) / name, alone, trained=name, parents={}, heads={}, base="b", tokenizer="t")
            ids[name], places[made.trained] = made.trained, made.directory / "leaves" / made.trained
        renamed = map_leaves(tree, lambda one: Leaf(ids.get(one.name, one.name), one.weight))
        modules = {ids.get(name, name): leaf(name) for name in leaves(tree)}
        adapted = Adapted(base(), modules, renamed)
        shaken(adapted)
        (Path(folder) / "whole").mkdir()
        write_module(Path(folder) / "whole", adapted, trained=top, parents=places, heads={}, base="b", tokenizer="t")
        module = read_module(Path(folder) / "whole")
        assert parse(str_tree(module.tree)) == module.tree
        assert close(hidden(load_adapted(base(), module), BATCH), hidden(adapted, BATCH), 1e-6)


HALF = 0.02  # relative distance of outputs on a base in bf16 from those in fp32


@settings(FEW, max_examples=8)
@given(trees().filter(lambda tree: possible(tree) and not any(name.startswith("full") for name in leaves(tree))))
def test_in_bf16_a_tree_is_near_and_its_invariants_hold(world, tree):  # type: ignore[no-untyped-def]
    half = attach(world, tree, precision="bf16")
    found = hidden(half, BATCH)
    assert close(found, hidden(attach(world, tree), BATCH), HALF)
    above = attach(world, Stack((tree, Leaf(FRESH))), "seq_bn", precision="bf16")
    assert torch.equal(hidden(above, BATCH), found)
    with torch.no_grad():
        assert close(half.encode_padded(BATCH), found, 1e-2)


LENGTHS = (7, 3, 11, 7, 1)


def part(rows: list[int]):  # type: ignore[no-untyped-def]
    """Some rows of one fixed batch."""
    bounds = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = np.random.default_rng(4).integers(4, 97, bounds[-1]).astype(np.int32)
    return collate(ids, bounds, np.arange(len(LENGTHS) + 1), {}, rows, pad_id=1)


def gradient(adapted: Adapted, batches) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Of everything that trains, added up over the batches, in train mode."""
    adapted.train_mode(True)
    for batch in batches:
        states = adapted.encode(batch)
        (states * torch.linspace(-1, 1, states.shape[-1])).square().sum().backward()
    return torch.cat([parameter.grad.flatten() for _, parameter in sorted(adapted.trainable().items())])  # type: ignore[union-attr]


@settings(FEW, max_examples=8)
@given(trees().filter(possible), st.sampled_from(["lora", "dora", "seq_bn", "compacter"]))
def test_gradients_are_the_same_recomputed_and_accumulated(world, tree, fresh):  # type: ignore[no-untyped-def]
    both = Stack((tree, Leaf(FRESH)))
    known = {**KNOWN, FRESH: facts(fresh)}
    assume(not list(impossible(both, known)))

    def made(**engine):  # type: ignore[no-untyped-def]
        adapted = attach(world, both, fresh, train=frozenset({FRESH}), engine=EngineSettings(**engine))
        assume(adapted.packs)  # what runs padded is not recomputed, and says so
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in adapted.trainable().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
        return adapted

    whole = gradient(made(), [part([0, 1, 2, 3, 4])])
    assert float(whole.norm()) > 0
    assert torch.equal(gradient(made(recompute=1), [part([0, 1, 2, 3, 4])]), whole)
    assert close(gradient(made(), [part([0, 2]), part([4, 3, 1])]), whole, 1e-5)


def str_tree(tree: Tree) -> str:
    from adapterstilts.modules.expressions import format_tree

    return format_tree(tree)


def test_every_method_is_drawn() -> None:
    assert {name[:-2] for name in NAMES} == set(METHODS) and all(get_method(name[:-2]) for name in NAMES)
