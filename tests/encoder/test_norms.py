"""XLM-R XL has its norms before each sublayer and one behind all layers: what is the library's own must be ours."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adapterstilts.api.planning import plan_recipe
from adapterstilts.encoder.base import load_base
from adapterstilts.encoder.reference import architecture, locate
from adapterstilts.errors import RecipeError
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import parse
from adapterstilts.settings import EngineSettings
from tests.encoder.test_engine import PLAIN, assert_same, gradients
from tests.encoder.test_packed import batch_for
from tests.modules.conftest import random_batch, trained

PADDED = EngineSettings(packed=False, first_only=False)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import XLMRobertaXLConfig, XLMRobertaXLForMaskedLM

    torch.manual_seed(0)
    config = XLMRobertaXLConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=66,
        pad_token_id=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = XLMRobertaXLForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    place = tmp_path_factory.mktemp("xl")
    model.save_pretrained(place, safe_serialization=True)
    return str(place)


def test_every_layer_is_the_librarys(directory: str) -> None:
    from transformers import AutoModel

    batch = random_batch(lengths=(7,))
    own = Adapted(load_base(directory), {}, None)
    model = AutoModel.from_pretrained(directory, add_pooling_layer=False, attn_implementation="sdpa").eval()
    with torch.no_grad():
        wanted = model(input_ids=batch.ids[None], output_hidden_states=True).hidden_states
        found = list(own.layers(batch))
    assert len(found) == len(wanted) == 3
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["lora", "dora", "ia3", "full"])
@pytest.mark.parametrize("format", ["classification", "tagging", "multiple_choice"])
def test_unpadded_training_is_the_padded_one(directory: str, kind: str, format: str) -> None:
    weights, batch = {"a": trained(load_base(directory), kind, 1)}, batch_for(format)
    wanted = gradients(load_base(directory), weights, "a", batch, format, PADDED)
    for engine in (PLAIN, EngineSettings(), EngineSettings(recompute=1)):
        assert_same(gradients(load_base(directory), weights, "a", batch, format, engine), wanted)


def test_layers_below_a_module_can_be_gone_on_from(directory: str) -> None:
    made = trained(load_base(directory), "lora", 1, layers=[1])
    adapted, batch = Adapted(load_base(directory), {"a": made}, parse("a")), random_batch()
    with torch.no_grad():
        *_, below = adapted.states(batch, stop=1)
        *_, last = adapted.states(batch, below=(1, below))
        assert torch.equal(last[0], adapted.encode(batch))


def test_bottlenecks_are_refused_before_anything_runs(directory: str, tmp_path: Path) -> None:
    assert architecture(directory) == "xlm-roberta-xl"
    recipe = {
        "name": "xl",
        "base": "facebook/xlm-roberta-xl",
        "method": "seq_bn",
        "languages": ["en"],
        "targets": {"copa": {"task": "lab-copa", "limit": 50}},
        "arms": {"none": {}},
    }
    with pytest.raises(RecipeError, match="seq_bn on a base of type"):
        plan_recipe(recipe, store=tmp_path)
    assert plan_recipe({**recipe, "method": "lora"}, store=tmp_path).plan.stages


def test_the_hub_knows_the_large_ones_by_another_owner() -> None:
    assert locate("xlm-roberta-xl").repository == "facebook/xlm-roberta-xl"
    assert locate("xlm-roberta-large").repository == "FacebookAI/xlm-roberta-large"
