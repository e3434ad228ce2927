"""export and import of modules, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from tests.cli.conftest import Program


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
