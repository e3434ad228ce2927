"""Full fine-tuning: a module that takes the place of the base's own parameters while it is active.

It is stored as what changed: the bits of every trained number xor those of the base. A difference of floats would be
rounded; this gives back exactly the weights that were trained, and is nothing without its base.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adapterstilts.errors import RecipeError, StoreError
from adapterstilts.settings import MethodSettings

CONFIG, WEIGHTS = "full.json", "changed_bits.safetensors"


@dataclass
class Held:
    """The parameters of the base by their paths in it, and those of each module that can take their place."""

    own: dict[str, nn.Parameter]
    modules: dict[str, dict[str, nn.Parameter]] = field(default_factory=dict)


def prepare(model: Any) -> None:
    """Remember the base's parameters; before any other library changes where they are.

    Raises:
        RecipeError: a base in lower precision, whose weights are no longer those that would be trained.
    """
    if any(parameter.dtype != torch.float32 for parameter in model.parameters()) or not _is_whole(model):
        raise RecipeError(
            "a module of method `full` on a base that is not held whole in fp32",
            why="its weights are those of the whole base, to the bit",
            fix="train.precision: fp32",
        )
    model.__dict__["held"] = Held(dict(model.named_parameters()))


def inject(model: Any, slot: str, method: MethodSettings, dropout: float) -> None:
    """Add one module under the name ``slot``, equal to the base; it is neither active nor trainable yet."""
    held: Held = model.__dict__["held"]
    held.modules[slot] = {
        path: nn.Parameter(own.detach().clone(), requires_grad=False)
        for path, own in held.own.items()
        if _chosen(path, method.parameters)
    }


def activate(model: Any, slots: Sequence[str]) -> None:
    """Put the parameters of these modules in the base's places, and its own everywhere else. Nothing is copied."""
    held: Held = model.__dict__["held"]
    wanted = dict(held.own)
    for slot in slots:
        wanted |= held.modules[slot]
    for path, parameter in wanted.items():
        owner, name = _place(model, path)
        setattr(owner, name, parameter)


def replaced(model: Any) -> dict[str, nn.Parameter]:
    """The parameters that stand in the base's places now, by their paths in it."""
    held: Held = model.__dict__["held"]
    now = {path: getattr(*_place(model, path)) for path in held.own}
    return {path: parameter for path, parameter in now.items() if parameter is not held.own[path]}


def everything(model: Any) -> Iterator[nn.Parameter]:
    """Those of the base and of all modules, active or not."""
    held: Held = model.__dict__["held"]
    yield from held.own.values()
    for module in held.modules.values():
        yield from module.values()


def tensors(model: Any, slot: str) -> dict[str, nn.Parameter]:
    """The parameters of one module by the base's names."""
    held: Held = model.__dict__["held"]
    return dict(held.modules[slot])


def fill(parameter: Tensor, stored: Tensor) -> None:
    """A parameter that equals the base's becomes the stored one."""
    parameter.copy_((parameter.view(torch.int32) ^ stored.to(parameter.device)).view(torch.float32))


def initialise(method: MethodSettings, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """A fresh module is the base."""


def start(model: Any, slot: str, method: MethodSettings) -> None:
    """Nothing derives from W: it is W."""


def stored(model: Any, slot: str, method: MethodSettings) -> tuple[MethodSettings, dict[str, Tensor]]:
    """The module as it is kept: changed bits, int32."""
    held: Held = model.__dict__["held"]
    return method, {path: changed(held.own[path], parameter) for path, parameter in held.modules[slot].items()}


def changed(base: Tensor, trained: Tensor) -> Tensor:
    """What ``fill`` makes ``trained`` of ``base`` by."""
    return base.detach().view(torch.int32) ^ trained.detach().view(torch.int32)


def save(model: Any, slot: str, method: MethodSettings, directory: Path) -> None:
    """Write the module."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps(method.model_dump(mode="json"), indent=2))
    kept = {path: bits.contiguous().cpu() for path, bits in stored(model, slot, method)[1].items()}
    save_file(kept, directory / WEIGHTS, metadata={"format": "pt", "holds": "bits of the trained fp32 xor the base's"})


def read(directory: Path) -> dict[str, Tensor]:
    """Changed bits by the base's names.

    Raises:
        StoreError: a truncated or missing weight file.
    """
    path = directory / WEIGHTS
    try:
        return load_file(path)
    except Exception as error:
        raise StoreError(
            "a weight file that cannot be read", where=str(path), why=str(error).splitlines()[0]
        ) from error


def combine(model: Any, parts: Sequence[tuple[float, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """Task arithmetic (Ilharco et al. 2023, arXiv 2212.04089): base + sum of w (trained - base), as changed bits."""
    found = {}
    for path, own in model.named_parameters():
        if path not in parts[0][1]:
            continue
        total = own.detach().double()
        for weight, bits in parts:
            trained = (own.detach().view(torch.int32) ^ bits[path]).view(torch.float32)
            total = total + weight * (trained.double() - own.detach().double())
        found[path] = changed(own, total.float())
    return found


def _chosen(path: str, parameters: Mapping[str, Any]) -> bool:
    if path.startswith("embeddings."):
        return bool(parameters["embeddings"])
    return parameters["layers"] is None or int(path.split(".")[2]) in parameters["layers"]


def _is_whole(model: Any) -> bool:
    return len(model.get_input_embeddings().weight) == int(model.config.vocab_size)


def _place(model: Any, path: str) -> tuple[nn.Module, str]:
    """(module, attribute) of a parameter of the base, below whatever wraps its layer by now."""
    *steps, name = path.split(".")
    found = model
    for step in steps:
        found = getattr(found, step)
        while hasattr(found, "base_layer"):
            found = found.base_layer
    return found, name
