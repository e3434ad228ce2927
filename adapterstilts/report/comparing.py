"""Two arms of any run side by side: every test of `study.compare` as table, JSON and sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from adapterstilts.errors import RecipeError
from adapterstilts.report.facts import Facts, read
from adapterstilts.report.words import NONE, number, p_text, signed, span
from adapterstilts.study.compare import Comparison, compare
from adapterstilts.study.families import relatives
from adapterstilts.study.gains import Examples
from adapterstilts.study.intervals import Interval
from adapterstilts.study.scores import RETRIEVAL_BASELINE, Scores, main_metric

COLUMNS = (
    "task",
    "over",
    "difference",
    "seeds",
    "examples",
    "languages",
    "all levels",
    "p",
    "randomised",
    "all",
    "d_z",
)


def compared(
    rows: Iterable[Mapping[str, Any]], facts: Mapping[str, Any] | Facts, a: str, b: str, examples: Examples | None
) -> dict[str, list[Comparison]]:
    """Task -> the comparisons of two arms, wherever both were measured.

    Raises:
        RecipeError: an arm that has no scores, or no task with both.
    """
    known, scores = read(facts), Scores.read(rows).targets()
    arms = [name for name in scores.unique("arm") if name != RETRIEVAL_BASELINE]
    for name in (a, b):
        if name not in arms:
            raise RecipeError(f"no arm `{name}`", where="--compare", fix=f"one of {', '.join(arms)}")
    out = {}
    for task in scores.unique("task"):
        here = scores.where(task=task)
        main = here.main(known.metrics.get(task) or main_metric(here.unique("metric")))
        languages = [x for x in known.ordered(main.unique("language")) if x in main.where(arm=a).unique("language")]
        found = compare(main, a, b, languages, examples)
        if found:
            out[task] = found
    if not out:
        raise RecipeError(f"`{a}` and `{b}` share no task, base and seed", where="--compare")
    return out


def show(found: Mapping[str, list[Comparison]], console: Console, a: str, b: str) -> None:
    """One table; p-values are corrected over the languages of their task."""
    table = Table(title=f"{a} minus {b}, points (95 % intervals)", title_justify="left", box=None)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("task", "over") else "right")
    for task, items in found.items():
        for item in items:
            table.add_row(task, item.over, *_cells(item))
    console.print(table)
    console.print(
        "seeds: Student's t over runs; examples, languages: paired bootstrap; all levels: seeds, languages and examples"
        " random; p: of seeds; randomised: answers swapped example by example; both after Holm over the languages.",
        style="dim",
    )
    for told in drawn(found):
        console.print(told, style="dim")


def drawn(found: Mapping[str, list[Comparison]]) -> list[str]:
    """A sentence for each task whose languages are not drawn one by one."""
    told = []
    for task, items in found.items():
        names = items[0].gain.languages
        groups = [[names[k] for k in group] for group in relatives(names)]
        shared = "; ".join(", ".join(group) for group in groups if len(group) > 1)
        if len(groups) == 1 and len(names) > 1:
            told.append(f"{task}: {shared} are one family, so languages count as fixed: this speaks of these alone.")
        elif len(groups) < len(names):
            told.append(
                f"{task}: families are the draw, {len(groups)} for {len(names)} languages. Relatives: {shared}."
            )
    return told


def plain(found: Mapping[str, list[Comparison]], a: str, b: str) -> list[dict[str, Any]]:
    """The comparisons as JSON-able rows."""

    def ends(interval: Interval | None) -> list[float | None] | None:
        return None if interval is None else [interval.low, interval.high]

    return [
        {
            "task": task, "a": a, "b": b, "over": item.over, "difference": item.gain.mean,
            "a_score": item.gain.score, "b_score": item.gain.baseline_score, "runs": len(item.gain.values),
            "seeds": ends(item.gain.interval), "examples": ends(item.examples), "languages": ends(item.languages),
            "nested": ends(item.nested), "p": item.gain.p, "p_holm": item.adjusted, "p_flip": item.gain.flip,
            "p_randomised": item.randomised, "p_randomised_holm": item.randomised_adjusted,
            "p_nested": item.nested.p if item.nested else None,
            "unit": item.nested.unit if item.nested else None, "effect": item.gain.effect,
            "stages": sorted({row.stage for row in item.gain.rows}),
        }
        for task, items in found.items()
        for item in items
    ]  # fmt: skip


def _cells(item: Comparison) -> list[str]:
    return [
        signed(item.gain.mean),
        *(span(x, sign=True) or NONE for x in (item.gain.interval, item.examples, item.languages, item.nested)),
        p_text(item.adjusted),
        p_text(item.randomised_adjusted),
        p_text(item.nested.p if item.nested else None),
        number(item.gain.effect, 2),
    ]
