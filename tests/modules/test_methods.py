"""Every method of the table: parity with its plain library, gradients, files, sizes, and its capability row."""

from __future__ import annotations

import pytest
import torch

from adapterstilts.encoder.base import VocabularyHead
from adapterstilts.errors import RecipeError
from adapterstilts.modules import exchange
from adapterstilts.modules.artifact import load_adapted, read_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Fuse, Leaf
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.merge import merge
from adapterstilts.modules.methods import METHODS, capabilities, resolve
from adapterstilts.modules.sizes import Shape, parameter_count
from adapterstilts.recipe.load import from_plain
from adapterstilts.recipe.validate import validate
from adapterstilts.settings import MethodSettings
from adapterstilts.tasks.registry import TaskRegistry

from .conftest import hidden, method, random_batch, trained
from .test_artifact import store
from .test_exchange import follow, plain, rows, same

BATCH = random_batch(3)
DELTAS = [name for name, found in METHODS.items() if found.family == "delta"]
ADDED = [name for name in METHODS if name != "full"]  # full has its own tests, in test_full
BOTTLENECKS = [name for name, found in METHODS.items() if found.family == "bottleneck"]


@pytest.mark.filterwarnings("ignore:Specified to not")  # they follow from the key
@pytest.mark.parametrize("name", ADDED)
def test_saved_loaded_and_in_the_plain_library_it_is_the_same(tmp_path, fresh_base, name, monkeypatch):  # type: ignore[no-untyped-def]
    module, before = store(tmp_path / "m", fresh_base, {"a": trained(fresh_base(), name, 1)}, Leaf("a"), "a")
    again = load_adapted(fresh_base(), read_module(tmp_path / "m"))
    assert torch.equal(hidden(again, BATCH), before)
    library = "peft" if name in DELTAS else "adapterhub"
    exchange.export_parts(module, library, tmp_path / "out", str(fresh_base().directory))
    monkeypatch.chdir(tmp_path / "out")
    same(plain(follow((tmp_path / "out" / "README.md").read_text())), rows(before))


@pytest.mark.parametrize("name", METHODS)
def test_packed_execution_is_the_padded_one(fresh_base, name):  # type: ignore[no-untyped-def]
    adapted = Adapted(fresh_base(), {"a": trained(fresh_base(), name, 1)}, Leaf("a"))
    assert adapted.packs == METHODS[name].packs
    with torch.no_grad():
        torch.testing.assert_close(adapted.encode(BATCH), adapted.encode_padded(BATCH), atol=1e-5, rtol=1e-4)
        layers = list(adapted.layers(BATCH))
        torch.testing.assert_close(layers[-1], adapted.encode(BATCH))
        assert len(layers) == 3 and len(list(adapted.layers(BATCH, stop=1))) == 2
        padded = adapted._padded(BATCH, all_layers=True)
        for one, two in zip(layers, padded, strict=True):
            torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ADDED)
def test_all_of_a_method_trains_and_nothing_else(fresh_base, name):  # type: ignore[no-untyped-def]
    modules = {"a": trained(fresh_base(), "lora", 1), "b": LeafWeights(method(name))}
    adapted = Adapted(fresh_base(), modules, parse("stack(a, b)"), train=frozenset({"b"}))
    everything = dict(adapted.model.named_parameters())
    before = {path: parameter.detach().clone() for path, parameter in everything.items()}
    trainable = adapted.trainable()
    optimizer = torch.optim.Adam(trainable.values(), lr=1e-2)  # tiny gradients count as well
    for _ in range(5):
        optimizer.zero_grad()
        (adapted.encode(BATCH) * torch.linspace(-1, 1, 32)).square().mean().backward()
        assert all(parameter.grad is not None for parameter in trainable.values())
        optimizer.step()
    moved = {id(parameter) for path, parameter in everything.items() if not torch.equal(before[path], parameter)}
    assert moved == {id(parameter) for parameter in trainable.values()}


@pytest.mark.parametrize("name", METHODS)
def test_the_predicted_size_is_the_real_one(fresh_base, name):  # type: ignore[no-untyped-def]
    for layers in (None, [1]):
        chosen = method(name, **({"layers": layers} if "layers" in METHODS[name].defaults else {}))
        adapted = Adapted(fresh_base(), {"a": LeafWeights(chosen)}, None)
        real = sum(parameter.numel() for parameter in adapted.tensors("a").values())
        assert parameter_count(chosen, Shape("tiny", 32, 48, 2, 97, 66)) == real


@pytest.mark.parametrize("name", ADDED)
def test_the_capability_row_is_what_happens(tmp_path, fresh_base, name):  # type: ignore[no-untyped-def]
    can = capabilities(method(name))
    pair = {key: trained(fresh_base(), name, number) for number, key in enumerate("ab")}

    def works(tree):  # type: ignore[no-untyped-def]
        try:
            hidden(Adapted(fresh_base(), pair, tree), BATCH)
        except RecipeError:
            return False
        return True

    for how in ("gate", "weights", "attention"):
        assert works(Fuse((Leaf("a"), Leaf("b")), how)) == (how in can["fuse"]), how
    assert works(Leaf("a", 0.5)) == can["weight"]
    assert works(parse("stack(a, b)")) == (can["stack"] in ("in any order", "in order"))

    a, _ = store(tmp_path / "a", fresh_base, {"a": pair["a"]}, Leaf("a"), "a")
    b, _ = store(tmp_path / "b", fresh_base, {"b": pair["b"]}, Leaf("b"), "b")
    for how in ("cat", "average"):
        try:
            made = merge([a, b], [0.5, 0.5], how, {}, 0).error is not None or how == "average"
        except RecipeError:
            made = False
        if how == "cat" or name not in BOTTLENECKS:  # bottlenecks average whatever is asked for; planning refuses cat
            expected = how in can["merge"] if name in DELTAS else False
            assert made == expected or name in BOTTLENECKS, how
        else:
            assert made == (how in can["merge"])


def test_pissa_starts_where_pefts_does_and_leaves_w_alone(fresh_base):  # type: ignore[no-untyped-def]
    from peft import LoraConfig, get_peft_model

    base = fresh_base()
    names = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
    config = LoraConfig(r=4, lora_alpha=16, target_modules=names, init_lora_weights="pissa")
    theirs = get_peft_model(base.model, config)
    ours = Adapted(fresh_base(), {"a": LeafWeights(method("pissa"))}, Leaf("a"), train=frozenset({"a"}))
    down = {path: p for path, p in theirs.named_parameters() if "lora_A" in path}
    for path, parameter in ours.tensors("a").items():
        if "lora_A" not in path:
            continue
        up = path.replace("lora_A", "lora_B")
        a = down["base_model.model." + path.replace("lora_A", "lora_A.default")]
        b = theirs.get_parameter("base_model.model." + up.replace("lora_B", "lora_B.default"))
        torch.testing.assert_close(ours.tensors("a")[up] @ parameter, b @ a, atol=1e-4, rtol=1e-3)
    bare = hidden(Adapted(fresh_base(), {}, None), BATCH)
    torch.testing.assert_close(hidden(ours, BATCH), bare, atol=1e-5, rtol=1e-4)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for path, parameter in ours.tensors("a").items():
            change = torch.randn(parameter.shape, generator=generator) * 0.05
            parameter.copy_(parameter + change)
            theirs.get_parameter("base_model.model." + path.replace(".weight", ".default.weight")).copy_(parameter)
    same(plain(theirs), rows(hidden(ours, BATCH)))


def test_the_embeddings_map_is_undone_before_the_vocabulary(fresh_base):  # type: ignore[no-untyped-def]
    import adapters
    from transformers import XLMRobertaForMaskedLM

    from .test_exchange import IDS, MASK, randomise

    base = fresh_base()
    theirs = XLMRobertaForMaskedLM.from_pretrained(base.directory)
    adapters.init(theirs)
    theirs.add_adapter("x", config=adapters.AdapterConfig.load("seq_bn_inv", reduction_factor=4))
    theirs.set_active_adapters("x")
    randomise(theirs, ".x.")
    state = {name: p for name, p in theirs.named_parameters() if ".x." in name}
    bare = {
        name.removeprefix("roberta.").replace(".adapters.x.", ".").replace(".x.", "."): p.detach()
        for name, p in state.items()
    }
    ours = Adapted(base, {"a": LeafWeights(method("seq_bn_inv"), bare)}, Leaf("a"))
    with torch.no_grad():
        mine = rows(VocabularyHead(base)(ours.encode(BATCH)))
        # adapters' masked-LM head does this; transformers' static class forgets it.
        head, states = theirs.lm_head, theirs.eval().roberta(input_ids=IDS, attention_mask=MASK).last_hidden_state
        states = head.layer_norm(torch.nn.functional.gelu(head.dense(states)))
        wanted = head.decoder(theirs.roberta.invertible_adapters["x"](states, rev=True))
    for one, two in zip(wanted, mine, strict=True):
        torch.testing.assert_close(one[: len(two)], two, atol=1e-4, rtol=1e-3)


def test_maps_of_the_embeddings_run_one_after_the_other(fresh_base):  # type: ignore[no-untyped-def]
    # The library maps by the lowest module alone, and not at all when that one has no map.
    modules = {"a": trained(fresh_base(), "seq_bn_inv", 1), "b": trained(fresh_base(), "seq_bn_inv", 2)}
    modules["c"] = trained(fresh_base(), "seq_bn", 3)

    def embedded(tree):  # type: ignore[no-untyped-def]
        adapted = Adapted(fresh_base(), modules, parse(tree))
        with torch.no_grad():
            return next(adapted.layers(BATCH)), adapted

    bare, _ = embedded("c")
    one, two = embedded("stack(c, a)")[0], embedded("b")[1]
    with torch.no_grad():
        both = two.model.invertible_adapters_forward(one[None])[0]
    found, stacked = embedded("stack(c, a, b)")
    torch.testing.assert_close(found, both)
    assert not torch.allclose(one, bare, atol=1e-3)
    torch.testing.assert_close(stacked.model.invertible_adapters_forward(found[None], rev=True)[0], bare)


@pytest.mark.parametrize(("modules", "on", "part"), [
    (("lora", "seq_bn"), "fuse(m0, m1, how=attention)", "AdapterFusion needs bottlenecks"),
    (("lora+seq_bn", "lora+seq_bn"), "merge(m0, m1)", "two families"),
    (("lora+prefix_tuning", "seq_bn"), "fuse(m0, m1)", "inside fuse"),
    (("seq_bn_inv", "seq_bn_inv"), "fuse(m0, m1)", "inside fuse"),
    (("prefix_tuning", "prefix_tuning"), "fuse(m0, m1)", "inside fuse"),
    (("dora", "lora"), "merge(m0, m1)", "a merge of dora"),
    (("compacter", "compacter"), "merge(m0, m1)", "a merge of compacter"),
])  # fmt: skip
def test_planning_refuses_by_the_same_table(modules, on, part):  # type: ignore[no-untyped-def]
    entries = {f"m{n}": {"train": "lab-nli", "method": name} for n, name in enumerate(modules)}
    recipe = {
        "name": "x", "base": "lab/s0", "method": "seq_bn", "modules": entries,
        "arms": {"a": {"on": on}}, "targets": {"t": {"task": "lab-nli"}},
    }  # fmt: skip
    problems = validate(from_plain(recipe), TaskRegistry())
    assert any(part in str(problem) for problem in problems), problems
    fine = {**recipe, "method": "lora", "arms": {"a": {"on": "m1"}}}
    assert not validate(from_plain(fine), TaskRegistry())


def test_hypercomplex_parts_must_divide(fresh_base):  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match="equal parts"):
        Adapted(fresh_base(), {"a": LeafWeights(resolve(MethodSettings(name="compacter")))}, None)


def test_several_veras_keep_their_projections(fresh_base):  # type: ignore[no-untyped-def]
    modules = {
        "a": trained(fresh_base(), "vera", 1),
        "b": trained(fresh_base(), "vera", 2, r=6, sites=["query"]),
    }
    both = Adapted(fresh_base(), modules, Leaf("a"))
    for name in "ab":
        both.activate(Leaf(name))
        alone = hidden(Adapted(fresh_base(), {name: modules[name]}, Leaf(name)), BATCH)
        torch.testing.assert_close(hidden(both, BATCH), alone, atol=1e-6, rtol=1e-5)
