"""What a report knows besides the score rows: names, distances, chance levels, arms, stages, versions, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from adapterstilts.errors import DataError
from adapterstilts.study.scores import ENGLISH, Score


@dataclass(frozen=True)
class Arm:
    """One way to reach a target, in one line; ``baseline`` is the arm it is compared with (None: it is one)."""

    name: str
    description: str = ""
    baseline: str | None = None


@dataclass(frozen=True)
class StageFact:
    """What is known of one stage. ``peak_memory`` in bytes; ``parents`` are hashes, for flags of earlier stages.

    ``updates`` and ``trained`` (parameters, without heads) count all training behind the stage, its own included.
    """

    label: str = ""
    seconds: float | None = None
    peak_memory: float | None = None
    seed: int | None = None
    split: str | None = None
    converged: bool | None = None
    parents: tuple[str, ...] = ()
    updates: int | None = None
    trained: int | None = None


@dataclass(frozen=True)
class Facts:
    """Everything around the rows. Made by ``read``; every key but ``recipe`` may be absent."""

    recipe: str
    text: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    distances: Mapping[str, float | None] = field(default_factory=dict)
    distance_source: str = ""
    english: str = ENGLISH
    chance: Mapping[str, float | None] = field(default_factory=dict)
    majority: Mapping[tuple[str, str], float] = field(default_factory=dict)
    arms: tuple[Arm, ...] = ()
    stages: Mapping[str, StageFact] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, int] = field(default_factory=dict)
    curves: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    usage: tuple[Mapping[str, Any], ...] = ()
    command: str = ""

    def name(self, key: str) -> str:
        """The pretty name of a task, language, base or arm; the key itself where none was given."""
        return self.names.get(key, key)

    def level(self, task: str, language: str) -> float | None:
        """What a guesser reaches in percent: the larger of chance and the majority class; None where unknown."""
        known = [v for v in (self.chance.get(task), self.majority.get((task, language))) if v is not None]
        return max(known) if known else None

    def ordered(self, languages: Iterable[str]) -> tuple[str, ...]:
        """English first, then by distance, then the languages of unknown distance in their own order."""
        given = list(dict.fromkeys(languages))

        def rank(name: str) -> tuple[int, float, int]:
            far = self.distances.get(name)
            return (0 if name == self.english else 1 if far is not None else 2, far or 0.0, given.index(name))

        return tuple(sorted(given, key=rank))

    def unconverged(self, rows: Iterable[Score]) -> list[str]:
        """Hashes of the stages behind these rows, parents included, that did not converge."""
        found: dict[str, None] = {}
        seen: set[str] = set()
        todo = list(dict.fromkeys(row.stage for row in rows))
        while todo:
            stage = todo.pop()
            fact = self.stages.get(stage)
            if stage in seen or fact is None:
                continue
            seen.add(stage)
            if fact.converged is False:
                found[stage] = None
            todo.extend(fact.parents)
        return list(found)


_KEYS = (
    "recipe",
    "names",
    "languages",
    "distance_source",
    "english",
    "chance",
    "majority",
    "arms",
    "stages",
    "versions",
    "stand_ins",
    "warnings",
    "notes",
    "metrics",
    "layers",
    "curves",
    "usage",
    "command",
)


def read(facts: Mapping[str, Any] | Facts) -> Facts:
    """Plain facts -> Facts. Raises DataError for an unknown key or field.

    ``recipe`` {name, text}; ``names`` {key: pretty name}; ``languages`` {code: distance from English or None} with
    ``distance_source``; ``chance`` {task: percent or None}; ``majority`` {(task, language): percent} or nested
    {task: {language: percent}}; ``arms`` [{name, description, baseline}] in order; ``stages`` {hash: {label, seconds,
    peak_memory in bytes, seed, split, converged, parents,
    updates, trained}}; ``versions``; ``stand_ins``, ``warnings`` [text];
    ``notes`` [text] for "How it was measured" (say here how models were selected);
    ``metrics`` {task: the metric that speaks for it}; ``layers`` {retrieval task: layer of the tables};
    ``curves`` {retrieval task: {module: {language: {thresholds, f1, threshold}}}}, thresholds falling; ``command``;
    ``usage`` [{arm, task, language, parts, layer, share}] of what fuses.
    """
    if isinstance(facts, Facts):
        return facts
    unknown = [key for key in facts if key not in _KEYS]
    if unknown:
        raise DataError(f"unknown {', '.join(map(repr, unknown))}", where="facts", fix=f"known are {', '.join(_KEYS)}")
    recipe = facts.get("recipe") or {}
    majority: dict[tuple[str, str], float] = {}
    for key, value in (facts.get("majority") or {}).items():
        if isinstance(value, Mapping):
            majority.update({(key, language): float(level) for language, level in value.items()})
        else:
            majority[key[0], key[1]] = float(value)
    try:
        arms = tuple(Arm(**arm) for arm in facts.get("arms") or ())
        stages = {
            key: StageFact(**{**stage, "parents": tuple(stage.get("parents") or ())})
            for key, stage in (facts.get("stages") or {}).items()
        }
    except TypeError as error:
        raise DataError(str(error).replace("__init__() ", ""), where="facts") from error
    return Facts(
        recipe=recipe.get("name") or "run",
        text=recipe.get("text") or "",
        names=facts.get("names") or {},
        distances=facts.get("languages") or {},
        distance_source=facts.get("distance_source") or "",
        english=facts.get("english") or ENGLISH,
        chance=facts.get("chance") or {},
        majority=majority,
        arms=arms,
        stages=stages,
        versions=facts.get("versions") or {},
        stand_ins=tuple(facts.get("stand_ins") or ()),
        warnings=tuple(facts.get("warnings") or ()),
        notes=tuple(facts.get("notes") or ()),
        metrics=facts.get("metrics") or {},
        layers=facts.get("layers") or {},
        curves=facts.get("curves") or {},
        usage=tuple(facts.get("usage") or ()),
        command=facts.get("command") or "",
    )
