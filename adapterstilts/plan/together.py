"""Which training stages are trained in one loop, sharing the passes over their frozen base. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from adapterstilts.modules.methods import METHODS, apart_problem, layers_of, parts_of, resolve
from adapterstilts.plan.graph import Stage
from adapterstilts.settings import MethodSettings
from adapterstilts.stages.forecast import Work
from adapterstilts.stages.specs import TrainSpec

Together = Literal["never", "auto", "always"]
MOST = 8  # modules in one loop


@dataclass(frozen=True)
class Rule:
    """It pays on bases up to this width, in updates of up to so many tokens of each module."""

    width: int
    tokens: int


# Measured on a CPU with benchmarks/together.py (docs/engine.md); on a GPU nothing is measured.
PAYS = (Rule(256, 400), Rule(10**9, 160))


def common(spec: TrainSpec) -> str | None:
    """What training stages must have in common; None: it is trained alone.

    Alone are those whose rows cannot be told apart in a pass (a method that acts on more than single tokens, dropout of
    the base), whose parts are not their own (a continued module, fusions that train, ranks that are spent), and those
    with a better way to save (layers below the module, segments that are computed again).
    """
    settings, engine = spec.settings, spec.engine
    if spec.method is None or spec.start is not None or "fuse(" in (spec.below or ""):
        return None
    if settings.dropout or settings.base_dropout or not engine.packed or engine.recompute:
        return None
    if not _apart(spec.method):
        return None
    return f"{spec.base.fingerprint} {settings.precision} {engine.model_dump_json()}"


def _apart(method: MethodSettings) -> bool:
    parts = [part for _, part in parts_of(resolve(method))]
    names = [part.name for part in parts]
    if apart_problem(names) is not None or not {"adalora", "pissa"}.isdisjoint(names):
        return False
    return all(name in METHODS for name in names) and all(0 in layers_of(part, 1) for part in parts)


def pays(work: Work | None) -> bool:
    """Whether the table says so of a stage's updates."""
    if work is None or work.batch is None or not work.lengths.known:
        return False
    return any(work.shape.width <= rule.width and work.batch * work.lengths.mean <= rule.tokens for rule in PAYS)


def companions(stage: Stage, ready: Iterable[Stage]) -> list[Stage]:
    """The other stages, of those that are ready, that can be trained in one loop with this one."""
    key = common(stage.spec) if isinstance(stage.spec, TrainSpec) else None
    if key is None:
        return []
    return [other for other in ready if isinstance(other.spec, TrainSpec) and common(other.spec) == key]
