"""Every combination that would be wrong fails, and says what to do. (Compact tables and int8-dynamic: test_loading.)"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.checkpoint import CheckpointError

from adapterstilts.errors import StageFailed
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import parse
from adapterstilts.settings import EngineSettings
from tests.modules.conftest import fresh_base, random_batch, tiny_directory, trained  # noqa: F401


def eager(base: Any) -> None:
    from transformers import AutoModel

    model = AutoModel.from_pretrained(base.directory, add_pooling_layer=False, attn_implementation="eager")
    object.__setattr__(base, "model", model.eval())


def checkpointing(base: Any) -> None:
    base.model.gradient_checkpointing_enable({"use_reentrant": False})
    base.model.train()


def nothing(base: Any) -> None: ...


CASES = [
    ("lora", eager, {}, StageFailed, "0 attentions were intercepted"),
    ("lora", eager, {"recompute": 1}, StageFailed, "0 attentions were intercepted"),
    ("lora", eager, {"attention": "padded"}, StageFailed, "0 attentions were intercepted"),
    ("lora", checkpointing, {}, (CheckpointError, RuntimeError), "checkpoint|shape"),
    ("lora", nothing, {"attention": "varlen"}, StageFailed, "attention `varlen` for torch.float32 on cpu"),
    ("prefix_tuning", nothing, {"recompute": 1}, StageFailed, "recompute for a module that cannot run unpadded"),
]


@pytest.mark.parametrize(("kind", "change", "engine", "error", "text"), CASES)
def test_what_would_be_wrong_fails(fresh_base, kind, change, engine, error, text):  # type: ignore[no-untyped-def] # noqa: F811
    base = fresh_base()
    change(base)
    weights = {"a": trained(fresh_base(), kind, 1)}
    adapted = Adapted(base, weights, parse("a"), train=frozenset("a"), engine=EngineSettings(**engine))
    with pytest.raises(error, match=text):
        adapted.encode(random_batch()).square().sum().backward()


def test_prefixes_run_padded(fresh_base):  # type: ignore[no-untyped-def] # noqa: F811
    adapted = Adapted(fresh_base(), {"a": trained(fresh_base(), "prefix_tuning", 1)}, parse("a"))
    assert adapted.engine.packed and not adapted.packed
    with torch.no_grad():
        assert torch.equal(adapted.encode(random_batch()), adapted.encode_padded(random_batch()))


def test_settings_that_contradict_each_other():  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="recompute needs packed"):
        EngineSettings(recompute=2, packed=False)
