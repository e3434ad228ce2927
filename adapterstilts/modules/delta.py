"""The weight-delta family through peft: W x + sum of deltas at linear sites. The only file that imports peft.

peft sums active adapters, which is what ``stack`` means; a tree with a gate or weights gets its own forward at each
site, on the instance, with peft's modules and files untouched.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adapterstilts.errors import StoreError
from adapterstilts.modules.methods import SITES
from adapterstilts.settings import MethodSettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # what peft puts before the module paths of the model it wraps


def inject(model: nn.Module, slot: str, method: MethodSettings, dropout: float) -> None:
    """Add one delta module under the name ``slot``; it is neither active nor trainable yet."""
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        # peft warns of a second module on one model; that is what composition is.
        warnings.simplefilter("ignore", UserWarning)
        inject_adapter_in_model(_config(model, method, dropout), model, adapter_name=slot)


def sites(model: nn.Module) -> dict[str, Any]:
    """The peft layers of a model by module path."""
    from peft.tuners.lora.layer import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def tensors(model: nn.Module, slot: str) -> dict[str, nn.Parameter]:
    """The parameters of one delta module: '<module path>.lora_A.weight' -> parameter."""
    found = {}
    for path, site in sites(model).items():
        for part in ("lora_A", "lora_B"):
            if slot in getattr(site, part):
                found[f"{path}.{part}.weight"] = getattr(site, part)[slot].weight
    return found


def initialise(name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """peft's own initialisation (A Kaiming-uniform with a = sqrt 5, B zero) from our own generator."""
    if ".lora_A." in name:
        bound = 1 / math.sqrt(parameter.shape[1])
        parameter.uniform_(-bound, bound, generator=generator)
    else:
        parameter.zero_()


def activate(model: nn.Module, slots: list[str]) -> None:
    """Make exactly these modules count, as a sum. Gradients are set by the caller afterwards."""
    for site in sites(model).values():
        site._active_adapter = slots
        site._disable_adapters = not slots
        site.__dict__.pop("forward", None)


def compose(model: nn.Module, forward: Callable[[str, Any, Tensor], Tensor]) -> None:
    """Replace peft's sum by ``base(x) + forward(path, site, x)`` at every site."""
    for path, site in sites(model).items():
        site.forward = _site_forward(path, site, forward)


def _site_forward(path: str, site: Any, forward: Callable[[str, Any, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def composed(x: Tensor) -> Tensor:
        result: Tensor = site.base_layer(x)
        return (result + forward(path, site, x.float())).to(result.dtype)

    return composed


def delta(site: Any, slot: str, x: Tensor) -> Tensor | None:
    """scale * B A dropout(x) of one module at one site, or None where it does not sit."""
    if slot not in site.lora_A:
        return None
    output: Tensor = site.lora_B[slot](site.lora_A[slot](site.lora_dropout[slot](x))) * site.scaling[slot]
    return output


def factors(directory: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, scale * B) by module path of a stored delta module, without a model."""
    config = json.loads((directory / CONFIG).read_text())
    alpha, rank = config["lora_alpha"], config["r"]
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    stored = read(directory)
    paths = sorted({name.rsplit(".lora_", 1)[0] for name in stored})
    return {p: (stored[f"{p}.lora_A.weight"], stored[f"{p}.lora_B.weight"] * scale) for p in paths}


def save(model: nn.Module, slot: str, method: MethodSettings, directory: Path) -> None:
    """Write the module as plain peft reads it."""
    write(_config(model, method, 0.0).to_dict(), {n: p.detach() for n, p in tensors(model, slot).items()}, directory)


def write(config: Mapping[str, Any], state: Mapping[str, Tensor], directory: Path) -> None:
    """A peft adapter directory from a configuration and tensors by module path."""
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    plain = {k: str(v.value) if hasattr(v, "value") else v for k, v in plain.items()}
    plain["inference_mode"] = True
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True, default=str))
    weights = {PREFIX + name: tensor.contiguous().cpu() for name, tensor in state.items()}
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})


def read(directory: Path) -> dict[str, Tensor]:
    """Tensors by module path of a stored delta module.

    Raises:
        StoreError: a truncated or missing weight file.
    """
    path = directory / WEIGHTS
    try:
        stored = load_file(path)
    except Exception as error:
        raise StoreError("a weight file that cannot be read", where=str(path), why=str(error).splitlines()[0]) from error
    return {name.removeprefix(PREFIX): tensor for name, tensor in stored.items()}


def low_rank(rank: int, layers: list[int] | None, chosen: list[str]) -> MethodSettings:
    """The method of a merged module: LoRA with scale 1 at the given rank."""
    parameters = {"r": rank, "alpha": rank, "sites": chosen, "layers": layers}
    return MethodSettings(name="lora", parameters=parameters)


def _config(model: nn.Module, method: MethodSettings, dropout: float) -> Any:
    from peft import LoraConfig

    chosen = method.parameters
    count = len(model.encoder.layer)  # type: ignore[union-attr, arg-type]
    layers = chosen["layers"] if chosen["layers"] is not None else list(range(count))
    paths = [SITES[site].replace(".", r"\.") for site in chosen["sites"]]
    numbers = "|".join(map(str, layers))
    return LoraConfig(
        r=int(chosen["r"]),
        lora_alpha=chosen["alpha"],
        use_rslora=method.name == "rslora",
        lora_dropout=dropout,
        target_modules=rf"(.*\.)?encoder\.layer\.({numbers})\.({'|'.join(paths)})",
        bias="none",
    )
