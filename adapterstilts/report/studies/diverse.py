"""multitask-vs-sequential: one mix or one after another, over diverse languages and two sizes of the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from adapterstilts.report.figures import forest, heat
from adapterstilts.report.results import Target
from adapterstilts.report.studies.design import arms_told, budget, runs_told
from adapterstilts.report.studies.page import Material, Number, Study, Table, parts
from adapterstilts.report.words import NONE, number, signed
from adapterstilts.study.contrast import Contrast, contrast
from adapterstilts.study.families import FAMILIES
from adapterstilts.study.measures import Measure, mean, minus, spread, worst
from adapterstilts.study.scores import Scores

QUESTION = (
    "Supporting tasks and the target in one mix, or one after another: which is better on the mean, in the worst"
    " language and in the spread over typologically diverse languages? And does the mix win where the target is the"
    " smaller set, as Weller et al. (2022) found for English?"
)
Reader = Callable[[Scores, str, Sequence[str]], Measure | None]
READERS: dict[str, Reader] = {"zero-shot mean": mean, "worst language": worst, "spread over languages": spread}


def make(material: Material) -> Study:
    """Roles: ``baseline``; ``multitask`` and ``sequential``, arms in pairs; ``sizes`` (target -> [its, supporting]).

    ``types`` may describe languages that the table of families does not know.
    """
    baseline = material.role("baseline")
    pairs = list(zip(material.role("multitask"), material.role("sequential"), strict=True))
    arms = [baseline, *(arm for pair in pairs for arm in pair)]
    facts = material.results.facts
    targets = material.targets(baseline)
    mixed: dict[str, list[Contrast | None]] = {what: [] for what in READERS}
    gained: list[Contrast | None] = []
    for target in targets:
        scores = material.scores(target)
        for multi, sequential in pairs:
            for what, read in READERS.items():
                of = f"{what} on {facts.name(target.task)}"
                a, b = read(scores, multi, target.zero_shot), read(scores, sequential, target.zero_shot)
                mixed[what].append(contrast(f"{target.task}/{what}", multi, sequential, of, a, b))
        for arm in arms[1:]:
            of = f"zero-shot mean on {facts.name(target.task)}"
            a, b = mean(scores, arm, target.zero_shot), mean(scores, baseline, target.zero_shot)
            gained.append(contrast(f"{target.task}/baseline", arm, baseline, of, a, b))
    made = parts(
        {
            **{f"Mix or sequence, {what}": found for what, found in mixed.items()},
            "Advantage of the mix by size of the target": _weller(material, pairs),
            "Against the target alone": gained,
        }
    )
    told = [_condition(material, item) for part in made for item in part.contrasts if item.key == "weller"]
    types = {**FAMILIES, **material.roles.get("types", {})}  # invented languages have no family, but a type
    languages = dict.fromkeys(language for target in targets for language in target.zero_shot)
    spoken = "; ".join(f"{language} ({types[language]})" if language in types else language for language in languages)
    return Study(
        "multitask-vs-sequential",
        QUESTION,
        (arms_told(material, arms), budget(material, arms), runs_told(material), f"Languages: {spoken}."),
        made,
        material.results,
        tuple(_table(material, target, arms) for target in targets),
        lambda: (f for target in targets for f in (forest(target, facts), heat(target, facts))),
        found=tuple(text for text, holds in told if holds),
        not_found=tuple(text for text, holds in told if not holds),
        notes=(
            "Weller et al. 2022 (recalled, not checked against the paper): pairwise multi-task learning is better than"
            " intermediate training where the target has fewer examples than the supporting task, and worse otherwise.",
        ),
    )


def _weller(material: Material, pairs: list[tuple[str, str]]) -> list[Contrast | None]:
    """The advantage of the mix where the target is the smaller set minus that where it is the larger one."""
    sizes = {task: (own, support) for task, (own, support) in material.role("sizes").items()}
    small = [material.target(task) for task, (own, support) in sizes.items() if own < support]
    large = [material.target(task) for task, (own, support) in sizes.items() if own > support]
    out: list[Contrast | None] = []
    for a, b in zip(small, large, strict=False):
        if a is None or b is None:
            continue
        for multi, sequential in pairs[:1]:
            edges = [
                minus(mean(s, multi, t.zero_shot), mean(s, sequential, t.zero_shot), "edge")
                for t in (a, b)
                for s in (material.scores(t),)
            ]
            of = f"the advantage of {multi} over {sequential}, zero-shot"
            out.append(contrast("weller", a.task, b.task, of, edges[0], edges[1]))
    return out


def _condition(material: Material, item: Contrast) -> tuple[str, bool]:
    """What the contrast says of the published condition, and whether that is a finding."""
    small, large = material.name(item.a), material.name(item.b)
    edges = f"the mix gains {signed(item.left)} points over the sequence where the target is smaller, {small},"
    edges += f" and {signed(item.right)} where it is larger, {large}"
    if item.found == "no difference found":
        said = "That the mix does better where the target is smaller (Weller et al.) was not found"
        return f"{said}: {edges}; the two cannot be told apart.", False
    agrees = item.found == "higher"
    said = f"The mix does {'better' if agrees else 'worse'} where the target is smaller"
    return f"{said}, {'as' if agrees else 'unlike what'} Weller et al. say: {edges}.", True


def _table(material: Material, target: Target, arms: list[str]) -> Table:
    scores, english = material.scores(target), material.results.facts.english
    body = []
    for arm in arms:
        if not material.has(target, arm):
            continue
        cells = [read(scores, arm, target.zero_shot) for read in READERS.values()]
        own = mean(scores, arm, (english,))
        result = target.result(arm)
        levels = {x: cell.score.mean for x, cell in (result.cells.items() if result else ()) if x in target.zero_shot}
        lowest = min(levels, key=lambda language: levels[language], default=NONE)
        numbers = [Number(number(m.mean), m.rows) if m else NONE for m in (own, *cells)]
        body.append((material.name(arm), *numbers, material.name(lowest)))
    head = ("Arm", "English", "zero-shot mean", "worst language", "spread", "which is worst")
    note = "Percent, mean over runs. Worst: of each run its worst language; spread: standard deviation over languages."
    return Table(material.name(target.task), head, tuple(body), note)
