"""One training step and one prediction of the real XLM-R Large shape, with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapterstilts.encoder.base import Base
from adapterstilts.encoder.batch import collate
from adapterstilts.encoder.heads import build_head
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights
from tests.modules.conftest import method


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "seq_bn"])
def test_a_step_of_xlmr_large(tmp_path, name):  # type: ignore[no-untyped-def]
    from transformers import XLMRobertaConfig, XLMRobertaModel

    config = XLMRobertaConfig(
        vocab_size=250002, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        max_position_embeddings=514, type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    model = XLMRobertaModel(config, add_pooling_layer=False).requires_grad_(False).eval()
    assert sum(p.numel() for p in model.parameters()) == 558_840_832
    base = Base("random", tmp_path, model, pad_id=1)
    modules = {"a": LeafWeights(method(name)), "b": LeafWeights(method(name))}
    adapted = Adapted(base, modules, parse("stack(a, b)"), train=frozenset("b"))
    head = build_head("classification", 1024, 3)
    lengths = (21, 60, 33, 45)
    rows = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.random.default_rng(0).integers(4, 250001, rows[-1]).astype(np.int32)
    fields = {"label": ("example", np.array([0, 1, 2, 0]))}
    batch = collate(ids, rows, np.arange(5), fields, range(4), pad_id=1)
    parameters = [*adapted.trainable().values(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5)
    losses = []
    for _ in range(2):
        loss, units = head.loss(head(adapted.encode(batch), batch), batch)
        (loss / units).backward()
        assert all(p.grad is not None for p in parameters)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]
    with torch.no_grad():
        assert head(adapted.encode(batch), batch).shape == (4, 3)
