"""Where an encoder's norms stand: in XLM-R behind each sublayer; in XLM-R XL before each, and one behind all layers."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def before_attention(layer: Any, hidden: Tensor) -> Tensor:
    """What queries, keys and values of a layer are made of."""
    norm = getattr(layer.attention, "self_attn_layer_norm", None)
    return hidden if norm is None else norm(hidden)


def behind_layers(model: Any, hidden: Tensor) -> Tensor:
    """The last hidden state, from what the last layer gives."""
    norm = getattr(model.encoder, "LayerNorm", None)
    return hidden if norm is None else norm(hidden)
