"""A small random base: two layers, real XLM-R architecture, norms and biases away from their initial values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from adapterstilts.encoder.base import Base, load_base
from adapterstilts.encoder.batch import Batch, collate
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import METHODS, resolve
from adapterstilts.settings import MethodSettings


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("base"))


def make_tiny(directory: Path, positions: int = 66) -> Path:
    """Write the small base."""
    from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=positions,
        type_vocab_size=1,
        pad_token_id=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    model = XLMRobertaForMaskedLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory, safe_serialization=True)
    return directory


@pytest.fixture
def fresh_base(tiny_directory: Path) -> Callable[[], Base]:
    return lambda: load_base(str(tiny_directory))


def random_batch(seed: int = 0, lengths: tuple[int, ...] = (7, 3, 11, 7, 1)) -> Batch:
    random = np.random.default_rng(seed)
    rows = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(4, 97, rows[-1]).astype(np.int32)
    return collate(ids, rows, np.arange(len(lengths) + 1), {}, range(len(lengths)), pad_id=1)


def method(name: str, **parameters: object) -> MethodSettings:
    return resolve(MethodSettings(name=name, parameters={**small(name), **parameters}))


def small(name: str) -> dict[str, object]:
    """Parameters that fit the small base."""
    if name == "union":
        return {"of": [{"name": part, **small(part)} for part in ("lora", "seq_bn")]}
    family = METHODS[name].defaults
    defaults: dict[str, object] = {"reduction": 4} if "reduction" in family else {"r": 4} if "r" in family else {}
    return defaults | ({"length": 3, "inner": 8} if name == "prefix_tuning" else {})


def trained(base: Base, name: str, seed: int, **parameters: object) -> LeafWeights:
    """A module whose tensors are random, as after training: nothing in it is zero."""
    chosen = method(name, **parameters)
    adapted = Adapted(base, {"x": LeafWeights(chosen)}, None)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.tensors("x").values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return adapted.stored("x")


@torch.no_grad()
def hidden(adapted: Adapted, batch: Batch) -> torch.Tensor:
    adapted.train_mode(False)
    return adapted.encode(batch)
