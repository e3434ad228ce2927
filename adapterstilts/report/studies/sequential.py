"""sequential-vs-joint: one language after another, both at once, or composed; order effects and forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from adapterstilts.report.figures import Figure, curves, forest, heat, slopes
from adapterstilts.report.results import Target
from adapterstilts.report.studies.design import arms_told, budget, runs_told
from adapterstilts.report.studies.page import Material, Number, Study, Table, parts
from adapterstilts.report.words import NONE, number, p_text, signed, span
from adapterstilts.study.contrast import Contrast, contrast, judged
from adapterstilts.study.measures import Measure, mean

QUESTION = (
    "Intermediate training in two languages with the same updates and the same trained parameters: does it matter"
    " whether one comes after the other, which comes first, whether both come at once, or whether separate modules are"
    " stacked, fused or merged? And what is left of the first after the second?"
)
MOMENTS = ("after the first", "after both", "after the target")
Line = tuple[str, list[Measure | None]]


def make(material: Material) -> Study:
    """Roles: ``baseline``, ``alone``, ``sequential``, ``joint``, ``composed`` (arms); ``forgetting``, by task, language
    and arm the modules at the three moments."""
    baseline = material.role("baseline")
    sequential, joint = list(material.role("sequential")), list(material.role("joint"))
    composed = list(material.roles.get("composed", ()))
    arms = [baseline, *material.roles.get("alone", ()), *sequential, *joint, *composed]
    targets = material.targets(baseline)
    pairs = {
        "Which language comes first": list(combinations(sequential, 2)),
        "One after the other or both at once": [(a, b) for a in sequential for b in joint],
        "Stacked, fused or merged": [(a, sequential[0]) for a in composed],
        "Against no intermediate task": [(a, baseline) for a in arms[1:]],
    }
    asked = {title: [c for t in targets for c in _compared(material, t, found)] for title, found in pairs.items()}
    lost, forgotten, lines = _forgetting(material)
    facts = material.results.facts

    def draw() -> Iterator[Figure | None]:
        yield from (forest(t, facts) for t in targets)
        yield from (slopes(material.scores(t), sequential, t, facts) for t in targets)
        yield from (heat(t, facts) for t in targets)
        yield curves("forgetting", "What is left of the first task", MOMENTS, lines)

    return Study(
        "sequential-vs-joint",
        QUESTION,
        (arms_told(material, arms), budget(material, arms), runs_told(material)),
        parts({**asked, "What is left of the first task": lost}),
        material.results,
        (
            *(_by_language(material, t, *pair) for pair in pairs["Which language comes first"] for t in targets),
            *forgotten,
        ),
        draw,
    )


def _compared(material: Material, target: Target, pairs: list[tuple[str, str]]) -> list[Contrast | None]:
    """Zero-shot and in English, for the pairs that the target has."""
    scores, english = material.scores(target), material.results.facts.english
    out = []
    for a, b in pairs:
        if not material.has(target, a, b):
            continue
        for languages, over in ((target.zero_shot, "zero-shot"), ((english,), "in English")):
            of = f"{over} on {material.name(target.task)}"
            out.append(
                contrast(f"{target.task}/{over}", a, b, of, mean(scores, a, languages), mean(scores, b, languages))
            )
    return out


def _by_language(material: Material, target: Target, a: str, b: str) -> Table:
    """The order in every language, corrected over the languages."""
    scores = material.scores(target)
    found = judged(contrast(x, a, b, x, *(mean(scores, arm, (x,)) for arm in (a, b))) for x in target.languages)
    body = tuple(
        (
            material.name(item.of),
            Number(number(item.left), item.rows),
            Number(number(item.right), item.rows),
            Number(signed(item.mean), item.rows),
            span(item.interval, sign=True) or NONE,
            p_text(item.adjusted),
            item.found,
        )
        for item in found
    )
    head = ("Language", material.name(a), material.name(b), "difference", "95 %", "p (Holm)", "verdict")
    note = "Percent and points. Holm's correction is over the languages of this table."
    return Table(f"Order by language: {material.name(target.task)}", head, body, note)


def _forgetting(material: Material) -> tuple[list[Contrast | None], list[Table], list[Line]]:
    """An intermediate task scored after itself, after both and after the target: contrasts, table, lines.

    Each chain of modules is compared with its own beginning, and the first chain of a language with the others.
    """
    contrasts: list[Contrast | None] = []
    body, lines = [], []
    for task, by_language in material.roles.get("forgetting", {}).items():
        target = material.target(task)
        if target is None:
            continue
        scores = material.scores(target)
        for language, chains in by_language.items():
            of = f"{material.name(task)} in {material.name(language)}"
            points = {
                arm: [mean(scores, module, (language,)) if module else None for module in modules]
                for arm, modules in chains.items()
            }
            for arm, found in points.items():
                body.append((of, material.name(arm), *(Number(number(p.mean), p.rows) if p else NONE for p in found)))
                lines.append((f"{of} ({material.name(arm)})", found))
            (first, own), *others = points.items()
            for k, moment in enumerate(MOMENTS[1 : len(own)], start=1):
                pairs = [(f"{first} {MOMENTS[0]}", own[0]), *((f"{arm} {moment}", found[k]) for arm, found in others)]
                key, now = f"{task}/forgetting", f"{first} {moment}"
                contrasts += [contrast(key, now, then, of, own[k], point) for then, point in pairs]
    if not body:
        return [], [], []
    head = ("Intermediate task", "Arm", *MOMENTS)
    note = "Percent; scored each time with the head that the task shares with what came later."
    return contrasts, [Table("Forgetting", head, tuple(body), note, 2)], lines
