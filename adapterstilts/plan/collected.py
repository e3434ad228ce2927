"""What all bases and seeds of a plan share: the stages so far, the data, the facts."""

from __future__ import annotations

from collections.abc import Mapping

from adapterstilts.encoder.reference import architecture, require_precision
from adapterstilts.modules.methods import require_encoder
from adapterstilts.plan.data import Data
from adapterstilts.plan.graph import Cell, make_stage
from adapterstilts.plan.used import Used, instance
from adapterstilts.recipe.facts import module_facts
from adapterstilts.recipe.schema import Recipe
from adapterstilts.stages.specs import Spec, TrainSpec


class Collected:
    """Stages, each once, the cells of the result table, and who set which setting."""

    def __init__(self, recipe: Recipe, data: Data, used: Used) -> None:
        self.recipe, self.data, self.used = recipe, data, used
        self.facts = module_facts(recipe, used.facts)
        self.stages = data.stages
        self.cells: list[Cell] = []
        self.made: dict[tuple[str, str, int], str] = {}  # (module, base, seed) -> hash
        self.origins: dict[str, Mapping[str, str]] = {}

    def add(self, kind: str, spec: Spec, parents: Mapping[str, str], label: str) -> str:
        require_precision(spec.settings.precision if isinstance(spec, TrainSpec) else getattr(spec, "precision", None))
        if isinstance(spec, TrainSpec) and spec.method is not None:
            require_encoder(spec.method, architecture(spec.base.ref))
        stage = make_stage(kind, spec, parents, label)
        self.stages.setdefault(stage.hash, stage)
        return stage.hash

    def names(self, prefix: str) -> dict[str, str]:
        """Plain names when there is one base and one seed, else with /base/seed behind."""
        several = len(self.recipe.bases) * len(self.recipe.seeds) > 1
        return {
            f"{prefix}{name}" + (instance(base, seed) if several else ""): hash
            for (name, base, seed), hash in self.made.items()
            if not self.recipe.modules[name].use
        }
