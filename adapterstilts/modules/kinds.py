"""The kinds of deltas that peft trains: where their parameters are, how they start, and what they add at a site.

Each is written as W x + delta(x), so that a stack is a sum whatever the kinds are. peft itself nests or multiplies
kinds when several are active; that is not used.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from adapterstilts.settings import MethodSettings

Mapped = Callable[[], Tensor]  # W x in fp32, made when a kind asks for it
Delta = Callable[[Any, str, Tensor, Mapped], Tensor]


@dataclass(frozen=True)
class Kind:
    """One kind of delta.

    Attributes:
        containers: attributes of the peft layer that hold the parameters by slot.
        config: (method, regular expression of the sites, its feed-forward part, dropout) -> peft configuration.
        delta: (peft layer, slot, x, W x) -> what the module adds to W x.
        initialise: (name, parameter, generator) sets a fresh parameter, or leaves what peft computed.
        start: (peft layer, slot) sets what a fresh module derives from W.
    """

    containers: tuple[str, ...]
    config: Callable[[MethodSettings, str, str, float], Any]
    delta: Delta
    initialise: Callable[[str, Tensor, torch.Generator], None]
    start: Callable[[Any, str], None] | None = None


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


def _lora_delta(layer: Any, slot: str, x: Tensor, base: Mapped) -> Tensor:
    output: Tensor = layer.lora_B[slot](layer.lora_A[slot](layer.lora_dropout[slot](x))) * layer.scaling[slot]
    return output


def _dora_delta(layer: Any, slot: str, x: Tensor, base: Mapped) -> Tensor:
    # The magnitude is that of W + own delta alone, whatever else is in the stack.
    result = base()
    output: Tensor = layer.lora_variant[slot].forward(layer, active_adapter=slot, x=x, result=result)
    return output - result


def _lora_initialise(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    # A Kaiming-uniform with a = sqrt 5, B zero, as peft; DoRA's magnitude stays the norm of W that peft computed.
    if ".lora_A." in name:
        bound = 1 / math.sqrt(parameter.shape[1])
        parameter.uniform_(-bound, bound, generator=generator)
    elif ".lora_B." in name:
        parameter.zero_()


EXACT = 768  # widest map that is decomposed exactly; all 144 maps of XLM-R Large would take minutes


def _pissa_start(layer: Any, slot: str) -> None:
    """A and B at the largest singular directions of W; where they start is kept, for the delta is what has changed.

    peft moves that part of W into the adapter and so changes the base; here W stays: W x + s (B A - B0 A0) x.
    """
    weight = layer.get_base_layer().weight.float()
    rank, scale = layer.r[slot], layer.scaling[slot]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if max(weight.shape) <= EXACT:
            u, s, v = torch.svd(weight)
        else:
            u, s, v = torch.svd_lowrank(weight, q=min(rank + 8, *weight.shape), niter=8)
    root = torch.sqrt(s[:rank] / scale)
    with torch.no_grad():
        layer.lora_A[slot].weight.copy_(root[:, None] * v[:, :rank].T)
        layer.lora_B[slot].weight.copy_(u[:, :rank] * root)
    remember(layer, slot, layer.lora_A[slot].weight.detach().clone(), layer.lora_B[slot].weight.detach().clone())


def remember(layer: Any, slot: str, *tensors: Tensor) -> None:
    """Keep frozen tensors of one module beside its layer."""
    layer.__dict__.setdefault("frozen_beside", {})[slot] = tensors


def remembered(layer: Any, slot: str) -> tuple[Tensor, ...]:
    """What was kept by ``remember``."""
    found: tuple[Tensor, ...] = layer.__dict__["frozen_beside"][slot]
    return found


def _pissa_delta(layer: Any, slot: str, x: Tensor, base: Mapped) -> Tensor:
    down, up = (tensor.to(x.device) for tensor in remembered(layer, slot))
    start: Tensor = functional.linear(functional.linear(x, down), up) * layer.scaling[slot]
    changed: Tensor = _lora_delta(layer, slot, x, base) - start
    return changed


def _adalora_config(method: MethodSettings, sites: str, feedforward: str, dropout: float) -> Any:
    from peft import AdaLoraConfig

    chosen = method.parameters
    # The budget is ours (see budget.py); peft insists on a length of the run, and on one module that trains at most.
    return AdaLoraConfig(
        init_r=int(chosen["init_r"]),
        target_r=int(chosen["r"]),
        lora_alpha=chosen["alpha"],
        lora_dropout=dropout,
        target_modules=sites,
        total_step=1,
        inference_mode=True,
    )


def adalora_factors(layer: Any, slot: str) -> tuple[Tensor, Tensor]:
    """(E A, s B): the module at one site as a plain product."""
    scale = layer.scaling[slot] / (layer.ranknum[slot] + 1e-5)
    return layer.lora_A[slot] * layer.lora_E[slot], layer.lora_B[slot] * scale


def _adalora_delta(layer: Any, slot: str, x: Tensor, base: Mapped) -> Tensor:
    inner = layer.lora_dropout[slot](x) @ (layer.lora_A[slot] * layer.lora_E[slot]).T
    output: Tensor = inner @ layer.lora_B[slot].T * layer.scaling[slot] / (layer.ranknum[slot] + 1e-5)
    return output


def _adalora_initialise(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    if name.endswith(".lora_E"):
        parameter.zero_()
    else:
        parameter.normal_(0.0, 0.02, generator=generator)


def _vera_config(method: MethodSettings, sites: str, feedforward: str, dropout: float) -> Any:
    from peft import VeraConfig

    chosen = method.parameters
    with warnings.catch_warnings():
        # It warns that the projections are not stored: they follow from the key.
        warnings.simplefilter("ignore", UserWarning)
        return VeraConfig(
            r=int(chosen["r"]),
            projection_prng_key=int(chosen["key"]),
            save_projection=False,
            vera_dropout=dropout,
            target_modules=sites,
        )


def _vera_delta(layer: Any, slot: str, x: Tensor, base: Mapped) -> Tensor:
    down, up = (tensor.to(x.device) for tensor in remembered(layer, slot))
    inner = layer.vera_lambda_d[slot] * functional.linear(layer.vera_dropout[slot](x), down[:, : layer.in_features])
    output: Tensor = layer.vera_lambda_b[slot] * functional.linear(inner, up[: layer.out_features])
    return output


def _vera_initialise(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    parameter.fill_(0.1 if name.endswith("lambda_d") else 0.0)


def _ia3_config(method: MethodSettings, sites: str, feedforward: str, dropout: float) -> Any:
    from peft import IA3Config

    return IA3Config(target_modules=sites, feedforward_modules=feedforward)


def _ia3_delta(layer: Any, slot: str, x: Tensor, base: Mapped) -> Tensor:
    change: Tensor = layer.ia3_l[slot].flatten() - 1.0
    if not layer.is_feedforward:
        return base() * change
    weight: Tensor = layer.get_base_layer().weight
    # In the base's precision, as W x is: W raised to fp32 would be kept for the backward pass.
    scaled: Tensor = functional.linear((x * change).to(weight.dtype), weight)
    return scaled


def _ones(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    parameter.fill_(1.0)


_LORA = ("lora_A", "lora_B")
KINDS: Mapping[str, Kind] = {
    "lora": Kind(_LORA, _lora_config, _lora_delta, _lora_initialise),
    "rslora": Kind(_LORA, _lora_config, _lora_delta, _lora_initialise),
    "dora": Kind((*_LORA, "lora_magnitude_vector"), _lora_config, _dora_delta, _lora_initialise),
    "pissa": Kind(_LORA, _lora_config, _pissa_delta, _lora_initialise, _pissa_start),
    "adalora": Kind((*_LORA, "lora_E"), _adalora_config, _adalora_delta, _adalora_initialise),
    "vera": Kind(("vera_lambda_b", "vera_lambda_d"), _vera_config, _vera_delta, _vera_initialise),
    "ia3": Kind(("ia3_l",), _ia3_config, _ia3_delta, _ones),
}
PLAIN = ("lora", "rslora")  # peft's own forward already sums these
