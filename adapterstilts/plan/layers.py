"""Training settings in layers: a task's own, the recipe's, the entry's; later ones win, and who won is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapterstilts.recipe.schema import layered
from adapterstilts.settings import TrainSettings

Layers = Mapping[str, Mapping[str, Any]]  # who says it -> what; in rising order


def settled(layers: Layers, rate: float | None) -> tuple[TrainSettings, dict[str, str]]:
    """The settings, and setting -> the last layer that sets it.

    Args:
        rate: the method's learning rate, for when no layer sets one. It is written out: a changed default must change
            the hash.
    """
    settings = TrainSettings.model_validate(layered(*layers.values()))
    origins = {key: layer for layer, given in layers.items() for key in given}
    if settings.learning_rate is None and rate is not None:
        settings = settings.model_copy(update={"learning_rate": rate})
        origins["learning_rate"] = "method"
    return settings, origins
