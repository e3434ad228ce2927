"""Bases by Hub id: the real loading code, on a local cache of the Hub's own layout, without a network."""

from __future__ import annotations

import shutil

import pytest
import torch

from adapterstilts.encoder.base import VocabularyHead, fetch, load_base
from adapterstilts.encoder.reference import fingerprint, locate
from adapterstilts.errors import DataError
from adapterstilts.store.files import sha256
from tests.modules.conftest import tiny_directory  # noqa: F401


@pytest.fixture
def hub_cache(tiny_directory, tmp_path, monkeypatch):  # type: ignore[no-untyped-def] # noqa: F811
    """models--OWNER--NAME/{refs/main, snapshots/REV}: what huggingface_hub leaves behind."""
    import huggingface_hub.constants as constants

    revision = "c" * 40
    for name in ("FacebookAI--xlm-roberta-large", "someone--other"):
        place = tmp_path / f"models--{name}"
        shutil.copytree(tiny_directory, place / "snapshots" / revision)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(revision)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub._snapshot_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize("ref", ["xlm-roberta-large", "FacebookAI/xlm-roberta-large", "someone/other@main"])
def test_a_hub_base_loads(hub_cache, ref):  # type: ignore[no-untyped-def]
    base = load_base(ref)
    assert base.layers == 2 and hub_cache in base.directory.parents
    assert not any(p.requires_grad for p in base.model.parameters())


def test_an_unknown_hub_base_is_one_clear_error(hub_cache):  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch("someone/nothing")


def test_identity_is_the_bytes_or_the_revision(tiny_directory, tmp_path):  # type: ignore[no-untyped-def] # noqa: F811
    assert fingerprint(locate("a/b@v1"), sha256) != fingerprint(locate("a/b@v2"), sha256)
    assert locate("xlm-roberta-large").repository == "FacebookAI/xlm-roberta-large"
    copy = tmp_path / "elsewhere"
    shutil.copytree(tiny_directory, copy)
    (copy / "tokenizer.json").write_text("{}")
    weights, _ = fingerprint(locate(str(shutil.copytree(copy, tmp_path / "one"))), sha256)
    assert fingerprint(locate(str(copy)), sha256)[0] == weights
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(data))
    assert fingerprint(locate(str(copy)), sha256)[0] != weights


def test_the_vocabulary_head_is_that_of_the_masked_lm(tiny_directory):  # type: ignore[no-untyped-def] # noqa: F811
    from transformers import XLMRobertaForMaskedLM

    base = load_base(str(tiny_directory))
    whole = XLMRobertaForMaskedLM.from_pretrained(tiny_directory).eval()
    ids = torch.randint(4, 97, (2, 9))
    with torch.no_grad():
        ours = VocabularyHead(base)(base.model(ids).last_hidden_state)
        torch.testing.assert_close(ours, whole(ids).logits, atol=1e-5, rtol=1e-4)
