"""A base as it is loaded: the bits of transformers, fewer embedding rows, fewer bits in its linear layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapterstilts.encoder.base import VocabularyHead, load_base
from adapterstilts.encoder.batch import collate
from adapterstilts.encoder.heads import build_head
from adapterstilts.encoder.precision import PACKED
from adapterstilts.errors import StageFailed
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.settings import EngineSettings, TrainSettings
from tests.modules.conftest import fresh_base, method, random_batch, tiny_directory, trained  # noqa: F401

PRECISIONS = {"bf16": 0.06, "int8": 0.06, "nf4": 0.4, "int8-dynamic": 0.03}  # relative error at most


def test_loading_gives_the_bits_of_transformers(tiny_directory):  # type: ignore[no-untyped-def] # noqa: F811
    from transformers import AutoModel

    theirs = AutoModel.from_pretrained(tiny_directory, add_pooling_layer=False)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        ours = load_base(str(tiny_directory), precision).model
        wanted = theirs.to(dtype).state_dict()
        assert ours.dtype == dtype and ours.config._attn_implementation == "sdpa" and not ours.training
        assert ours.state_dict().keys() == wanted.keys()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in ours.state_dict().items())
        buffers = dict(theirs.named_buffers())
        assert all(torch.equal(buffer, buffers.pop(name)) for name, buffer in ours.named_buffers()) and not buffers
        assert not any(p.requires_grad or p.is_meta for p in ours.parameters())


@pytest.mark.parametrize("place", ["device", "cpu"])
def test_fewer_embedding_rows_are_the_same_bits(tiny_directory, fresh_base, place):  # type: ignore[no-untyped-def] # noqa: F811
    batch = random_batch(3)
    weights = {"a": trained(fresh_base(), "lora", 1)}
    found = []
    for base in (fresh_base(), load_base(str(tiny_directory), used=[batch.ids.numpy()], embeddings=place)):
        adapted = Adapted(base, weights, parse("a"), train=frozenset("a"))
        states = adapted.encode(batch)
        states.square().sum().backward()
        found.append((states.detach(), [p.grad for p in adapted.trainable().values()]))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
    rows = len(base.model.get_input_embeddings().weight)
    assert base.compact and base.vocabulary == 97 and rows < 97


def test_a_subword_without_a_row_is_an_error(tiny_directory):  # type: ignore[no-untyped-def] # noqa: F811
    base = load_base(str(tiny_directory), used=[])
    adapted = Adapted(base, {}, None)
    held = set((base.model.get_input_embeddings().place >= 0).nonzero().flatten().tolist())
    missing = next(token for token in range(97) if token not in held)
    batch = collate(np.array([0, missing, 2], dtype=np.int32), np.array([0, 3]), np.array([0, 1]), {}, [0], pad_id=1)
    for packed in (True, False):
        adapted.engine = EngineSettings(packed=packed)
        with pytest.raises(StageFailed, match=f"subword {missing} has no embedding"):
            adapted.encode(batch)
    with pytest.raises(StageFailed, match="masked-LM head on a compact base"):
        VocabularyHead(base)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fewer_bits_stay_near_fp32(tiny_directory, fresh_base, precision):  # type: ignore[no-untyped-def] # noqa: F811
    if precision == "nf4":
        pytest.importorskip("bitsandbytes")
    exact = Adapted(fresh_base(), {"a": trained(fresh_base(), "lora", 1)}, parse("a"))
    rough = Adapted(load_base(str(tiny_directory), precision), exact.modules, parse("a"))
    assert rough.base.precision == precision
    assert {p.dtype for p in rough.tensors("a").values()} == {torch.float32}
    with torch.no_grad():
        a, b = exact.encode(random_batch()), rough.encode(random_batch())
    assert b.dtype == torch.float32 and 0 < float((a - b).norm() / a.norm()) < PRECISIONS[precision]


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.999), ("int8", 0.999), ("nf4", 0.9)])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_gradients_through_fewer_bits_point_the_same_way(lab_base, precision, least, kind):  # type: ignore[no-untyped-def]
    if precision == "nf4":
        pytest.importorskip("bitsandbytes")
    random = np.random.default_rng(0)
    lengths = [7, 3, 11, 20, 31, 8]
    rows = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(4, 3900, rows[-1]).astype(np.int32)
    ids[rows[:-1]], ids[rows[1:] - 1] = 0, 2
    batch = collate(ids, rows, np.arange(7), {"label": ("example", np.arange(6) % 3)}, range(6), pad_id=1)
    found = []
    for base in (load_base(str(lab_base)), load_base(str(lab_base), precision)):
        adapted = Adapted(base, {"a": LeafWeights(method(kind))}, parse("a"), train=frozenset("a"))
        generator = torch.Generator().manual_seed(0)
        for name, parameter in adapted.trainable().items():
            if "magnitude" not in name:
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
        torch.manual_seed(7)
        head = build_head("classification", base.width, 3)
        head.loss(adapted.logits(head, batch), batch)[0].backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in adapted.trainable().values())
        found.append(torch.cat([p.grad.flatten() for p in adapted.trainable().values()]))
    assert float(torch.cosine_similarity(found[0], found[1], dim=0)) > least


@pytest.mark.parametrize("shape", [(96, 384), (384, 96), (10, 7)])
def test_weights_come_back_from_fewer_bits(shape):  # type: ignore[no-untyped-def]
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for kind, most in (("int8", 0.01), ("nf4", 0.11)):
        if kind == "nf4":
            pytest.importorskip("bitsandbytes")
        layer = PACKED[kind](weight, None)
        assert layer.weight.shape == shape and isinstance(layer, torch.nn.Linear)
        assert float((layer.weight.float() - weight).norm() / weight.norm()) < most


def test_no_training_in_int8_dynamic(tiny_directory, fresh_base):  # type: ignore[no-untyped-def] # noqa: F811
    with pytest.raises(ValueError, match="lets no gradient through"):
        TrainSettings(precision="int8-dynamic")
    weights = {"a": trained(fresh_base(), "lora", 1)}
    adapted = Adapted(load_base(str(tiny_directory), "int8-dynamic"), weights, parse("a"), train=frozenset("a"))
    with pytest.raises(StageFailed, match="training on a base in int8-dynamic"):
        adapted.encode(random_batch())
