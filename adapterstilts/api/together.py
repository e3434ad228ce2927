"""Which training stages of a plan share a loop: none, those of which the table says that it pays, or all that can."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapterstilts.api.planning import Planned
from adapterstilts.errors import RecipeError
from adapterstilts.executors.devices import gpus
from adapterstilts.plan.graph import Stage
from adapterstilts.plan.together import MOST, Together, companions, pays
from adapterstilts.stages.work import Works


def sharing(
    planned: Planned, together: Together, jobs: int = 1, max_memory: str | None = None
) -> Callable[[Stage, Sequence[Stage]], Sequence[Stage]] | None:
    """For a stage and those that are ready with it, who shares its loop; workers get even parts of what is ready.

    Raises:
        RecipeError: with a limit of memory.
    """
    if together == "never":
        return None
    if max_memory or planned.recipe.max_memory:
        why = "what fits is decided for each stage alone"
        raise RecipeError("--together within an amount of memory", why=why, fix="leave one of the two out")

    def find(hash: str) -> Mapping[str, Any] | None:
        return planned.store.manifest(hash) if planned.store.has(hash) else None

    works = Works(planned.store, find, planned.tasks)

    def chosen(stage: Stage) -> bool:
        if together == "always":
            return True
        return not gpus() and pays(works.of(stage.spec, stage.parents))  # nothing is measured on a GPU

    def shared(stage: Stage, ready: Sequence[Stage]) -> Sequence[Stage]:
        if not chosen(stage):
            return []
        found = [other for other in companions(stage, ready) if chosen(other)]
        return found[: min(MOST, math.ceil((1 + len(found)) / jobs)) - 1]

    return shared
