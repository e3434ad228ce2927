"""The kinds of deltas that peft trains: where their parameters are, how they start, and what they add at a site.

Each is written as W x + delta(x), so that a stack is a sum whatever the kinds are. peft itself nests or multiplies
kinds when several are active; that is not used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapterstilts.settings import MethodSettings

Delta = Callable[[Any, str, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Kind:
    """One kind of delta.

    Attributes:
        containers: attributes of the peft layer that hold the parameters by slot.
        config: (method, regular expression of the sites, its feed-forward part, dropout) -> peft configuration.
        delta: (peft layer, slot, x, W x) -> what the module adds to W x.
        initialise: (name, parameter, generator) sets a fresh parameter, or leaves what peft computed.
    """

    containers: tuple[str, ...]
    config: Callable[[MethodSettings, str, str, float], Any]
    delta: Delta
    initialise: Callable[[str, Tensor, torch.Generator], None]


def _lora_config(method: MethodSettings, sites: str, feedforward: str, dropout: float) -> Any:
    from peft import LoraConfig

    chosen = method.parameters
    return LoraConfig(
        r=int(chosen["r"]),
        lora_alpha=chosen["alpha"],
        use_rslora=method.name == "rslora",
        use_dora=method.name == "dora",
        lora_dropout=dropout,
        target_modules=sites,
        bias="none",
    )


def _lora_delta(layer: Any, slot: str, x: Tensor, base: Tensor) -> Tensor:
    output: Tensor = layer.lora_B[slot](layer.lora_A[slot](layer.lora_dropout[slot](x))) * layer.scaling[slot]
    return output


def _dora_delta(layer: Any, slot: str, x: Tensor, base: Tensor) -> Tensor:
    # The magnitude is that of W + own delta alone, whatever else is in the stack.
    output: Tensor = layer.lora_variant[slot].forward(layer, active_adapter=slot, x=x, result=base)
    return output - base


def _lora_initialise(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    # A Kaiming-uniform with a = sqrt 5, B zero, as peft; DoRA's magnitude stays the norm of W that peft computed.
    if ".lora_A." in name:
        bound = 1 / math.sqrt(parameter.shape[1])
        parameter.uniform_(-bound, bound, generator=generator)
    elif ".lora_B." in name:
        parameter.zero_()


def _ia3_config(method: MethodSettings, sites: str, feedforward: str, dropout: float) -> Any:
    from peft import IA3Config

    return IA3Config(target_modules=sites, feedforward_modules=feedforward)


def _ia3_delta(layer: Any, slot: str, x: Tensor, base: Tensor) -> Tensor:
    change: Tensor = layer.ia3_l[slot].flatten() - 1.0
    if not layer.is_feedforward:
        return base * change
    weight: Tensor = layer.get_base_layer().weight
    scaled: Tensor = functional.linear(x * change, weight.to(x.dtype))
    return scaled


def _ones(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    parameter.fill_(1.0)


_LORA = ("lora_A", "lora_B")
KINDS: Mapping[str, Kind] = {
    "lora": Kind(_LORA, _lora_config, _lora_delta, _lora_initialise),
    "rslora": Kind(_LORA, _lora_config, _lora_delta, _lora_initialise),
    "dora": Kind((*_LORA, "lora_magnitude_vector"), _lora_config, _dora_delta, _lora_initialise),
    "ia3": Kind(("ia3_l",), _ia3_config, _ia3_delta, _ones),
}
PLAIN = ("lora", "rslora")  # peft's own forward already sums these
