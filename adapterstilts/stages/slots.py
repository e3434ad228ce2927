"""A module in memory whose {language} slot is filled by each language's own module while that language runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapterstilts.encoder.base import Base
from adapterstilts.modules.artifact import Module, load_adapted, read_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.settings import EngineSettings


@dataclass(frozen=True)
class Slotted:
    """``bound``: language -> the module that stands in the slot there; other languages keep that of training."""

    adapted: Adapted
    module: Module
    bound: Mapping[str, Module]

    def fill(self, language: str) -> None:
        """Activate the module for one language; nothing to do where it has no slot."""
        if self.module.filling is None:
            return
        own = self.bound.get(language)
        fusion = {**self.module.fusion(), **({} if own is None else own.fusion())}
        self.adapted.activate(self.module.bound(None if own is None else own.bound()), fusion=fusion)
        self.adapted.to(self.adapted.model.device)


def load_slotted(
    base: Base, module: Module, parents: Mapping[str, Path], bindings: Mapping[str, str], engine: EngineSettings
) -> Slotted:
    """A module with the parents ``bind:<language>`` beside it, ready to be filled."""
    bound = {code: read_module(parents[f"bind:{code}"], base=module.base) for code in bindings}
    return Slotted(load_adapted(base, module, bound.values(), engine=engine), module, bound)
