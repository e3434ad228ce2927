"""distance: what distance from English costs, against the amount of pretraining text, and what intermediate training
changes about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import log10
from typing import Any

from adapterstilts.report.figures import Figure, lines
from adapterstilts.report.results import Target
from adapterstilts.report.studies.design import arms_told, budget, runs_told
from adapterstilts.report.studies.page import Material, Number, Study, Table, parts
from adapterstilts.report.studies.pooled import regressions
from adapterstilts.report.words import NONE, listed, number, plural
from adapterstilts.study.contrast import Contrast, contrast
from adapterstilts.study.distance import Correlation, correlate, critical_r
from adapterstilts.study.measures import mean, minus, slope
from adapterstilts.study.regression import Partial, partial
from adapterstilts.study.tests import holm

QUESTION = (
    "Does the loss against English grow with linguistic distance, or with how little text of a language the base was"
    " pretrained on? And does intermediate training change how fast it grows?"
)
PRETRAINING = "pretraining text (log)"
Predictors = Mapping[str, Mapping[str, float]]  # kind of distance, or the pretraining text -> language -> amount


@dataclass(frozen=True)
class Relation:
    """The loss of an arm on a target against one predictor, over languages; ``p`` is corrected (Holm)."""

    target: Target
    arm: str
    kind: str
    found: Correlation
    held: Partial | None
    p: float = 1.0

    @property
    def holds(self) -> bool:
        return self.p < 0.05 and self.found.detectable


def make(material: Material) -> Study:
    """Roles: ``without``, ``with`` (arms); ``pretraining`` (language -> amount); ``predictors`` (kind -> distances)."""
    arms = (material.role("without"), material.role("with"))
    facts = material.results.facts
    amounts = {k: log10(float(v)) for k, v in (material.roles.get("pretraining") or {}).items() if v}
    distances = {
        kind: {language: float(d) for language, d in table.items() if d is not None}
        for kind, table in (material.roles.get("predictors") or {"distance": facts.distances}).items()
    }
    predictors = {**distances, PRETRAINING: amounts} if len(set(amounts.values())) > 1 else distances
    targets = [target for target in material.targets(arms[0]) if material.has(target, arms[1])]
    relations = _relations(material, targets, arms, predictors, amounts)
    losses = {(target.task, arm): _losses(material, target, arm) for target in targets for arm in arms}
    held, missed = regressions(losses, arms, predictors, material.name, _named)
    if amounts and predictors is distances:
        missed = [*missed, "Pretraining text: the amount is the same in all languages, so nothing can be said of it."]

    def draw() -> Iterator[Figure | None]:
        for (kind, table), target in product(predictors.items(), targets):
            along = kind if kind == PRETRAINING else f"{_named(kind)} from English"
            yield lines(material.scores(target), arms, target, facts, table, kind, along)

    return Study(
        "distance",
        QUESTION,
        (arms_told(material, arms), budget(material, arms), runs_told(material), _detectable(targets, predictors)),
        parts({"Slope with and without intermediate training": _slopes(material, targets, arms, distances)}),
        material.results,
        (_table(material, relations),),
        draw,
        (_answer(material, relations),),
        (*(_told(material, item) for item in relations if item.holds), *held),
        (*_unrelated(material, relations), *missed),
        (
            "The regression has one slope, and an intercept for each target; errors are clustered by language (CR2 with"
            " Satterthwaite's degrees of freedom), p is corrected over all regressions (Holm).",
        ),
        plain={"correlations": [_plain(item) for item in relations]},
    )


def _losses(material: Material, target: Target, arm: str) -> dict[str, float]:
    """English minus the language, mean over runs."""
    scores, english = material.scores(target), material.results.facts.english
    out = {}
    for language in target.zero_shot:
        loss = minus(mean(scores, arm, (english,)), mean(scores, arm, (language,)), language)
        if loss is not None:
            out[language] = loss.mean
    return out


def _relations(
    material: Material,
    targets: list[Target],
    arms: tuple[str, str],
    predictors: Predictors,
    amounts: Mapping[str, float],
) -> list[Relation]:
    """All correlations, with the pretraining text held constant for distances and the first distance for the text."""
    out = []
    first = next(iter(predictors.values()))
    for target, arm, (kind, table) in product(targets, arms, predictors.items()):
        loss = _losses(material, target, arm)
        other = first if kind == PRETRAINING else amounts
        languages = [name for name in loss if name in table]
        found = correlate([table[x] for x in languages], [loss[x] for x in languages])
        if found is None:
            continue
        both = [name for name in languages if name in other]
        held = partial([table[x] for x in both], [loss[x] for x in both], [other[x] for x in both]) if both else None
        out.append(Relation(target, arm, kind, found, held))
    adjusted = holm([item.found.pearson_p for item in out])
    return [
        Relation(item.target, item.arm, item.kind, item.found, item.held, float(p))
        for item, p in zip(out, adjusted, strict=True)
    ]


def _slopes(
    material: Material, targets: list[Target], arms: tuple[str, str], distances: Predictors
) -> list[Contrast | None]:
    """Whether scores fall more or less steeply with intermediate training."""
    out = []
    for (kind, table), target in product(distances.items(), targets):
        near = [name for name in target.zero_shot if name in table]
        a, b = (slope(material.scores(target), arm, near, table) for arm in (arms[1], arms[0]))
        of = f"score on {material.name(target.task)} for each unit of {_named(kind)}"
        out.append(contrast(f"{target.task}/slope/{kind}", arms[1], arms[0], of, a, b))
    return out


def _named(kind: str) -> str:
    return kind if kind in ("distance", PRETRAINING) else f"{kind} distance"


def _size(found: Correlation) -> str:
    """ "r = 0.85 (95 % interval 0.13 to 0.99; 6 languages)"."""
    ends = found.interval
    told = f"95 % interval {number(ends.low, 2)} to {number(ends.high, 2)}; " if ends.low is not None else ""
    return f"r = {number(found.pearson, 2)} ({told}{plural(found.n, 'language')})"


def _where(material: Material, item: Relation) -> str:
    return f"**{material.name(item.arm)}** on {material.name(item.target.task)}"


def _answer(material: Material, relations: list[Relation]) -> str:
    """How many correlations hold, and the strongest of them (or of all where none does)."""
    if not relations:
        return "**Loss and distance.** Too few languages for a correlation."
    holding = [item for item in relations if item.holds]
    top = max(holding or relations, key=lambda item: abs(item.found.pearson))
    said = f"A relation in {len(holding)} of" if holding else "No relation found in"
    what = f"the loss of {_where(material, top)} with {_named(top.kind)}, {_size(top.found)}"
    return f"**Loss and distance.** {said} {plural(len(relations), 'correlation')}; the strongest: {what}."


def _told(material: Material, item: Relation) -> str:
    verb = "grows" if item.found.pearson > 0 else "shrinks"
    said = f"Spearman {number(item.found.spearman, 2)}, p = {number(item.p, 3)} after correction"
    return f"The loss of {_where(material, item)} {verb} with {_named(item.kind)}: {_size(item.found)}, {said}."


def _unrelated(material: Material, relations: list[Relation]) -> list[str]:
    """One sentence for each arm and target: the predictors without a relation, and what could have been seen."""
    by_where: dict[str, list[Relation]] = {}
    for item in relations:
        if not item.holds:
            by_where.setdefault(_where(material, item), []).append(item)
    out = []
    for where, items in by_where.items():
        limits = sorted({number(item.found.critical, 2) for item in items})
        each = "; ".join(f"{_named(item.kind)}, {_size(item.found)}" for item in items)
        could = f"|r| below {listed(limits, 'or')} cannot be told from zero with so few languages"
        out.append(f"The loss of {where} shows no relation with {each}. {could}.")
    return out


def _table(material: Material, relations: list[Relation]) -> Table:
    body = []
    for item in relations:
        found, ends, held = item.found, item.found.interval, item.held
        rows = tuple(row for row in material.scores(item.target).rows if row.arm == item.arm)
        body.append(
            (
                material.name(item.target.task), material.name(item.arm), item.kind, str(found.n),
                Number(number(found.pearson, 2), rows),
                f"{number(ends.low, 2)} to {number(ends.high, 2)}" if ends.low is not None else NONE,
                number(item.p, 3), number(found.spearman, 2), number(found.critical, 2),
                f"{number(held.r, 2)} (p {number(held.p, 2)})" if held else NONE,
            )
        )  # fmt: skip
    head = ("Target", "Arm", "Against", "languages", "r", "95 %", "p (Holm)", "Spearman", "|r| detectable", "partial r")
    note = (
        "Correlation over languages of the loss against English (positive: farther is worse). |r| detectable: the"
        " smallest that so many languages can tell from zero at 5 %. Partial r: with the pretraining text held constant"
        " for distances, and with the first distance held constant for the pretraining text. Holm over the whole table."
    )
    return Table("Loss against distance", head, tuple(body), note, 3)


def _plain(item: Relation) -> dict[str, Any]:
    found, held = item.found, item.held
    return {
        "target": item.target.task, "arm": item.arm, "against": item.kind, "n": found.n, "pearson": found.pearson,
        "low": found.interval.low, "high": found.interval.high, "p": found.pearson_p, "p_holm": item.p,
        "spearman": found.spearman, "critical": found.critical, "slope": found.slope,
        "partial": None if held is None else [held.r, held.interval.low, held.interval.high, held.p],
    }  # fmt: skip


def _detectable(targets: list[Target], predictors: Predictors) -> str:
    sizes = sorted({sum(x in table for x in target.zero_shot) for target in targets for table in predictors.values()})
    told = [f"with {n} languages |r| of {number(critical_r(n), 2)} or more" for n in sizes if n > 2]
    return f"Detectable at 5 %, two-sided: {'; '.join(told) or 'nothing, there are fewer than three languages'}."
