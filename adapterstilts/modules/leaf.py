"""A module's weights, and its parts: a union is several methods in one module, any other method is its own one part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adapterstilts.modules import bottleneck, delta, full
from adapterstilts.modules.methods import UNION, Family, families_of, parts_of
from adapterstilts.settings import MethodSettings

# In the order in which they are attached.
LIBRARY: Mapping[Family, Any] = {"weights": full, "bottleneck": bottleneck, "delta": delta}


@dataclass(frozen=True)
class LeafWeights:
    """One module as trained: its method and its tensors; None for a fresh one. A union's are named by part first."""

    method: MethodSettings
    tensors: Mapping[str, Tensor] | None = None

    def of_part(self, key: str) -> Mapping[str, Tensor] | None:
        """The tensors of one part by their names in it."""
        if self.tensors is None or not key:
            return self.tensors
        ahead = f"{key}/"
        return {name.removeprefix(ahead): tensor for name, tensor in self.tensors.items() if name.startswith(ahead)}


@dataclass(frozen=True)
class Part:
    """One method of an attached module. ``key`` names it inside the module, ``slot`` inside its library."""

    key: str
    method: MethodSettings
    slot: str

    @property
    def family(self) -> Family:
        return _family(self.method)

    @property
    def library(self) -> Any:
        return LIBRARY[self.family]

    def full(self, name: str) -> str:
        """The module's name of one of its tensors."""
        return _join(self.key, name)

    def tensors(self, model: Any) -> dict[str, nn.Parameter]:
        """Its parameters in a model by the names that the module stores them under."""
        return {self.full(name): p for name, p in self.library.tensors(model, self.slot).items()}


def attached(method: MethodSettings, slot: str) -> tuple[Part, ...]:
    """The parts of a module whose slots begin with ``slot``."""
    return tuple(Part(key, part, f"{slot}_{key[:1]}" if key else slot) for key, part in parts_of(method))


def stored(model: Any, parts: tuple[Part, ...]) -> LeafWeights:
    """The module as it is kept: some methods are trained in another form than they are stored in."""
    kept = [(part, *part.library.stored(model, part.slot, part.method)) for part in parts]
    if len(kept) == 1:
        return LeafWeights(kept[0][1], kept[0][2])
    of = [method.model_dump() for _, method, _ in kept]
    # The parts are renumbered with their kept names: PiSSA is stored as LoRA.
    union = MethodSettings(name=UNION, parameters={"of": of})
    tensors = {
        _join(key, name): tensor
        for (key, _), (_, _, found) in zip(parts_of(union), kept, strict=True)
        for name, tensor in found.items()
    }
    return LeafWeights(union, tensors)


def save(model: Any, parts: tuple[Part, ...], directory: Path) -> None:
    """Write a module: each part as its own library reads it, those of a union in one folder each."""
    keys = [key for key, _ in parts_of(stored(model, parts).method)]
    for key, part in zip(keys, parts, strict=True):
        part.library.save(model, part.slot, part.method, directory / key)


def read(directory: Path, method: MethodSettings) -> LeafWeights:
    """A stored module of a method.

    Raises:
        StoreError: a truncated or missing weight file.
    """
    tensors: dict[str, Tensor] = {}
    for key, part in parts_of(method):
        found = LIBRARY[_family(part)].read(directory / key)
        tensors |= {_join(key, name): tensor for name, tensor in found.items()}
    return LeafWeights(method, tensors)


def _family(method: MethodSettings) -> Family:
    (family,) = families_of(method)
    return family


def _join(key: str, name: str) -> str:
    return f"{key}/{name}" if key else name
