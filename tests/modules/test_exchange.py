"""Parity with the plain libraries in both directions: what leaves loads there, what comes from there loads here."""

from __future__ import annotations

import json
import os
import re

import pytest
import torch

from adapterstilts.errors import DataError, RecipeError
from adapterstilts.modules import exchange, importing
from adapterstilts.modules.artifact import read_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.merged import export_merged, why_not

from .conftest import hidden, random_batch, trained
from .test_artifact import _padded, store

BATCH = random_batch(3)
IDS, MASK = _padded(BATCH)


def rows(flat):  # type: ignore[no-untyped-def]
    return [flat[s : s + n] for s, n in zip(BATCH.starts.tolist(), BATCH.lengths.tolist(), strict=True)]


@torch.no_grad()
def plain(model):  # type: ignore[no-untyped-def]
    states = model.eval()(input_ids=IDS, attention_mask=MASK).last_hidden_state
    return [state[:n] for state, n in zip(states, BATCH.lengths.tolist(), strict=True)]


def same(theirs, ours):  # type: ignore[no-untyped-def]
    for one, two in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=1e-4)


def composed(tmp_path, fresh_base, expression, methods):  # type: ignore[no-untyped-def]
    """A stored module of an expression over leaves a, b, ...; the last is its own."""
    tmp_path.mkdir(exist_ok=True)
    parts, places = {}, {}
    names = list(methods)
    for number, name in enumerate(names[:-1]):
        leaf = trained(fresh_base(), methods[name], number)
        made, _ = store(tmp_path / name, fresh_base, {name: leaf}, Leaf(name), name)
        parts[name], places[made.trained] = made, made.directory / "leaves" / made.trained
        expression = re.sub(rf"\b{name}\b", made.trained, expression)
    weights = {key: value for made in parts.values() for key, value in made.weights().items()}
    weights[names[-1]] = trained(fresh_base(), methods[names[-1]], 9)
    module, outputs = store(tmp_path / "top", fresh_base, weights, parse(expression), names[-1], places)
    return module, rows(outputs)


def follow(readme):  # type: ignore[no-untyped-def]
    """Run the README's code; the model it ends with."""
    (code,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    scope: dict[str, object] = {}
    exec(code, scope)
    return scope["model"]


CASES = [
    ("peft", "a", {"a": "lora"}),
    ("peft", "a", {"a": "dora"}),
    ("peft", "a", {"a": "ia3"}),
    ("peft", "stack(a, 0.5*b, c)", {"a": "lora", "b": "rslora", "c": "lora"}),
    ("adapterhub", "a", {"a": "seq_bn"}),
    ("adapterhub", "a", {"a": "double_seq_bn"}),
    ("adapterhub", "a", {"a": "par_bn"}),
    ("adapterhub", "stack(a, b)", {"a": "seq_bn", "b": "double_seq_bn"}),
    ("adapterhub", "stack(a, b)", {"a": "seq_bn_inv", "b": "seq_bn"}),  # MAD-X: a language below a task
    ("adapterhub", "stack(fuse(a, b, how=attention), c)", dict.fromkeys("abc", "seq_bn")),
    ("adapterhub", "stack(fuse(a, b, how=attention), c)", {"a": "double_seq_bn", "b": "double_seq_bn", "c": "seq_bn"}),
    ("peft", "stack(a, b, c, d)", {"a": "lora", "b": "seq_bn", "c": "lora", "d": "seq_bn"}),
]


@pytest.mark.parametrize(("library", "expression", "methods"), CASES)
def test_the_readme_of_an_export_gives_equal_outputs(tmp_path, fresh_base, library, expression, methods, monkeypatch):  # type: ignore[no-untyped-def]
    module, ours = composed(tmp_path, fresh_base, expression, methods)
    out = tmp_path / "out"
    parts = exchange.export_parts(module, library, out, str(fresh_base().directory))
    assert len(parts) == len(methods)
    monkeypatch.chdir(out)
    same(plain(follow((out / "README.md").read_text())), ours)


def test_what_cannot_be_exported_says_why(tmp_path, fresh_base):  # type: ignore[no-untyped-def]
    fused, _ = composed(tmp_path / "1", fresh_base, "stack(fuse(a, b), c)", dict.fromkeys("abc", "lora"))
    with pytest.raises(RecipeError, match="fusion"):
        exchange.export_parts(fused, "peft", tmp_path / "o1", "base")
    kinds = {"a": "seq_bn", "b": "double_seq_bn", "c": "seq_bn"}
    unlike, _ = composed(tmp_path / "5", fresh_base, "stack(fuse(a, b, how=attention), c)", kinds)
    with pytest.raises(RecipeError, match="one method"):
        exchange.export_parts(unlike, "adapterhub", tmp_path / "o5", "base")
    bottleneck, _ = composed(tmp_path / "2", fresh_base, "a", {"a": "seq_bn"})
    with pytest.raises(RecipeError, match="nothing for peft"):
        exchange.export_parts(bottleneck, "peft", tmp_path / "o2", "base")
    with pytest.raises(RecipeError, match="plain checkpoint"):
        export_merged(bottleneck, fresh_base(), Adapted(fresh_base(), {}, None), tmp_path / "o3")
    assert "gate" in str(why_not(fused))
    several, _ = composed(tmp_path / "3", fresh_base, "stack(a, b)", {"a": "dora", "b": "lora"})
    exchange.export_parts(several, "peft", tmp_path / "o4", "base")
    assert "does not compute" in (tmp_path / "o4" / "README.md").read_text()


@pytest.mark.parametrize(("expression", "methods"), [
    ("a", {"a": "lora"}),
    ("stack(0.5*a, b, c, -2*d)", {"a": "lora", "b": "dora", "c": "ia3", "d": "rslora"}),
    ("stack(fuse(a, b, how=weights), c)", {"a": "lora", "b": "ia3", "c": "dora"}),
])  # fmt: skip
def test_a_sum_of_deltas_folds_into_plain_transformers(tmp_path, fresh_base, expression, methods):  # type: ignore[no-untyped-def]
    from transformers import AutoModel, AutoModelForMaskedLM

    module, ours = composed(tmp_path, fresh_base, expression, methods)
    adapted = Adapted(fresh_base(), module.weights(), module.tree, fusion=module.fusion())
    made = export_merged(module, fresh_base(), adapted, tmp_path / "out")
    assert made.head is None and made.changed == 12
    model, report = AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]
    same(plain(model), ours)
    _, report = AutoModelForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]


@pytest.mark.parametrize("format", ["classification", "multiple_choice", "tagging", "span"])
def test_a_head_becomes_that_of_the_transformers_class(tmp_path, fresh_base, format):  # type: ignore[no-untyped-def]
    import transformers

    from adapterstilts.encoder.heads import build_head
    from adapterstilts.modules.artifact import write_module

    adapted = Adapted(fresh_base(), {"a": trained(fresh_base(), "lora", 1)}, Leaf("a"))
    head = build_head(format, 32, 3)
    about = {"format": format, "labels": ["x", "y", "z"] if format in ("classification", "tagging") else []}
    (tmp_path / "m").mkdir()
    module = write_module(
        tmp_path / "m", adapted, trained="a", parents={}, base="b", tokenizer="t",
        heads={"h": ({**about, "pool": "cls"}, dict(head.named_parameters()))},
    )  # fmt: skip
    made = export_merged(module, fresh_base(), adapted, tmp_path / "out", "h")
    model, report = getattr(transformers, made.architecture).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with torch.no_grad():
        ours = head.eval().outputs(head(adapted.encode(BATCH), BATCH), BATCH)
        if format == "multiple_choice":
            theirs = model.eval()(input_ids=IDS[None], attention_mask=MASK[None]).logits[0, :, None]
        elif format == "span":
            output = model.eval()(input_ids=IDS, attention_mask=MASK)
            theirs = torch.stack([output.start_logits, output.end_logits], dim=-1)
        else:
            theirs = model.eval()(input_ids=IDS, attention_mask=MASK).logits
    for one, two in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one[: len(two)] if two.ndim > 1 else one, two, atol=2e-5, rtol=1e-4)


def randomise(model, part):  # type: ignore[no-untyped-def]
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def peft_configs():  # type: ignore[no-untyped-def]
    from peft import IA3Config, LoraConfig

    return {
        "q,v": LoraConfig(r=4, target_modules=["query", "value"]),
        "dense, rslora": LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=["dense"]),
        "dora": LoraConfig(r=2, use_dora=True, target_modules=["key", "output.dense"], layers_to_transform=[1]),
        "ia3": IA3Config(target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]),
    }


@pytest.mark.parametrize("name", ["q,v", "dense, rslora", "dora", "ia3"])
@pytest.mark.parametrize("headed", [False, True])
def test_plain_peft_directories_load_here(tmp_path, fresh_base, name, headed):  # type: ignore[no-untyped-def]
    from peft import get_peft_model
    from transformers import XLMRobertaForTokenClassification

    base = fresh_base()
    model = XLMRobertaForTokenClassification.from_pretrained(base.directory) if headed else base.model
    theirs = get_peft_model(model, peft_configs()[name])
    randomise(theirs, "ia3_l" if name == "ia3" else "lora_")
    theirs.save_pretrained(tmp_path / "theirs")
    read = importing.import_peft(tmp_path / "theirs")
    ours = Adapted(fresh_base(), {"m": read.weights}, Leaf("m"))
    importing.fitting(read.weights, ours.tensors("m"), tmp_path)
    encoder = theirs.base_model.model.roberta if headed else theirs
    same(plain(encoder), rows(hidden(ours, BATCH)))


KINDS = ["seq_bn", "double_seq_bn", "par_bn", "old pfeiffer", "seq_bn_inv", "double_seq_bn_inv"]


@pytest.mark.parametrize("config", KINDS)
@pytest.mark.parametrize("headed", [False, True])
def test_plain_adapters_directories_load_here(tmp_path, fresh_base, config, headed):  # type: ignore[no-untyped-def]
    import adapters
    from transformers import XLMRobertaForTokenClassification

    base = fresh_base()
    model = XLMRobertaForTokenClassification.from_pretrained(base.directory) if headed else base.model
    adapters.init(model)
    if config == "old pfeiffer":
        chosen = adapters.SeqBnConfig(reduction_factor=2, non_linearity="gelu", leave_out=[0])
    else:
        chosen = adapters.AdapterConfig.load(config, reduction_factor=4)
    model.add_adapter("theirs", config=chosen)
    model.set_active_adapters("theirs")
    randomise(model, ".theirs.")
    model.save_adapter(str(tmp_path / "d"), "theirs", with_head=False, use_safetensors=True)
    read = importing.import_adapterhub(tmp_path / "d")
    ours = Adapted(fresh_base(), {"m": read.weights}, Leaf("m"))
    importing.fitting(read.weights, ours.tensors("m"), tmp_path)
    same(plain(model.roberta if headed else model), rows(hidden(ours, BATCH)))


def test_a_pickle_is_refused_with_a_command_that_converts_it(tmp_path, fresh_base, monkeypatch):  # type: ignore[no-untyped-def]
    from peft import get_peft_model

    theirs = get_peft_model(fresh_base().model, peft_configs()["q,v"])
    randomise(theirs, "lora_")
    theirs.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(DataError, match="pickle") as caught:
        importing.import_peft(tmp_path)
    code = re.fullmatch(r'python -c "(.*)"', str(caught.value.fix))
    assert code is not None
    exec(code[1], {})
    assert importing.import_peft(tmp_path).weights.method.parameters["sites"] == ["query", "value"]


@pytest.mark.parametrize(("change", "part"), [
    ({"peft_type": "VBLORA"}, "VBLORA"),
    ({"rank_pattern": {"query": 2}}, "rank_pattern"),
    ({"bias": "all"}, "bias"),
    ({"init_lora_weights": "pissa"}, "pissa"),
    ({"r": 7}, "r is 7"),
])  # fmt: skip
def test_what_cannot_be_imported_exactly_is_refused(tmp_path, fresh_base, change, part):  # type: ignore[no-untyped-def]
    from peft import get_peft_model

    get_peft_model(fresh_base().model, peft_configs()["q,v"]).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=part):
        importing.import_peft(tmp_path)


def test_a_module_of_another_base_does_not_fit(tmp_path, fresh_base):  # type: ignore[no-untyped-def]
    module, _ = composed(tmp_path, fresh_base, "a", {"a": "lora"})
    read = importing.import_peft(next((module.directory / "leaves").iterdir()))
    expected = Adapted(fresh_base(), {"m": read.weights}, None).tensors("m")
    name = next(iter(expected))
    with pytest.raises(DataError, match="does not fit"):
        importing.fitting(read.weights, {**expected, name: torch.zeros(4, 99)}, tmp_path)
    with pytest.raises(DataError, match="missing"):
        importing.fitting(read.weights, {**expected, "encoder.layer.7.x": torch.zeros(1)}, tmp_path)
    assert read_module(module.directory).tree == module.tree and os.path.exists(module.directory)


def imported(directory, base):  # type: ignore[no-untyped-def]
    """Outputs of a setup of plain adapters here."""
    read = importing.import_setup(directory)
    weights = {leaf: part.weights for leaf, part in read.parts.items()}
    importing.check_fits(weights, base(), directory)
    return read, rows(hidden(Adapted(base(), weights, read.tree, fusion=read.fusion), BATCH))


@pytest.mark.parametrize(("expression", "methods"), [
    ("fuse(a, b, how=attention)", {"a": "seq_bn", "b": "seq_bn"}),
    ("stack(a, fuse(b, c, how=attention), d)", {"a": "seq_bn_inv", "b": "seq_bn", "c": "seq_bn", "d": "seq_bn"}),
])  # fmt: skip
def test_a_fusion_comes_back_from_its_export(tmp_path, fresh_base, expression, methods, monkeypatch):  # type: ignore[no-untyped-def]
    module, ours = composed(tmp_path, fresh_base, expression, methods)
    exchange.export_parts(module, "adapterhub", tmp_path / "out", str(fresh_base().directory))
    read, again = imported(tmp_path / "out", fresh_base)
    assert read.tree == module.tree and read.fusion.keys() == module.fusion().keys()
    same(again, ours)
    monkeypatch.chdir(tmp_path / "out")
    same(plain(follow((tmp_path / "out" / "README.md").read_text())), ours)


def saved_setup(directory, base, kind, block, methods, **options):  # type: ignore[no-untyped-def]
    """Random modules and fusions of plain adapters, saved as its own setup; its outputs."""
    return plain(plain_setup(directory, base, kind, block, methods, **options))


def plain_setup(directory, base, kind, block, methods, **options):  # type: ignore[no-untyped-def]
    import adapters

    model = base().model
    adapters.init(model)
    for name, method in methods.items():
        method, *left = method if isinstance(method, tuple) else (method,)
        model.add_adapter(name, config=adapters.AdapterConfig.load(method, reduction_factor=4, leave_out=left))
    fused = [part for part in (block, *block.children) if isinstance(part, adapters.composition.Fuse)]
    for part in fused:
        model.add_adapter_fusion(part, kind)
    model.set_active_adapters(block)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "adapter" in name:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.save_adapter_setup(str(directory), block, **options)
    return model


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_setups_of_plain_adapters_load_here(tmp_path, fresh_base, kind):  # type: ignore[no-untyped-def]
    from adapters.composition import Fuse, Stack

    block = Stack("lang", Fuse("nli", "qa"), "task")
    methods = {"lang": "seq_bn_inv", "nli": "seq_bn", "qa": "seq_bn", "task": "seq_bn"}
    theirs = saved_setup(tmp_path / "s", fresh_base, kind, block, methods, use_safetensors=True)
    read, ours = imported(tmp_path / "s", fresh_base)
    assert len(read.parts) == 4 and read.fusion
    same(theirs, ours)


def test_the_regulariser_is_that_of_plain_adapters(tmp_path, fresh_base):  # type: ignore[no-untyped-def]
    from adapters.composition import Fuse

    methods = {"nli": "seq_bn", "qa": "seq_bn"}
    model = plain_setup(tmp_path / "s", fresh_base, "dynamic", Fuse("nli", "qa"), methods, use_safetensors=True)
    model.train_adapter_fusion(Fuse("nli", "qa"))
    theirs = model.get_fusion_regularization_loss()
    read, _ = imported(tmp_path / "s", fresh_base)
    weights = {leaf: part.weights for leaf, part in read.parts.items()}
    train = frozenset(list(weights)[:1])  # fusions train when a leaf does
    adapted = Adapted(fresh_base(), weights, read.tree, train=train, fusion=read.fusion, keep_fusion=False)
    ours = adapted.penalty()
    torch.testing.assert_close(ours, theirs)
    ours.backward(), theirs.backward()
    gradients = [p.grad for name, p in adapted.trainable().items() if name.endswith("value.weight")]
    known = [p.grad for name, p in model.named_parameters() if p.grad is not None]
    assert len(gradients) == len(known) > 0
    for one, other in zip(gradients, known, strict=True):
        torch.testing.assert_close(one, other)


def test_setups_that_say_something_else_are_refused(tmp_path, fresh_base):  # type: ignore[no-untyped-def]
    from adapters.composition import Average, Fuse, Stack

    two = {"nli": "seq_bn", "qa": "seq_bn"}
    saved_setup(tmp_path / "pickled", fresh_base, "dynamic", Fuse("nli", "qa"), two)
    with pytest.raises(DataError, match="pickle"):
        importing.import_setup(tmp_path / "pickled")
    for name, block, methods, reason in (
        ("average", Average("nli", "qa"), two, "Average"),
        ("parallel", Stack("nli", "qa"), {"nli": "seq_bn", "qa": "par_bn"}, "loses the hidden state"),
        ("unlike", Fuse("nli", "qa"), {"nli": ("seq_bn", 0), "qa": "seq_bn"}, "fails"),
    ):
        saved_setup(tmp_path / name, fresh_base, "dynamic", block, methods, use_safetensors=True)
        with pytest.raises(DataError, match=reason):
            importing.import_setup(tmp_path / name)
    for name, change, reason in (("climbs", "../nli", "leaves the folder"), ("deep", "x/nli", "path")):
        (tmp_path / name).mkdir()
        setup = {"adapter_setup": {"type": "Stack", "children": [{"type": "single", "children": [change]}]}}
        (tmp_path / name / "adapter_setup.json").write_text(json.dumps(setup))
        with pytest.raises(DataError, match=reason):
            importing.import_setup(tmp_path / name)
    saved_setup(tmp_path / "warm", fresh_base, "dynamic", Fuse("nli", "qa"), two, use_safetensors=True)
    config = tmp_path / "warm" / "nli,qa" / "adapter_fusion_config.json"
    config.write_text(config.read_text().replace('"temperature": false', '"temperature": true'))
    with pytest.raises(DataError, match="temperature"):
        importing.import_setup(tmp_path / "warm")
