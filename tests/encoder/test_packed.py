"""Unpadded execution equals the library's padded forward, in outputs, loss and every gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapterstilts.encoder.base import load_base
from adapterstilts.encoder.batch import by_length, collate
from adapterstilts.encoder.heads import build_head, pool
from adapterstilts.errors import DataError, StageFailed
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import parse
from adapterstilts.settings import EngineSettings
from tests.modules.conftest import fresh_base, random_batch, tiny_directory, trained  # noqa: F401

FORMATS = ["classification", "multiple_choice", "tagging", "span"]


def batch_for(format: str, lengths=(9, 4, 17, 4, 1, 30), seed=0):  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    rows = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(4, 97, rows[-1]).astype(np.int32)
    examples = np.array([0, 2, 4, 6]) if format == "multiple_choice" else np.arange(len(lengths) + 1)
    count = len(examples) - 1
    fields = {
        "classification": {"label": ("example", random.integers(0, 3, count))},
        "multiple_choice": {"label": ("example", random.integers(0, 2, count))},
        "tagging": {"label": ("token", random.choice([-100, 0, 1, 2], rows[-1]))},
        "span": {"start": ("row", np.array([0, 3, 7, 1, 0, 29])), "end": ("row", np.array([8, 3, 9, 2, 0, 29]))},
    }[format]
    return collate(ids, rows, examples, fields, range(count), pad_id=1)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("modules", [{"a": "lora"}, {"a": "seq_bn"}, {"a": "lora", "b": "seq_bn", "c": "lora"}])
def test_packed_equals_padded(fresh_base, format, modules):  # type: ignore[no-untyped-def] # noqa: F811
    weights = {name: trained(fresh_base(), kind, index) for index, (name, kind) in enumerate(modules.items())}
    tree = parse(f"stack({', '.join(modules)})")
    batch = batch_for(format)
    found = []
    for packed in (True, False):
        engine = EngineSettings(packed=packed)
        adapted = Adapted(fresh_base(), weights, tree, train=frozenset({list(modules)[-1]}), engine=engine)
        torch.manual_seed(7)
        head = build_head(format, 32, 3, pool="cls_mean")
        loss, units = head.loss(adapted.logits(head, batch), batch)
        (loss / units).backward()
        gradients = torch.cat([p.grad.flatten() for p in [*adapted.trainable().values(), *head.parameters()]])
        found.append((float(loss.detach()), gradients))
    (loss, gradients), (loss_padded, padded) = found
    assert loss == pytest.approx(loss_padded, rel=1e-6)
    assert float((gradients - padded).norm() / padded.norm()) < 1e-5


def test_heads_score_each_row_whatever_the_company(fresh_base):  # type: ignore[no-untyped-def] # noqa: F811
    adapted = Adapted(fresh_base(), {}, None)
    for format in FORMATS:
        batch = batch_for(format)
        head = build_head(format, 32, 3)
        with torch.no_grad():
            together = head.outputs(head(adapted.encode(batch), batch), batch)
            for row, (start, length) in enumerate(zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)):
                ids = batch.ids[start : start + length].numpy().astype(np.int32)
                alone = collate(ids, np.array([0, length]), np.array([0, 1]), {}, [0], pad_id=1)
                torch.testing.assert_close(
                    head.outputs(head(adapted.encode(alone), alone), alone)[0], together[row], atol=1e-5, rtol=1e-4
                )


def test_layers_are_those_of_transformers_and_stop_where_told(fresh_base):  # type: ignore[no-untyped-def] # noqa: F811
    base = fresh_base()
    adapted = Adapted(base, {}, None)
    batch = random_batch(1, (6, 6, 2))
    with torch.no_grad():
        ours = list(adapted.layers(batch))
        for row, (start, length) in enumerate(zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)):
            theirs = base.model(batch.ids[start : start + length][None], output_hidden_states=True).hidden_states
            for layer, states in enumerate(theirs):
                torch.testing.assert_close(ours[layer][start : start + length], states[0], atol=1e-5, rtol=1e-4), row
        assert len(list(adapted.layers(batch, stop=1))) == 2


@pytest.mark.parametrize("how", ["mean", "cls", "cls_mean"])
def test_pooling(how):  # type: ignore[no-untyped-def]
    batch = random_batch(2)
    states = torch.randn(len(batch.ids), 5)
    for row, (start, length) in enumerate(zip(batch.starts.tolist(), batch.lengths.tolist(), strict=True)):
        part = states[start : start + length]
        wanted = {"mean": part.mean(0), "cls": part[0], "cls_mean": torch.cat([part[0], part.mean(0)])}[how]
        torch.testing.assert_close(pool(states, batch, how)[row], wanted)


def test_another_attention_is_refused(fresh_base):  # type: ignore[no-untyped-def] # noqa: F811
    base = fresh_base()
    from transformers import AutoModel

    eager = AutoModel.from_pretrained(base.directory, add_pooling_layer=False, attn_implementation="eager")
    object.__setattr__(base, "model", eager.eval())
    with pytest.raises(StageFailed, match="0 attentions were intercepted"):
        Adapted(base, {}, None).encode(random_batch())


def test_bf16_base_stays_near_fp32(tiny_directory, fresh_base):  # type: ignore[no-untyped-def] # noqa: F811
    weights = {"a": trained(fresh_base(), "lora", 1)}
    exact = Adapted(fresh_base(), weights, parse("a"))
    half = Adapted(load_base(str(tiny_directory), "bf16"), weights, parse("a"))
    assert {p.dtype for p in half.tensors("a").values()} == {torch.float32}
    with torch.no_grad():
        a, b = exact.encode(random_batch()), half.encode(random_batch())
    assert b.dtype == torch.float32 and float((a - b).norm() / a.norm()) < 0.05


def test_parts_hold_every_example_once_within_the_budget():  # type: ignore[no-untyped-def]
    random = np.random.default_rng(0)
    for budget in (1, 10, 64, 10_000):
        lengths = random.integers(1, 60, 200)
        parts = by_length(lengths, budget)
        assert sorted(np.concatenate(parts).tolist()) == list(range(200))
        assert all(len(part) == 1 or lengths[part].sum() <= budget for part in parts)
    assert by_length(np.array([], dtype=np.int64), 10) == []


def test_a_base_that_is_not_there_is_a_clear_error(tmp_path):  # type: ignore[no-untyped-def]
    for ref, text in (("./nowhere", "no base at"), ("lab/s9", "no shipped base"), (str(tmp_path), "not a base")):
        with pytest.raises(DataError, match=text):
            load_base(ref)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(DataError, match="gpt2"):
        load_base(str(tmp_path))
