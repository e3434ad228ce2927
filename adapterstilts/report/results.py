"""All numbers of a report, computed once from the score rows; tables, figures and sentences only show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from adapterstilts.report.facts import Arm, Facts, read
from adapterstilts.study.distance import Correlation, correlate, known
from adapterstilts.study.gains import (
    ZERO_SHOT,
    Examples,
    Gain,
    Summary,
    corrected,
    gain,
    gap,
    per_language,
    summary,
    zero_shot_languages,
)
from adapterstilts.study.published import PublishedRow, beside
from adapterstilts.study.scores import RETRIEVAL_BASELINE, Scores, main_metric

# Where nobody says which layer to read: as deep as the published retrieval layer, 14 of XLM-R Large's 24.
USUAL_DEPTH = 14 / 24


@dataclass(frozen=True)
class Cell:
    """An arm in one language: score, gain over the baseline, the guesser's level, whether it is above it."""

    score: Summary
    gain: Gain | None
    level: float | None
    at_chance: bool


@dataclass(frozen=True)
class ArmResult:
    """One arm on one target. ``gain`` is over the zero-shot languages, ``english_gain`` in English."""

    arm: Arm
    english: Summary | None
    zero_shot: Summary | None
    gap: Summary | None
    gain: Gain | None
    english_gain: Gain | None
    cells: Mapping[str, Cell]
    at_chance: bool
    unconverged: tuple[str, ...]
    correlation: Correlation | None


@dataclass(frozen=True)
class Target:
    """One target task with all its arms; ``languages`` are English first, then by distance."""

    task: str
    metric: str
    splits: tuple[str, ...]
    languages: tuple[str, ...]
    zero_shot: tuple[str, ...]
    level: float | None  # mean guesser's level over the zero-shot languages
    arms: tuple[ArmResult, ...]

    def result(self, arm: str) -> ArmResult | None:
        return next((r for r in self.arms if r.arm.name == arm), None)

    @property
    def baselines(self) -> list[ArmResult]:
        """The arms that others are compared with, or all of them where nothing is compared."""
        names = {r.gain.baseline for r in self.arms if r.gain} | {
            r.english_gain.baseline for r in self.arms if r.english_gain
        }
        return [r for r in self.arms if r.arm.name in names] or list(self.arms)


@dataclass(frozen=True)
class Retrieval:
    """One retrieval task: the mean over languages of every module, variant and layer; gains at one layer.

    ``layer`` is one for all modules and languages, or None where each has its own, chosen on development data
    (BUCC): then ``points``, the curve over layers, are of the development split.
    """

    task: str
    metric: str
    splits: tuple[str, ...]
    languages: tuple[str, ...]
    modules: tuple[str, ...]  # "base" first
    variants: tuple[str, ...]
    layers: tuple[int, ...]
    layer: int | None
    layer_given: bool
    points: Mapping[tuple[str, str, int], Summary]
    gains: Mapping[tuple[str, str], Gain]
    table: Mapping[tuple[str, str], Summary]  # (module, variant) at that layer
    cells: Mapping[tuple[str, str, str], Summary]  # (module, variant, language) at that layer

    @property
    def depth(self) -> str:
        """The layer in words."""
        return f"layer {self.layer}" if self.layer is not None else "the layer chosen on development data"

    def at(self, module: str, variant: str) -> Summary | None:
        return self.table.get((module, variant))

    def best(self, module: str, variant: str) -> Summary | None:
        """The layer with the highest score on the very data it is reported on: optimistic, for orientation only."""
        here = [self.points[module, variant, k] for k in self.layers if (module, variant, k) in self.points]
        return max(here, key=lambda s: s.mean, default=None)


@dataclass(frozen=True)
class Results:
    facts: Facts
    scores: Scores
    targets: tuple[Target, ...]
    retrievals: tuple[Retrieval, ...]
    published: tuple[PublishedRow, ...]

    @property
    def bases(self) -> list[str]:
        return self.scores.unique("base")

    @property
    def seeds(self) -> list[int]:
        return sorted(seed for seed in self.scores.unique("seed") if seed is not None)


def compute(
    rows: Iterable[Mapping[str, Any]], facts: Mapping[str, Any] | Facts, examples: Examples | None = None
) -> Results:
    """Score rows and facts -> results. Raises DataError for rows that cannot be read or facts with unknown keys.

    Holm's correction is applied within these families: the zero-shot gains of all arms and targets; their English
    gains; the languages of one arm on one target; the retrieval gains of all modules, variants and tasks.
    """
    known_facts = read(facts)
    scores = Scores.read(rows)
    targets = [_target(scores.targets().where(task=t), known_facts, examples) for t in scores.targets().unique("task")]
    targets = _judge(targets)
    retrievals = [_retrieval(scores.retrieval().where(task=t), known_facts) for t in scores.retrieval().unique("task")]
    retrievals = _judge_retrieval(retrievals)
    tasks = [target.task for target in targets] + [item.task for item in retrievals]
    return Results(known_facts, scores, tuple(targets), tuple(retrievals), tuple(beside(tasks)))


def arms_of(scores: Scores, facts: Facts) -> list[Arm]:
    """The arms that have rows, in the recipe's order; arms the facts do not know come last."""
    present = scores.unique("arm")
    listed = [arm for arm in facts.arms if arm.name in present]
    return listed + [Arm(name) for name in present if name not in {arm.name for arm in listed}]


def at_chance(value: float, level: float | None, n: int | None) -> bool:
    """Whether a score in percent is less than 1.96 standard errors (of n examples, else 100) above the guesser's."""
    if level is None:
        return False
    return value < level + 1.96 * sqrt(max(level * (100 - level), 0.0) / max(n or 100, 1))


def _target(all_rows: Scores, facts: Facts, examples: Examples | None) -> Target:
    task = all_rows.unique("task")[0]
    metric = facts.metrics.get(task) or main_metric(all_rows.unique("metric"))
    scores = all_rows.main(metric)
    languages = facts.ordered(scores.unique("language"))
    others = tuple(name for name in languages if name in zero_shot_languages(scores, facts.english))
    levels = [level for level in (facts.level(task, name) for name in others) if level is not None]
    level = sum(levels) / len(levels) if levels and len(levels) == len(others) else None
    results = [_arm(scores, arm, others, level, facts, examples) for arm in arms_of(scores, facts)]
    return Target(task, metric, tuple(scores.unique("split")), languages, others, level, tuple(results))


def _arm(
    scores: Scores, arm: Arm, others: Sequence[str], level: float | None, facts: Facts, examples: Examples | None
) -> ArmResult:
    task, english = scores.unique("task")[0], facts.english
    mine = scores.where(arm=arm.name)
    here = [name for name in others if name in mine.unique("language")]
    zero_shot = summary(scores, arm.name, here, ZERO_SHOT) if here else None
    by_language: dict[str, Gain] = {}
    total = english_gain = None
    if arm.baseline:
        total = gain(scores, arm.name, arm.baseline, here, ZERO_SHOT, examples) if here else None
        english_gain = gain(scores, arm.name, arm.baseline, (english,), english, examples)
        by_language = {g.over: g for g in per_language(scores, arm.name, arm.baseline, here)}
        if english_gain:
            by_language[english] = english_gain
    cells = {}
    for name in facts.ordered(mine.unique("language")):
        score = summary(scores, arm.name, (name,), name)
        if score:
            floor = facts.level(task, name)
            cells[name] = Cell(score, by_language.get(name), floor, at_chance(score.mean, floor, score.rows[0].n))
    count = sum(cells[name].score.rows[0].n or 100 for name in here if name in cells)
    placed = known([name for name in here if name in cells], facts.distances)
    return ArmResult(
        arm,
        summary(scores, arm.name, (english,), english),
        zero_shot,
        gap(scores, arm.name, english) if english in cells else None,
        total,
        english_gain,
        cells,
        bool(zero_shot) and at_chance(zero_shot.mean if zero_shot else 0.0, level, count),
        tuple(facts.unconverged(mine.rows)),
        correlate([facts.distances[name] or 0.0 for name in placed], [cells[name].score.mean for name in placed]),
    )


def _judge(targets: list[Target]) -> list[Target]:
    """Holm's correction over arms and targets, for zero-shot and for English."""
    zero_shot = {(g.task, g.arm): g for g in corrected(r.gain for t in targets for r in t.arms)}
    english = {(g.task, g.arm): g for g in corrected(r.english_gain for t in targets for r in t.arms)}
    return [
        replace(
            target,
            arms=tuple(
                replace(
                    r,
                    gain=zero_shot.get((target.task, r.arm.name)),
                    english_gain=english.get((target.task, r.arm.name)),
                    cells={
                        name: replace(cell, gain=english.get((target.task, r.arm.name), cell.gain))
                        if r.english_gain and name == r.english_gain.over
                        else cell
                        for name, cell in r.cells.items()
                    },
                )
                for r in target.arms
            ),
        )
        for target in targets
    ]


def _retrieval(all_rows: Scores, facts: Facts) -> Retrieval:
    task = all_rows.unique("task")[0]
    metric = facts.metrics.get(task) or main_metric(all_rows.unique("metric"))
    scores = all_rows.main(metric)
    languages = facts.ordered(scores.unique("language"))
    modules = [RETRIEVAL_BASELINE] if RETRIEVAL_BASELINE in scores.unique("arm") else []
    modules += [arm.name for arm in arms_of(scores, facts) if arm.name != RETRIEVAL_BASELINE]
    # Rows without a layer or a variant (a sentence encoder's one output) stand as layer 0, raw.
    scores = Scores(tuple(replace(r, layer=r.layer or 0, variant=r.variant or "raw") for r in scores.rows))
    curve = _curve(all_rows.where(metric=metric), scores)
    layers = sorted(curve.unique("layer"))
    variants = [v for v in ("raw", "centred") if v in scores.unique("variant")]
    given = facts.layers.get(task)
    layer = given if given in layers else min(layers, key=lambda k: (abs(k - USUAL_DEPTH * layers[-1]), k))
    points: dict[tuple[str, str, int], Summary] = {}
    gains: dict[tuple[str, str], Gain] = {}
    table: dict[tuple[str, str], Summary] = {}
    cells: dict[tuple[str, str, str], Summary] = {}
    for variant in variants:
        at = scores.where(variant=variant) if curve is not scores else scores.where(variant=variant, layer=layer)
        for module in modules:
            for k in layers:
                if found := summary(curve.where(variant=variant, layer=k), module, languages, "languages"):
                    points[module, variant, k] = found
            if found := summary(at, module, languages, "languages"):
                table[module, variant] = found
            for language in languages:
                if single := summary(at, module, (language,), language):
                    cells[module, variant, language] = single
            if module != RETRIEVAL_BASELINE and (
                change := gain(at, module, RETRIEVAL_BASELINE, languages, "languages")
            ):
                gains[module, variant] = change
    return Retrieval(
        task,
        metric,
        tuple(scores.unique("split")),
        languages,
        tuple(modules),
        tuple(variants),
        tuple(layers),
        layer if curve is scores else None,
        given in layers,
        points,
        gains,
        table,
        cells,
    )


def _curve(rows: Scores, scores: Scores) -> Scores:
    """The rows of the curve over layers: those scored, or of dev where only one layer, chosen there, was scored."""
    dev = rows.where(split="dev")
    alone: dict[tuple[Any, ...], set[int | None]] = {}
    for row in scores.rows:
        alone.setdefault((row.pair, row.arm, row.language, row.variant), set()).add(row.layer)
    chosen = "dev" not in scores.unique("split") and all(len(found) == 1 for found in alone.values())
    return dev if chosen and len(dev.unique("layer")) > 1 else scores


def _judge_retrieval(retrievals: list[Retrieval]) -> list[Retrieval]:
    keys = [(i, key) for i, item in enumerate(retrievals) for key in item.gains]
    judged = dict(zip(keys, corrected(retrievals[i].gains[key] for i, key in keys), strict=True))
    return [replace(item, gains={key: judged[i, key] for key in item.gains}) for i, item in enumerate(retrievals)]
