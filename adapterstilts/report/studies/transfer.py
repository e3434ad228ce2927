"""transfer: every intermediate task on every target, beside the published table, and rankings without targets."""

from __future__ import annotations

from dataclasses import replace

from adapterstilts.report.figures import heat, matrix
from adapterstilts.report.studies.design import arms_told, runs_told
from adapterstilts.report.studies.page import Cell, Material, Number, Part, Study, Table
from adapterstilts.report.words import NONE, listed, number, signed
from adapterstilts.study.contrast import Contrast, contrast, judged
from adapterstilts.study.measures import mean
from adapterstilts.study.published import PublishedRow, published
from adapterstilts.study.scores import RETRIEVAL_BASELINE, Scores
from adapterstilts.study.transfer import Matrix, Ranking, as_table, rank

QUESTION = "Which intermediate task helps which target, and could one have known without training on the targets?"
PUBLISHED = "phang2020-dev-gains"
WAYS = (
    "Text embedding: cosine of two tasks' mean sentence vectors by the bare base, over English training examples,"
    " labels left out (Vu et al. 2020). Size: the number of training examples of the intermediate task. Both are among"
    " the cheap ways that Poth et al. (2021) compare; nothing is trained on a target for them."
)
MARKS = {"verified": "", "recalled": "~"}


def make(material: Material) -> Study:
    """Roles: ``without`` (arm), ``prefix`` (of arms, before the intermediate's name); ``embeddings`` for rankings."""
    found, contrasts = _matrix(material)
    facts = material.results.facts
    rankings = _rankings(material, found)
    rows = [row for row in published() if row.table == PUBLISHED]
    arms = [material.role("without"), *(f"{material.role('prefix')}{name}" for name in found.sources)]
    told = [_told(item) for item in rankings]
    return Study(
        "transfer",
        QUESTION,
        (arms_told(material, arms), runs_told(material)),
        (Part("Against no intermediate task", tuple(contrasts)),),
        material.results,
        (*_gains(material, found, rows), *([_ranking_table(material, rankings)] if rankings else [])),
        lambda: (matrix(found, facts), *(heat(t, facts) for t in material.targets(material.role("without")))),
        _known(rankings),
        tuple(text for text, holds in told if holds),
        tuple(text for text, holds in told if not holds),
        (
            "Averages are over targets, with and without the retrieval tasks, which dominate them where they are raw.",
            *((WAYS,) if rankings else ()),
        ),
        tuple(rows),
        {"rankings": [vars(item) for item in rankings]},
    )


def _matrix(material: Material) -> tuple[Matrix, list[Contrast]]:
    without, prefix = material.role("without"), material.role("prefix")
    facts = material.results.facts
    cells: dict[tuple[str, str], Contrast | None] = {}
    for target in material.targets(without):
        scores = material.scores(target)
        for result in target.arms:
            name = result.arm.name
            if name.startswith(prefix):
                of = f"zero-shot on {facts.name(target.task)}"
                a, b = (mean(scores, arm, target.zero_shot) for arm in (name, without))
                cells[name.removeprefix(prefix), target.task] = contrast(
                    f"{name}/{target.task}", name, without, of, a, b
                )
    for item in material.results.retrievals:
        scores = _at_layer(material, item.task, item.layer, item.variants[0])
        for module in item.modules:
            if module == RETRIEVAL_BASELINE:
                continue
            change = item.gains.get((module, item.variants[0]))
            if change is not None:
                cells[module, item.task] = _searched(change, scores, facts.name(item.task))
    there = {key: value for key, value in cells.items() if value is not None}
    made = dict(zip(there, judged(there.values()), strict=True))
    sources = tuple(dict.fromkeys(source for source, _ in made))
    targets = tuple(dict.fromkeys(target for _, target in made))
    retrieval = frozenset(item.task for item in material.results.retrievals)
    return Matrix(sources, targets, made, retrieval), list(made.values())


def _at_layer(material: Material, task: str, layer: int | None, variant: str) -> Scores:
    rows = material.results.scores.retrieval().where(task=task, variant=variant)
    return rows if layer is None else rows.where(layer=layer)


def _searched(change: object, scores: Scores, task: str) -> Contrast:
    """A retrieval gain as a contrast."""
    from adapterstilts.study.gains import Gain

    assert isinstance(change, Gain)
    return Contrast(
        f"{change.arm}/{change.task}", change.arm, change.baseline, f"mean over languages on {task}", change.pairs,
        change.values, change.score, change.baseline_score, change.interval, change.p, change.flip, change.effect,
        change.rows, change.p,
    )  # fmt: skip


def _gains(material: Material, found: Matrix, rows: list[PublishedRow]) -> list[Table]:
    """One's own gains, and the published ones in the same layout."""
    name = material.name
    body: list[tuple[Cell, ...]] = []
    for source in found.sources:
        cells: list[Cell] = []
        for target in found.targets:
            item = found.cells.get((source, target))
            claimed = "*" if item and item.found != "no difference found" else ""
            cells.append(Number(signed(item.mean) + claimed, item.rows) if item else NONE)
        both = found.averages(source)
        body.append((name(source), *cells, *(signed(value) for value in both)))
    head = ("Intermediate", *(name(target) for target in found.targets), "Avg", "Avg without retrieval")
    note = "Gain over no intermediate task in points, zero-shot mean; * an effect after correction."
    own = Table("Gains, measured", head, tuple(body), note)
    table = as_table(rows, PUBLISHED)
    tasks = list(dict.fromkeys(task for values in table.values() for task in values if task != "mean"))
    theirs = []
    for source, values in table.items():
        rest = [values[task][0] for task in tasks if task in values and task not in ("bucc2018", "tatoeba")]
        printed = f"{signed(values['mean'][0])}{MARKS[values['mean'][1]]}" if "mean" in values else NONE
        cells = [f"{signed(values[t][0])}{MARKS[values[t][1]]}" if t in values else NONE for t in tasks]
        theirs.append((source, *cells, printed, f"{signed(sum(rest) / len(rest))}~" if rest else NONE))
    note = (
        f"{rows[0].source}; split: {rows[0].split}; retrieval layer {rows[0].layer}; baseline: {rows[0].baseline}."
        " ~: recalled, not checked against the paper. The mean of F1 and EM where a task has both, as in the averages;"
        " the last column is derived here."
        if rows
        else ""
    )
    layout = ("Intermediate", *tasks, "Avg", "Avg without retrieval")
    return [
        own,
        Table("The same table of Phang et al. 2020 (XLM-R Large, full fine-tuning)", layout, tuple(theirs), note),
    ]


def _rankings(material: Material, found: Matrix) -> list[Ranking]:
    """Each predictor of the roles ``rankings`` (name -> target -> source -> score) against the measured gains."""
    out = []
    for how, by_target in (material.roles.get("rankings") or {}).items():
        for target, scores in by_target.items():
            gains = {
                source: found.cells[source, target].mean for source in found.sources if (source, target) in found.cells
            }
            item = rank(target, {k: v for k, v in scores.items() if k != target}, gains)
            if item is not None:
                out.append(replace(item, target=f"{material.name(target)} by {how}"))
    return out


def _known(rankings: list[Ranking]) -> tuple[str, ...]:
    """Whether one could have known the best intermediate tasks; nothing where no rankings were asked for."""
    if not rankings:
        return ()
    lost = [item.regret for item in rankings]
    best = sum(item.predicted[0] == item.measured[0] for item in rankings)
    told = f"The best task was predicted in {best} of {len(rankings)} cases; following the predictions costs"
    told += f" {number(sum(lost) / len(lost))} points on average and {number(max(lost))} at most"
    testable = [item for item in rankings if item.testable]
    if testable:
        told += f"; the orders agree (Kendall's tau, p < 0.05) in {sum(x.agrees for x in testable)} of {len(testable)}"
    else:
        told += "; so few tasks cannot show that orders agree"
    return (f"**Could one have known.** {told}.",)


def _told(item: Ranking) -> tuple[str, bool]:
    said = f"{item.target}: predicted best **{item.predicted[0]}**, measured best **{item.measured[0]}**"
    said += f", {number(item.regret)} points lost by following the prediction"
    if item.tau is None or item.p is None:
        return f"{said}; too few tasks for a rank correlation.", False
    said += f"; Kendall's tau {number(item.tau, 2)}, p = {number(item.p, 2)}, {len(item.measured)} tasks"
    if not item.testable:
        return f"{said}: too few for any order to reach p < 0.05.", False
    return (f"{said}.", True) if item.agrees else (f"{said}: no agreement found.", False)


def _ranking_table(material: Material, rankings: list[Ranking]) -> Table:
    body = tuple(
        (
            item.target,
            listed(item.predicted, "then"),
            listed(item.measured, "then"),
            number(item.tau, 2),
            number(item.p, 2),
            number(item.regret),
        )
        for item in rankings
    )
    head = ("Target", "predicted", "measured", "tau", "p", "points lost")
    return Table(
        "Rankings", head, body, "Best first. Points lost: by taking the predicted best instead of the measured best.", 3
    )
