"""Modules on disk: they load again, load in their own library, and refuse what is not theirs."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from adapterstilts.errors import StoreError
from adapterstilts.modules.artifact import load_adapted, read_module, write_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights

from .conftest import hidden, random_batch, trained

BATCH = random_batch(3)


def store(directory, fresh_base, weights, tree, own, parents=None, **options):  # type: ignore[no-untyped-def]
    directory.mkdir()
    adapted = Adapted(fresh_base(), weights, tree, **options)
    with torch.no_grad():
        for parameter in adapted.fusion_tensors().values():
            # Larger scores saturate AdapterFusion's softmax, and fp32 then differs from fp64 in the fifth digit.
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    module = write_module(
        directory, adapted, trained=own, parents=parents or {}, heads={}, base="base-1", tokenizer="tok-1"
    )
    return module, hidden(adapted, BATCH)


@pytest.mark.parametrize("name", ["lora", "rslora", "dora", "ia3", "seq_bn", "double_seq_bn"])
def test_save_and_load_give_equal_outputs(fresh_base, tmp_path, name):  # type: ignore[no-untyped-def]
    _, before = store(tmp_path / "m", fresh_base, {"a": trained(fresh_base(), name, 1)}, Leaf("a"), "a")
    again = load_adapted(fresh_base(), read_module(tmp_path / "m", base="base-1"))
    assert torch.equal(hidden(again, BATCH), before)
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("expression", ["stack(A, b)", "stack(fuse(A, C), b)", "stack(fuse(A, C, how=weights), b)"])
@pytest.mark.parametrize("family", ["lora", "seq_bn"])
def test_a_composition_travels_as_one_directory(fresh_base, tmp_path, expression, family):  # type: ignore[no-untyped-def]
    a, _ = store(tmp_path / "a", fresh_base, {"a": trained(fresh_base(), family, 1)}, Leaf("a"), "a")
    c, _ = store(tmp_path / "c", fresh_base, {"c": trained(fresh_base(), family, 2)}, Leaf("c"), "c")
    tree = parse(expression.replace("A", a.trained).replace("C", c.trained))
    weights = {**a.weights(), **(c.weights() if "C" in expression else {}), "b": trained(fresh_base(), family, 3)}
    places = {m.trained: m.directory / "leaves" / m.trained for m in (a, c)}
    module, before = store(tmp_path / "top", fresh_base, weights, tree, "b", places, train=frozenset({"b"}))
    shutil.rmtree(tmp_path / "a")
    shutil.rmtree(tmp_path / "c")
    assert torch.equal(hidden(load_adapted(fresh_base(), read_module(tmp_path / "top")), BATCH), before)
    shutil.rmtree(tmp_path / "top" / "leaves" / a.trained)
    with pytest.raises(StoreError, match=a.trained):
        load_adapted(fresh_base(), module)


@pytest.mark.parametrize("name", ["lora", "rslora", "dora", "ia3"])
def test_plain_peft_loads_a_delta_module(fresh_base, tmp_path, name):  # type: ignore[no-untyped-def]
    from peft import PeftModel

    module, before = store(tmp_path / "m", fresh_base, {"a": trained(fresh_base(), name, 1)}, Leaf("a"), "a")
    plain = PeftModel.from_pretrained(fresh_base().model, str(tmp_path / "m" / "leaves" / module.trained)).eval()
    ids, mask = _padded(BATCH)
    with torch.no_grad():
        states = plain(input_ids=ids, attention_mask=mask).last_hidden_state
    _same(states, before)


def test_plain_adapters_loads_a_bottleneck(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    import adapters

    module, before = store(tmp_path / "m", fresh_base, {"a": trained(fresh_base(), "seq_bn", 1)}, Leaf("a"), "a")
    plain = fresh_base().model
    adapters.init(plain)
    name = plain.load_adapter(str(tmp_path / "m" / "leaves" / module.trained), use_safetensors=True)
    plain.set_active_adapters(name)
    ids, mask = _padded(BATCH)
    with torch.no_grad():
        _same(plain(input_ids=ids, attention_mask=mask).last_hidden_state, before)


def test_an_id_follows_the_weights_not_the_names(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    weights = trained(fresh_base(), "lora", 1)
    one, _ = store(tmp_path / "1", fresh_base, {"x": weights}, Leaf("x"), "x")
    two, _ = store(tmp_path / "2", fresh_base, {"y": weights}, Leaf("y"), "y")
    other, _ = store(tmp_path / "3", fresh_base, {"x": trained(fresh_base(), "lora", 2)}, Leaf("x"), "x")
    assert one.trained == two.trained != other.trained


def test_another_base_a_truncated_file_and_altered_weights_are_refused(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    module, _ = store(tmp_path / "m", fresh_base, {"a": trained(fresh_base(), "lora", 1)}, Leaf("a"), "a")
    with pytest.raises(StoreError, match="another base"):
        read_module(tmp_path / "m", base="base-2")
    with pytest.raises(StoreError, match="not a module"):
        read_module(tmp_path)
    weights = next((tmp_path / "m" / "leaves").rglob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match="cannot be read"):
        load_adapted(fresh_base(), module)
    weights.write_bytes(whole[:-400] + bytes(400))
    with pytest.raises(StoreError, match="stored outputs"):
        load_adapted(fresh_base(), module)


def test_the_description_is_plain_json(fresh_base, tmp_path):  # type: ignore[no-untyped-def]
    store(tmp_path / "m", fresh_base, {"a": LeafWeights(trained(fresh_base(), "lora", 1).method)}, Leaf("a"), "a")
    plain = json.loads((tmp_path / "m" / "module.json").read_text())
    assert set(plain) == {"tree", "trained", "leaves", "heads", "base", "tokenizer", "precision"}
    assert plain["leaves"][plain["trained"]]["name"] == "lora"


def _padded(batch):  # type: ignore[no-untyped-def]
    width = int(batch.lengths.max())
    ids = torch.ones(len(batch), width, dtype=torch.long)
    for row, (start, length) in enumerate(zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)):
        ids[row, :length] = batch.ids[start : start + length]
    return ids, (torch.arange(width)[None] < batch.lengths[:, None]).long()


def _same(states, flat):  # type: ignore[no-untyped-def]
    for row, (start, length) in enumerate(zip(BATCH.starts.tolist(), BATCH.lengths.tolist(), strict=True)):
        torch.testing.assert_close(states[row, :length], flat[start : start + length], atol=2e-5, rtol=1e-4)
