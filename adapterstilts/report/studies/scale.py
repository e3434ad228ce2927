"""scale: does a larger base gain more from an intermediate task?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapterstilts.report.figures import points
from adapterstilts.report.results import Target
from adapterstilts.report.studies.design import arms_told, budget, runs_told
from adapterstilts.report.studies.page import Material, Number, Study, Table, parts
from adapterstilts.report.words import NONE, listed, number, plural, signed, span
from adapterstilts.study.contrast import Contrast, contrast
from adapterstilts.study.intervals import t_interval
from adapterstilts.study.measures import Measure, mean, minus
from adapterstilts.study.published import beside
from adapterstilts.study.regression import Slope, by_size
from adapterstilts.study.scores import Pair, Scores
from adapterstilts.study.tests import holm

QUESTION = (
    "Does the gain of intermediate training on a multiple-choice target grow or shrink with the size of the base?"
)


def make(material: Material) -> Study:
    """Roles: ``without``, ``with`` (arms), ``parameters`` (base -> number, counted from the checkpoints)."""
    without, having = material.role("without"), material.role("with")
    sizes = {base: float(n) for base, n in material.roles.get("parameters", {}).items() if n}
    facts = material.results.facts
    contrasts: list[Contrast | None] = []
    between: list[Contrast | None] = []
    tables: list[Table] = []
    drawn: list[tuple[str, str, Measure]] = []
    slopes: list[tuple[Slope | None, str]] = []
    for target in [t for t in material.targets(without) if material.has(t, having)]:
        scores = material.scores(target)
        for languages, over in ((target.zero_shot, "zero-shot"), ((facts.english,), "in English")):
            a, b = mean(scores, having, languages), mean(scores, without, languages)
            for bases in _by_size(material.results.bases, sizes):
                of = f"{over} on {facts.name(target.task)} from {listed([facts.name(base) for base in bases])}"
                key = f"{target.task}/{over}/{'+'.join(bases)}"
                contrasts.append(contrast(key, having, without, of, _of(a, bases), _of(b, bases)))
            gain = minus(a, b, over)
            between.append(
                _between(gain, sizes, f"{target.task}/{over}", f"the gain {over} on {facts.name(target.task)}")
            )
            if gain is None:
                continue
            slopes.append((by_size(gain, sizes), f"{over} on {facts.name(target.task)}"))
            if over == "zero-shot":
                tables.append(_table(target, scores, gain, material, without, having, sizes))
                drawn.append((target.task, facts.name(target.task), gain))
    found, missed = _interactions(slopes)
    counted = "; ".join(f"{base} {int(n):,}" for base, n in sizes.items()) or "unknown"
    return Study(
        "scale",
        QUESTION,
        (arms_told(material, [without, having]), budget(material, [without, having]), runs_told(material),
         f"Parameters of the bases: {counted}."),
        parts({"The gain on the larger of two bases": between, "The gain on each size": contrasts}),
        material.results,
        tuple(tables),
        lambda: (
            points(f"scale-{task}", f"Gain by size: {name}", "parameters of the base", "gain in points", gain, sizes)
            for task, name, gain in drawn
        ),
        (*found, *missed),
        tuple(found),
        tuple(missed),
        ("Gain by size: a line through the bases' mean gains over the logarithm of their size; the base is the unit;"
         " p is corrected over the interactions of this page (Holm). With two bases there is no line: their gains are"
         " compared over seeds, and the difference speaks of these two, which may differ in more than size.",),
        tuple(beside(["xcopa"])),
    )  # fmt: skip


def _by_size(bases: Sequence[str], sizes: Mapping[str, float]) -> list[list[str]]:
    """The bases of one size together; one of unknown size by itself."""
    alike: dict[float | str, list[str]] = {}
    for base in bases:
        alike.setdefault(sizes.get(base, base), []).append(base)
    return list(alike.values())


def _between(gain: Measure | None, sizes: Mapping[str, float], key: str, of: str) -> Contrast | None:
    """The gain on the larger of two bases minus that on the smaller, seed by seed; None for other numbers of bases."""
    bases = sorted({pair.base for pair in gain.values} & sizes.keys(), key=lambda base: sizes[base]) if gain else []
    if gain is None or len(bases) != 2 or sizes[bases[0]] == sizes[bases[1]]:
        return None
    small, large = (
        Measure(of, {Pair("", pair.seed): gain.values[pair] for pair in mine.values}, mine.rows)
        for base in bases
        if (mine := _of(gain, [base]))
    )
    return contrast(f"{key}/size", bases[1], bases[0], of, large, small)


def _of(measure: Measure | None, bases: Sequence[str]) -> Measure | None:
    if measure is None:
        return None
    values = {pair: value for pair, value in measure.values.items() if pair.base in bases}
    return Measure(measure.name, values, tuple(r for r in measure.rows if r.base in bases)) if values else None


def _interactions(slopes: list[tuple[Slope | None, str]]) -> tuple[list[str], list[str]]:
    """What was found and what was not, corrected over all interactions of the page (Holm)."""
    tested = [(slope, of) for slope, of in slopes if slope is not None]
    corrected = [float(p) for p in holm([slope.p for slope, _ in tested])]
    found = [_interaction(slope, of, p) for (slope, of), p in zip(tested, corrected, strict=True) if p < 0.05]
    missed = [_interaction(slope, of, p) for (slope, of), p in zip(tested, corrected, strict=True) if p >= 0.05]
    few = "a line needs three bases of known size."
    return found, [*missed, *(f"**Gain by size**, {of}: {few}" for slope, of in slopes if slope is None)]


def _interaction(slope: Slope, of: str, p: float) -> str:
    ends = f"{signed(slope.value)} points for each doubling (95 % interval {span(slope.interval, sign=True)}"
    text = f"**Gain by size**, {of}: {ends}, corrected p = {number(p, 3)}, {plural(slope.clusters, 'base')})"
    return f"{text}." if p < 0.05 else f"{text}: no interaction found."


def _table(
    target: Target,
    scores: Scores,
    gain: Measure,
    material: Material,
    without: str,
    having: str,
    sizes: dict[str, float],
) -> Table:
    body = []
    for base in material.results.bases:
        mine = [value for pair, value in gain.values.items() if pair.base == base]
        if not mine:
            continue
        rows = tuple(row for row in gain.rows if row.base == base)
        before, after = (mean(scores.where(base=base), arm, target.zero_shot) for arm in (without, having))
        body.append(
            (
                material.name(base),
                f"{int(sizes[base]):,}" if base in sizes else NONE,
                Number(number(before.mean), before.rows) if before else NONE,
                Number(number(after.mean), after.rows) if after else NONE,
                Number(signed(sum(mine) / len(mine)), rows),
                span(t_interval(mine), sign=True) or NONE,
            )
        )
    head = ("Base", "parameters", "without", "with", "gain", "95 % over seeds")
    return Table(f"{material.name(target.task)}, zero-shot, by base", head, tuple(body))
