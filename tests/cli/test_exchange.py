"""export and import of modules, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.conftest import Program
from tests.modules.conftest import random_batch


def test_a_module_goes_to_peft_and_comes_back_as_the_same_leaf(done: Program) -> None:
    made = done.json("export", "peft", "small/nli", "--out", "nli-peft")
    assert [part["method"] for part in made["parts"]] == ["lora"]
    back = done.json("import", "peft", "nli-peft", "--base", "lab/s0", "--name", "back")
    leaf = json.loads((done.store / "artifacts/import" / back["hash"][:2] / back["hash"] / "module.json").read_text())
    home = done.json("show", "small/nli")["path"]
    assert leaf["trained"] == json.loads(Path(home, "module.json").read_text())["trained"]
    again = done.json("import", "peft", "nli-peft", "--base", "lab/s0", "--name", "back")
    assert again["hash"] == back["hash"]
    assert {entry["name"]: entry["kind"] for entry in done.json("ls", "modules")}["back"] == "import"
    assert done.json("explain", "stack(back, lora)")["trainable"] > 0
    stacked = done.json("stack", "back", "--train", "t-nli", "--limit", "20", "--epochs", "1", "--name", "over")
    assert stacked["dev"]
    assert "no head" in done("evaluate", "back", "t-nli", code=2).stderr


def test_a_merged_checkpoint_is_a_base_and_a_classifier(done: Program) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    import adapterstilts

    made = done.json("export", "merged", "small/nli", "--out", "plain")
    assert made["architecture"] == "XLMRobertaForSequenceClassification" and made["head"] == "t-nli"
    model = AutoModelForSequenceClassification.from_pretrained("plain").eval()
    tokens = AutoTokenizer.from_pretrained("plain")("a text", return_tensors="pt")
    with torch.no_grad():
        theirs = model.roberta(**tokens).last_hidden_state[0, 0].numpy()
    ours = adapterstilts.load("small/nli", store=done.store).encode(["a text"], pooling="cls")[0]
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    done("export", "merged", "small/nli", "--head", "none", "--out", "headless")
    bare = adapterstilts.load("base", base="headless").encode(["a text"], pooling="cls")[0]
    np.testing.assert_allclose(bare, ours, atol=1e-4)
    assert "not empty" in done("export", "merged", "small/nli", "--out", "plain", code=3).stderr
    assert "no head `x`" in done("export", "merged", "small/nli", "--head", "x", "--out", "new", code=2).stderr
    assert not (done.folder / "new").exists()


def test_what_cannot_be_exchanged_is_said(done: Program) -> None:
    assert "export peft" in done("export", "adapterhub", "small/nli", "--out", "no", code=2).stderr
    (done.folder / "empty").mkdir(exist_ok=True)
    assert "adapter_config.json" in done("import", "peft", "empty", "--base", "lab/s0", "--name", "x", code=3).stderr


def language_adapter(directory: Path, seed: int) -> None:
    """A plain seq_bn_inv of the lab's base, as AdapterHub holds languages, away from its start."""
    import adapters

    from adapterstilts.encoder.base import load_base

    model = load_base("lab/s0").model
    adapters.init(model)
    model.add_adapter("lang", config=adapters.AdapterConfig.load("seq_bn_inv", reduction_factor=4))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if ".lang." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    model.save_adapter(str(directory), "lang", with_head=False, use_safetensors=True)


def test_language_adapters_of_the_hub_fill_slots_as_the_plain_library_stacks_them(
    done: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import adapters

    from adapterstilts.encoder.base import load_base
    from adapterstilts.modules.artifact import load_adapted, read_module
    from adapterstilts.store import Store

    place = tmp_path / "cache" / "models--someone--qaa"
    (place / "snapshots").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("c" * 40)
    language_adapter(place / "snapshots" / ("c" * 40), 1)
    language_adapter(tmp_path / "en", 2)
    for name in ("constants.HF_HUB_CACHE", "_snapshot_download.HF_HUB_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.{name}", str(tmp_path / "cache"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    done("import", "adapterhub", "someone/qaa", "--base", "lab/s0", "--name", "l-qaa")
    done("import", "adapterhub", tmp_path / "en", "--base", "lab/s0", "--name", "l-en")
    refused = done("import", "adapterhub", "someone/nothing", "--base", "lab/s0", "--name", "x", code=3)
    assert "the Hub refuses `someone/nothing`" in refused.stderr
    made = ("--method", "{name: seq_bn, reduction: 8}", "--limit", "20", "--epochs", "1", "--name", "madx")
    done("stack", "{language}", "--slot", "en=l-en", "--train", "t-nli", *made)
    scored = done.json("evaluate", "madx", "t-nli", "--slot", "en=l-en", "--slot", "qaa=l-qaa", "--limit", "10")
    assert {row["language"] for row in scored} == {"en", "qaa", "qac"}

    store = Store(done.store)
    module, qaa = (read_module(store.path(store.resolve(name))) for name in ("madx", "l-qaa"))
    ours = load_adapted(load_base("lab/s0"), module, [qaa])
    ours.activate(module.bound(qaa.bound()))
    batch = random_batch(3)
    with torch.no_grad():
        packed, padded = ours.encode(batch), ours.encode_padded(batch)
    torch.testing.assert_close(packed, padded, atol=2e-5, rtol=1e-4)
    plain = load_base("lab/s0").model
    adapters.init(plain)
    plain.load_adapter(str(place / "snapshots" / ("c" * 40)), load_as="language", use_safetensors=True)
    task = module.directory / "leaves" / module.trained
    plain.load_adapter(str(task), load_as="task", use_safetensors=True)
    plain.set_active_adapters(adapters.composition.Stack("language", "task"))
    for start, length in zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True):
        with torch.no_grad():
            theirs = plain.eval()(input_ids=batch.ids[None, start : start + length]).last_hidden_state[0]
        torch.testing.assert_close(theirs, packed[start : start + length], atol=2e-5, rtol=1e-4)


def test_a_setup_with_its_fusion_is_a_module_like_any_other(done: Program, tmp_path: Path) -> None:
    from adapters.composition import Fuse, Stack

    from adapterstilts.encoder.base import load_base
    from tests.modules.test_exchange import saved_setup

    methods = {"lang": "seq_bn_inv", "nli": "seq_bn", "qa": "seq_bn"}
    block = Stack("lang", Fuse("nli", "qa"))
    saved_setup(tmp_path / "s", lambda: load_base("lab/s0"), "dynamic", block, methods, use_safetensors=True)
    made = done.json("import", "adapterhub", tmp_path / "s", "--base", "lab/s0", "--name", "fused")
    lang, nli, qa = (leaf["leaf"] for leaf in made["modules"])
    assert made["expression"] == f"stack({lang}, fuse({nli}, {qa}, how=attention))"
    again = done.json("import", "adapterhub", tmp_path / "s", "--base", "lab/s0", "--name", "fused")
    assert again["hash"] == made["hash"]
    assert "AdapterFusion" in str(done.json("explain", "fused")) or "attention" in str(done.json("explain", "fused"))
    done("stack", "fused", "--train", "t-nli", "--limit", "20", "--epochs", "1", "--name", "over-fused")
    done("evaluate", "over-fused", "t-nli", "--languages", "en", "--limit", "10")
    used = done.json("usage", "over-fused")
    assert {row["how"] for row in used} == {"attention"} and {row["layer"] for row in used} == {0, 1, 2, 3}
    out = done.json("export", "adapterhub", "fused", "--out", "fused-plain")
    assert len(out["parts"]) == 3
    back = done.json("import", "adapterhub", "fused-plain", "--base", "lab/s0", "--name", "back")
    assert back["hash"] == made["hash"]
