"""The bottleneck family through adapters: small networks behind a sublayer. The only file that imports adapters.

``adapters.init`` must come before peft, on the bare encoder (after a peft injection it silently removes the LoRA).
Its own training switches are not used: they train every module of a stack and undo merges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterstilts.errors import MissingDependency, StoreError
from adapterstilts.settings import MethodSettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter.safetensors"


def prepare(model: nn.Module) -> None:
    """Make the encoder able to hold bottlenecks.

    Raises:
        MissingDependency: the adapters package is absent.
    """
    try:
        import adapters
    except ImportError as error:
        raise MissingDependency(
            "bottleneck methods need the package `adapters`", why=str(error), fix="pip install adapters"
        ) from error
    import logging

    # Its warning "none are activated" fires while modules are being added, before we activate them.
    logging.getLogger("adapters").setLevel(logging.ERROR)
    adapters.init(model)


def inject(model: Any, slot: str, method: MethodSettings, dropout: float) -> None:
    """Add one bottleneck under the name ``slot``; it is neither active nor trainable yet."""
    model.add_adapter(slot, config=_config(len(model.encoder.layer), method, dropout))


def tensors(model: nn.Module, slot: str) -> dict[str, nn.Parameter]:
    """The parameters of one bottleneck by '<path of the layer>.<name>', without the slot in the path."""
    marker = f".adapters.{slot}."
    return {n.replace(marker, "."): p for n, p in model.named_parameters() if marker in n}


def initialise(method: MethodSettings, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """Down-projection N(0, 0.02), everything else zero: a fresh bottleneck is exactly the identity."""
    if "adapter_down" in name and name.endswith("weight"):
        parameter.normal_(0.0, 0.02, generator=generator)
    else:
        parameter.zero_()


def activate(model: Any, block: Any) -> None:
    """Activate a composition block of slots (see ``stack`` and ``fuse``), or nothing for None."""
    model.set_active_adapters(block)


def stack(children: Sequence[Any]) -> Any:
    """Run one after the other, the first nearest to the base."""
    from adapters.composition import Stack

    return children[0] if len(children) == 1 else Stack(*children)


def fuse(model: Any, slots: Sequence[str], how: str) -> Any:
    """A fusion block over slots; its layers are made when they are not there yet."""
    from adapters.composition import Fuse

    block = Fuse(*slots)
    if block.name not in model.adapters_config.fusions:
        model.add_adapter_fusion(block, "dynamic")
    return block


def fusion_layers(model: nn.Module, slots: Sequence[str]) -> dict[str, nn.Module]:
    """The fusion modules over these slots by the path of their layer."""
    key = ",".join(slots)
    suffix = ".adapter_fusion_layer"
    return {
        name.removesuffix(suffix): module[key]
        for name, module in model.named_modules()
        if name.endswith(suffix) and isinstance(module, nn.ModuleDict) and key in module
    }


def replace_fusion(model: nn.Module, slots: Sequence[str], path: str, layer: nn.Module) -> None:
    """Put another fusion module (same call) at one layer."""
    holder: Any = model.get_submodule(path)
    holder.adapter_fusion_layer[",".join(slots)] = layer


def save(model: Any, slot: str, method: MethodSettings, directory: Path) -> None:
    """Write the module as plain adapters reads it (``load_adapter(directory, use_safetensors=True)``)."""
    directory.mkdir(parents=True, exist_ok=True)
    model.save_adapter(str(directory), slot, with_head=False, use_safetensors=True)


def read(directory: Path) -> dict[str, Tensor]:
    """Tensors of a stored bottleneck, named as ``tensors`` names them.

    Raises:
        StoreError: a truncated or missing weight file.
    """
    from safetensors.torch import load_file

    path = directory / WEIGHTS
    try:
        slot = json.loads((directory / CONFIG).read_text())["name"]
        stored = load_file(path)
    except Exception as error:
        raise StoreError(
            "a weight file that cannot be read", where=str(path), why=str(error).splitlines()[0]
        ) from error
    return {name.replace(f".adapters.{slot}.", "."): tensor for name, tensor in stored.items()}


def _config(layers: int, method: MethodSettings, dropout: float) -> Any:
    from adapters import AdapterConfig

    chosen = method.parameters
    kept = chosen["layers"] if chosen["layers"] is not None else list(range(layers))
    return AdapterConfig.load(
        method.name,
        reduction_factor=chosen["reduction"],
        leave_out=[layer for layer in range(layers) if layer not in kept],
        dropout=dropout,
        init_weights="bert",
    )
