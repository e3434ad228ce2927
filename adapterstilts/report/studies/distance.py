"""distance: what distance from English costs, against the amount of pretraining text, and what intermediate training
changes about it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from math import log10
from typing import Any

from adapterstilts.report.figures import lines
from adapterstilts.report.results import Target
from adapterstilts.report.studies.page import Material, Number, Study, Table, arms_told, budget, runs_told
from adapterstilts.report.words import NONE, number, plural, signed, span
from adapterstilts.study.contrast import Contrast, contrast, judged
from adapterstilts.study.distance import Correlation, correlate, critical_r
from adapterstilts.study.measures import mean, minus, slope
from adapterstilts.study.regression import Partial, clustered, partial
from adapterstilts.study.tests import holm

QUESTION = (
    "Does the loss against English grow with linguistic distance, or with how little text of a language the base was"
    " pretrained on? And does intermediate training change how fast it grows?"
)
PRETRAINING = "pretraining text (log)"


def make(material: Material) -> Study:
    """Roles: ``without``, ``with`` (arms); ``pretraining`` (language -> amount); ``predictors`` (kind -> distances)."""
    arms = (material.role("without"), material.role("with"))
    facts = material.results.facts
    amounts = {k: log10(float(v)) for k, v in (material.roles.get("pretraining") or {}).items() if v}
    distances = {
        kind: {language: float(d) for language, d in table.items() if d is not None}
        for kind, table in (material.roles.get("predictors") or {"distance": facts.distances}).items()
    }
    targets = [target for target in material.targets(arms[0]) if material.has(target, arms[1])]
    body, plain = [], []
    found: list[str] = []
    missed: list[str] = []
    correlations = _correlations(material, targets, arms, {**distances, PRETRAINING: amounts})
    adjusted = holm([item.pearson_p for *_, item, _ in correlations])
    for (target, arm, kind, item, held), p in zip(correlations, adjusted, strict=True):
        body.append(_row(material, target, arm, kind, item, held, p))
        plain.append(_plain(target, arm, kind, item, held, p))
        text = _told(material, target, arm, kind, item, p)
        (found if p < 0.05 and item.detectable else missed).append(text)
    contrasts: list[Contrast | None] = []
    for kind, table in distances.items():
        for target in targets:
            near = [name for name in target.zero_shot if name in table]
            scores = material.scores(target)
            a, b = (slope(scores, arm, near, table) for arm in (arms[1], arms[0]))
            of = f"points for each unit of {kind} on {facts.name(target.task)}"
            contrasts.append(contrast(f"{target.task}/slope/{kind}", arms[1], arms[0], of, a, b))
        for arm in arms:
            told, holds = _regression(material, targets, arm, kind, table)
            (found if holds else missed).append(told)
    if not amounts or len(set(amounts.values())) == 1:
        missed.append("Pretraining text: the amount is the same in all languages, so nothing can be said of it here.")
    head = ("Target", "Arm", "Against", "languages", "r", "95 %", "p (Holm)", "Spearman", "|r| detectable", "partial r")
    note = (
        "Correlation over languages of the loss against English (positive: farther is worse). |r| detectable: the"
        " smallest that so many languages can tell from zero at 5 %. Partial r: with the pretraining text held constant"
        " for distances, and with the first distance held constant for the pretraining text. Holm over the whole table."
    )
    return Study(
        "distance",
        QUESTION,
        (arms_told(material, arms), budget(material, arms), runs_told(material), _detectable(targets, distances)),
        tuple(judged(contrasts)),
        material.results,
        (Table("Loss against distance", head, tuple(body), note, 3),),
        lambda: (
            lines(material.scores(target), arms, target, facts, table, kind)
            for kind, table in distances.items()
            for target in targets
        ),
        tuple(found),
        tuple(missed),
        ("The regression has one slope and an intercept for each target; its errors are clustered by language (CR1).",),
        plain={"correlations": plain},
    )


Found = tuple[Target, str, str, Correlation, Partial | None]


def _losses(material: Material, target: Target, arm: str) -> dict[str, float]:
    """English minus the language, mean over runs."""
    scores, english = material.scores(target), material.results.facts.english
    out = {}
    for language in target.zero_shot:
        loss = minus(mean(scores, arm, (english,)), mean(scores, arm, (language,)), language)
        if loss is not None:
            out[language] = loss.mean
    return out


def _correlations(
    material: Material, targets: list[Target], arms: tuple[str, str], predictors: Mapping[str, Mapping[str, float]]
) -> list[Found]:
    out: list[Found] = []
    first = next(iter(predictors))
    for target, arm, (kind, table) in product(targets, arms, predictors.items()):
        loss = _losses(material, target, arm)
        other = predictors[first] if kind == PRETRAINING else predictors[PRETRAINING]
        languages = [name for name in loss if name in table]
        item = correlate([table[x] for x in languages], [loss[x] for x in languages])
        if item is None:
            continue
        both = [name for name in languages if name in other]
        held = partial([table[x] for x in both], [loss[x] for x in both], [other[x] for x in both]) if both else None
        out.append((target, arm, kind, item, held))
    return out


def _row(
    material: Material, target: Target, arm: str, kind: str, item: Correlation, held: Partial | None, p: float
) -> tuple[Any, ...]:
    ends = item.interval
    rows = tuple(row for row in material.scores(target).rows if row.arm == arm)
    partial_text = f"{number(held.r, 2)} (p {number(held.p, 2)})" if held else NONE
    return (
        material.name(target.task), material.name(arm), kind, str(item.n), Number(number(item.pearson, 2), rows),
        f"{number(ends.low, 2)} to {number(ends.high, 2)}" if ends.low is not None else NONE,
        number(p, 3), number(item.spearman, 2), number(item.critical, 2), partial_text,
    )  # fmt: skip


def _plain(target: Target, arm: str, kind: str, item: Correlation, held: Partial | None, p: float) -> dict[str, Any]:
    return {
        "target": target.task, "arm": arm, "against": kind, "n": item.n, "pearson": item.pearson,
        "low": item.interval.low, "high": item.interval.high, "p": item.pearson_p, "p_holm": p,
        "spearman": item.spearman, "critical": item.critical, "slope": item.slope,
        "partial": None if held is None else [held.r, held.interval.low, held.interval.high, held.p],
    }  # fmt: skip


def _told(material: Material, target: Target, arm: str, kind: str, item: Correlation, p: float) -> str:
    where = f"**{material.name(arm)}** on {material.name(target.task)}"
    ends = item.interval
    said = f"r = {number(item.pearson, 2)}"
    if ends.low is not None and ends.high is not None:
        said += f" (95 % interval {number(ends.low, 2)} to {number(ends.high, 2)})"
    said += f", Spearman {number(item.spearman, 2)}, p = {number(p, 3)} after correction, {plural(item.n, 'language')}"
    if p < 0.05 and item.detectable:
        return f"The loss of {where} {'grows' if item.pearson > 0 else 'shrinks'} with {kind}: {said}."
    return f"The loss of {where} against {kind}: {said}; |r| of {number(item.critical, 2)} would be detectable at all."


def _regression(
    material: Material, targets: list[Target], arm: str, kind: str, table: Mapping[str, float]
) -> tuple[str, bool]:
    """All targets in one regression of the loss on a distance."""
    y, x, tasks, languages = [], [], [], []
    for target in targets:
        for language, loss in _losses(material, target, arm).items():
            if language in table:
                y.append(loss)
                x.append(table[language])
                tasks.append(target.task)
                languages.append(language)
    line = clustered(y, x, tasks, languages) if y else None
    if line is None:
        return f"All targets together, {arm} against {kind}: too few languages for a regression.", False
    text = f"All targets together, the loss of **{material.name(arm)}** changes by {signed(line.value)} points for each"
    text += f" unit of {kind} (95 % interval {span(line.interval, sign=True)}, {line.clusters} languages as clusters)"
    return (f"{text}.", True) if line.p < 0.05 else (f"{text}: no slope found.", False)


def _detectable(targets: list[Target], distances: Mapping[str, Mapping[str, float]]) -> str:
    sizes = sorted({sum(x in table for x in target.zero_shot) for target in targets for table in distances.values()})
    told = [f"with {n} languages |r| of {number(critical_r(n), 2)} or more" for n in sizes if n > 2]
    return f"Detectable at 5 %, two-sided: {'; '.join(told) or 'nothing, there are fewer than three languages'}."
