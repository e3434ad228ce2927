"""domain-shift: English against multilingual intermediate training, targets in their domain and outside it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from adapterstilts.report.figures import Figure, curves, forest
from adapterstilts.report.results import Target
from adapterstilts.report.studies.design import arms_told, budget, runs_told
from adapterstilts.report.studies.page import Cell, Material, Number, Study, Table, parts
from adapterstilts.report.words import number
from adapterstilts.study.contrast import Contrast, contrast
from adapterstilts.study.measures import mean, minus

QUESTION = (
    "How much does a target lose when the domain changes, and does the loss depend on whether the intermediate task was"
    " English only or multilingual?"
)


def make(material: Material) -> Study:
    """Roles: ``baseline``, ``arms``, ``shifted`` (task -> the same in another domain); ``domains``, their names."""
    arms = [material.role("baseline"), *material.role("arms")]
    facts = material.results.facts
    here, there = material.roles.get("domains", ("in domain", "shifted"))
    lost: list[Contrast | None] = []
    differing: list[Contrast | None] = []
    tables: list[Table] = []
    drawn: list[tuple[Target, Target, list[str]]] = []
    for task, other in material.role("shifted").items():
        inside, outside = material.target(task), material.target(other)
        if inside is None or outside is None:
            continue
        shared = [name for name in inside.zero_shot if name in outside.zero_shot]
        both = _common(facts.name(task), facts.name(other))
        for languages, over in ((shared, "zero-shot"), ([facts.english], "in English")):
            drops = {}
            for arm in arms:
                near, far = (mean(material.scores(t), arm, languages) for t in (inside, outside))
                drops[arm] = minus(near, far, "drop")
                of = f"{over} on {both}"
                lost.append(contrast(f"{task}/{over}/{arm}", f"{arm} {there}", f"{arm} {here}", of, far, near))
            for a, b in combinations(arms, 2):
                of = f"the drop under shift {over} on {both}"
                differing.append(contrast(f"{task}/{over}/drop", b, a, of, drops[b], drops[a]))
        tables += _table(material, inside, outside, arms, shared, (here, there))
        drawn.append((inside, outside, shared))

    def draw() -> Iterator[Figure | None]:
        for inside, outside, shared in drawn:
            pair = (inside, outside)
            lines = [(facts.name(arm), [mean(material.scores(t), arm, shared) for t in pair]) for arm in arms]
            title = f"{_common(*(facts.name(t.task) for t in pair))} under shift, zero-shot"
            yield curves(f"shift-{inside.task}", title, (here, there), lines)
            yield from (forest(t, facts) for t in pair)

    return Study(
        "domain-shift",
        QUESTION,
        (arms_told(material, arms), budget(material, arms[1:]), runs_told(material)),
        parts({"Loss in the other domain": lost, "Whether arms differ in this loss": differing}),
        material.results,
        tuple(tables),
        draw,
        notes=(f"The drop is the score {here} minus that {there}, in the same languages.",),
    )


def _common(a: str, b: str) -> str:
    """What "UD POS, Wikipedia" and "UD POS, news" share; the first where they share nothing before the comma."""
    one, other = a.partition(", ")[0], b.partition(", ")[0]
    return one if one == other else a


def _table(
    material: Material, inside: Target, outside: Target, arms: list[str], shared: list[str], domains: tuple[str, str]
) -> Iterator[Table]:
    """Every language in its domain and outside it, mean over runs; none where no language is in both."""
    near, far = material.scores(inside), material.scores(outside)
    english = material.results.facts.english
    body: list[tuple[Cell, ...]] = []
    rows = [("zero-shot mean", shared), *((material.name(x), [x]) for x in (english, *shared))]
    for arm in arms:
        for name, languages in rows:
            both = mean(near, arm, languages), mean(far, arm, languages)
            drop = minus(*both, "drop")
            if both[0] and both[1] and drop:
                cells = (*(Number(number(m.mean), m.rows) for m in both if m), Number(number(drop.mean), drop.rows))
                body.append((material.name(arm), name, *cells))
    if body:
        head = ("Arm", "Language", *domains, "drop")
        which = "; ".join(f"{at}: {material.name(t.task)}" for at, t in zip(domains, (inside, outside), strict=True))
        note = f"Percent, mean over runs; {which}."
        name = _common(material.name(inside.task), material.name(outside.task))
        yield Table(f"{name} by language", head, tuple(body), note, 2)
