"""domain-shift: English against multilingual intermediate training, targets in their domain and outside it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from adapterstilts.report.figures import Figure, curves, forest
from adapterstilts.report.results import Target
from adapterstilts.report.studies.page import Material, Number, Study, Table, arms_told, budget, runs_told
from adapterstilts.report.words import NONE, number, signed, span
from adapterstilts.study.contrast import Contrast, contrast, judged
from adapterstilts.study.intervals import grouped_interval
from adapterstilts.study.measures import Measure, mean, minus

QUESTION = (
    "How much does a target lose in another domain than its training data's, and does the loss depend on whether the"
    " intermediate task was English only or multilingual?"
)


def make(material: Material) -> Study:
    """Roles: ``baseline``, ``arms``, ``shifted`` (task -> the same task in another domain)."""
    arms = [material.role("baseline"), *material.role("arms")]
    facts = material.results.facts
    contrasts: list[Contrast | None] = []
    tables: list[Table] = []
    drawn: list[tuple[Target, Target, list[str]]] = []
    for task, other in material.role("shifted").items():
        inside, outside = material.target(task), material.target(other)
        if inside is None or outside is None:
            continue
        shared = [name for name in inside.zero_shot if name in outside.zero_shot]
        for languages, over in ((shared, "zero-shot"), ([facts.english], "in English")):
            drops = {}
            for arm in arms:
                near, far = (mean(material.scores(t), arm, languages) for t in (inside, outside))
                drops[arm] = minus(near, far, "drop")
                of = f"{over}, {facts.name(other)} minus {facts.name(task)}"
                contrasts.append(contrast(f"{task}/{over}/{arm}", f"{arm} shifted", f"{arm} in domain", of, far, near))
            for a, b in combinations(arms, 2):
                of = f"the drop under shift {over} on {facts.name(task)}"
                contrasts.append(contrast(f"{task}/{over}/drop", b, a, of, drops[b], drops[a]))
            tables.append(_table(material, inside, outside, arms, languages, over, drops))
        drawn.append((inside, outside, shared))

    def draw() -> Iterator[Figure | None]:
        for inside, outside, shared in drawn:
            pair = (inside, outside)
            lines = [(facts.name(arm), [mean(material.scores(t), arm, shared) for t in pair]) for arm in arms]
            title = f"{facts.name(inside.task)} under shift, zero-shot"
            yield curves(f"shift-{inside.task}", title, ("in domain", "shifted"), lines)
            yield from (forest(t, facts) for t in pair)

    return Study(
        "domain-shift",
        QUESTION,
        (arms_told(material, arms), budget(material, arms[1:]), runs_told(material)),
        tuple(judged(contrasts)),
        material.results,
        tuple(tables),
        draw,
        notes=("The drop is the score in the training domain minus that in the other, in the same languages.",),
    )


def _table(
    material: Material,
    inside: Target,
    outside: Target,
    arms: list[str],
    languages: list[str],
    over: str,
    drops: dict[str, Measure | None],
) -> Table:
    body = []
    for arm in arms:
        near, far = (mean(material.scores(t), arm, languages) for t in (inside, outside))
        drop = drops[arm]
        if near is None or far is None or drop is None:
            continue
        ends = grouped_interval(list(drop.values.values()), [pair.base for pair in drop.values])
        body.append(
            (
                material.name(arm),
                Number(number(near.mean), near.rows),
                Number(number(far.mean), far.rows),
                Number(signed(-drop.mean), drop.rows),
                span(ends) or NONE,
            )
        )
    head = ("Arm", "in domain", "shifted", "change", "95 % of the drop")
    return Table(f"{material.name(inside.task)}, {over}", head, tuple(body))
