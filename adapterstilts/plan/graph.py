"""Stages, their hashes, and the plan they make."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from adapterstilts.stages.specs import EvaluateSpec, MergeSpec, PrepareSpec, RetrieveSpec, Spec, TrainSpec
from adapterstilts.store import Store

State = Literal["hit", "stale", "missing"]
SPECS: Mapping[str, type[Spec]] = {
    spec.kind: spec for spec in (PrepareSpec, TrainSpec, MergeSpec, EvaluateSpec, RetrieveSpec)
}


@dataclass(frozen=True)
class Stage:
    """One unit of work. ``parents``: role -> hash; the hash covers kind, version, spec and parents, not the label."""

    kind: str
    spec: Spec
    parents: Mapping[str, str]
    hash: str
    label: str

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def base(self) -> str:
        """The base it runs on, as the user wrote it; empty when it has none."""
        base = getattr(self.spec, "base", None)
        return "" if base is None else str(base.ref)

    def to_plain(self) -> dict[str, Any]:
        """The stage as JSON-able data; `from_plain` rebuilds it."""
        spec = self.spec.model_dump(mode="json")
        return {"kind": self.kind, "hash": self.hash, "label": self.label, "parents": dict(self.parents), "spec": spec}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], specs: Mapping[str, type[Spec]] = SPECS) -> Stage:
        """The stage that ``to_plain`` described."""
        spec = specs[plain["kind"]].model_validate(plain["spec"])
        return cls(plain["kind"], spec, dict(plain["parents"]), plain["hash"], plain["label"])


@dataclass(frozen=True)
class Cell:
    """One place of the result table and the stage whose scores fill it.

    ``arm`` is the recipe's arm for a target, the module's name (or ``base``) for retrieve and evaluate entries.
    """

    base: str
    arm: str
    seed: int
    task: str
    stage: str
    target: str
    kind: str


@dataclass(frozen=True)
class Plan:
    """What a recipe expands to. ``stages`` stand after their parents; ``names``: module name -> hash.

    ``origins``: training stage -> setting -> who set it: ``task``, ``method`` or a place in the recipe; else a default.
    """

    recipe: str
    stages: tuple[Stage, ...]
    cells: tuple[Cell, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    text: str = ""
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @cached_property
    def by_hash(self) -> dict[str, Stage]:
        return {stage.hash: stage for stage in self.stages}

    @cached_property
    def id(self) -> str:
        """What is planned, in 12 hex digits: equal for equal stages, cells and names."""
        parts = [sorted(self.by_hash), sorted(map(repr, self.cells)), sorted(self.names.items())]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    def stage(self, hash: str) -> Stage:
        return self.by_hash[hash]

    def needed(self, store: Store) -> list[Stage]:
        """The stages that must run, parents first: missing results and the missing parents that these need."""
        used = {parent for stage in self.stages for parent in stage.parents.values()}
        wanted = {stage.hash for stage in self.stages if stage.hash not in used}
        wanted |= {cell.stage for cell in self.cells}
        needed: set[str] = set()
        for stage in reversed(self.stages):
            if stage.hash in wanted and not store.has(stage.hash):
                needed.add(stage.hash)
                wanted.update(stage.parents.values())
        return [stage for stage in self.stages if stage.hash in needed]


def make_stage(kind: str, spec: Spec, parents: Mapping[str, str], label: str) -> Stage:
    """A stage with its hash: sha256 of the canonical JSON of kind, version, identity and parents by role."""
    identity = {"kind": kind, "version": spec.version, "spec": spec.identity(), "parents": dict(parents)}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Stage(kind, spec, dict(parents), hashlib.sha256(text.encode()).hexdigest(), label)


def in_order(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages, each after its parents, otherwise in the order given."""
    by_hash = {stage.hash: stage for stage in stages}
    done: dict[str, Stage] = {}
    for first in by_hash.values():
        front = [first]
        while front:
            stage = front[-1]
            waiting = [by_hash[h] for h in stage.parents.values() if h in by_hash and h not in done]
            if waiting:
                front.extend(reversed(waiting))
            else:
                done.setdefault(front.pop().hash, stage)
    return tuple(done.values())
