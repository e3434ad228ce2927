"""sequential-vs-joint: one language after another, both at once, or composed; order effects and forgetting."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

from adapterstilts.report.figures import Figure, curves, forest, heat, slopes
from adapterstilts.report.results import Target
from adapterstilts.report.studies.page import Material, Number, Study, Table, arms_told, budget, runs_told
from adapterstilts.report.words import NONE, number
from adapterstilts.study.contrast import Contrast, contrast, judged
from adapterstilts.study.measures import Measure, mean

QUESTION = (
    "Intermediate training in two languages with the same updates and the same trained parameters: does it matter"
    " whether one comes after the other, which comes first, whether both come at once, or whether separate modules are"
    " stacked, fused or merged? And what is left of the first after the second?"
)
MOMENTS = ("after it", "after the second", "after the target")
Line = tuple[str, list[Measure | None]]


def make(material: Material) -> Study:
    """Roles: ``baseline``, ``sequential``, ``joint``, ``composed`` (arms), ``forgetting`` (see the recipe)."""
    baseline = material.role("baseline")
    sequential, joint = list(material.role("sequential")), list(material.role("joint"))
    composed = list(material.roles.get("composed", ()))
    arms = [baseline, *sequential, *joint, *composed]
    targets = material.targets(baseline)
    found: list[Contrast | None] = []
    for target in targets:
        found += _compared(material, target, [(a, baseline) for a in arms[1:]])
        found += _compared(material, target, list(combinations(sequential, 2)))
        found += _compared(material, target, [(a, b) for a in sequential for b in joint])
        found += _compared(material, target, [(a, sequential[0]) for a in composed])
    lost, table, lines = _forgetting(material)
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
        tuple(judged([*found, *lost])),
        material.results,
        tuple(table),
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


def _forgetting(material: Material) -> tuple[list[Contrast | None], list[Table], list[Line]]:
    """The first task scored after itself, after the second and after the target: contrasts, table, lines."""
    contrasts: list[Contrast | None] = []
    body, lines = [], []
    for task, chains in material.roles.get("forgetting", {}).items():
        target = material.target(task)
        if target is None:
            continue
        scores = material.scores(target)
        for name, chain in chains.items():
            language, modules = chain["language"], list(chain["scores"])
            points = [mean(scores, module, (language,)) for module in modules]
            title = f"{material.name(task)} in {material.name(language)} ({name})"
            cells = [Number(number(p.mean), p.rows) if p else NONE for p in points]
            body.append((title, *cells))
            lines.append((title, points))
            for later, point in zip(modules[1:], points[1:], strict=True):
                of = f"what is left of {material.name(task)} in {material.name(language)}"
                contrasts.append(contrast(f"{task}/forgetting", later, modules[0], of, point, points[0]))
    if not body:
        return [], [], []
    head = ("First task", *MOMENTS)
    note = "The first intermediate task, scored again with the head it shares with what came later."
    return contrasts, [Table("Forgetting", head, tuple(body), note)], lines
