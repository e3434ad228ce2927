"""A study as one HTML file, as Markdown and as JSON: the same sentences, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from adapterstilts.report import html as pages
from adapterstilts.report import markdown
from adapterstilts.report.notes import reading_notes
from adapterstilts.report.sentences import cautions
from adapterstilts.report.studies.page import Cell, Number, Study, Table
from adapterstilts.report.studies.told import (
    FOUND_IN_BRACKETS,
    MISSED_IN_BRACKETS,
    answers,
    contrast_table,
    findings,
    not_found,
    tests_told,
)
from adapterstilts.report.theme import variables
from adapterstilts.report.words import origin

NOTHING = "Nothing: no contrast of this study can be told from zero after correction."
ALL_FOUND = "Nothing else was looked for."


def html(study: Study) -> str:
    """One self-contained page."""
    results = study.results
    facts = results.facts
    css = files("adapterstilts.report").joinpath("templates").joinpath("style.css").read_text(encoding="utf-8")
    return str(
        pages.environment(facts)
        .get_template("study.html.j2")
        .render(
            study=study,
            results=results,
            answers=answers(study),
            sections=[
                ("found", "What was found", findings(study), NOTHING, FOUND_IN_BRACKETS),
                ("not-found", "What was not found", not_found(study), ALL_FOUND, MISSED_IN_BRACKETS),
            ],
            contrasts=contrast_table(study),
            is_number=lambda cell: isinstance(cell, Number),
            cautions=cautions(results),
            notes=_notes(study),
            sources=pages.sources(results),
            published=pages.published_tables(study.published),
            light=variables("light"),
            dark=variables("dark"),
            css=css,
        )
    )


def document(study: Study) -> str:
    """The page as Markdown; figures are links into ``figures/``."""
    results = study.results
    facts = results.facts
    out = [f"# {facts.recipe}", study.question]
    if facts.command:
        out.append(f"Made by `{facts.command}`.")
    out += ["## Answer", _bullets(answers(study))]
    out += ["## Design", _bullets(study.design)]
    for heading, told, instead, note in (
        ("What was found", findings(study), NOTHING, FOUND_IN_BRACKETS),
        ("What was not found", not_found(study), ALL_FOUND, MISSED_IN_BRACKETS),
    ):
        out += [f"## {heading}", *([note] if told else []), _bullets(told or [instead])]
    careful = cautions(results)
    if careful:
        out += ["## Read with care", _bullets([f"{item.topic}: {item.text}" for item in careful])]
    for figure in study.figures:
        out += [f"### {figure.title}", f"![{figure.title}](figures/{figure.key}.svg)", figure.caption]
    for table in [*study.tables, contrast_table(study)]:
        out += [f"### {table.title}", _table(table)]
        if table.note:
            out.append(table.note)
    if study.published:
        out += ["## Published rows beside these", markdown.published_table(study.published)]
    out += ["## How it was measured", _bullets(_notes(study))]
    out += ["## Where each number comes from", _sources(study)]
    return "\n\n".join(out) + "\n"


def plain(study: Study) -> dict[str, Any]:
    """The study as JSON-able data."""
    return {
        "schema_version": 1,
        "study": study.name,
        "title": study.results.facts.recipe,
        "question": study.question,
        "command": study.results.facts.command,
        "answer": answers(study),
        "design": list(study.design),
        "found": findings(study),
        "not_found": not_found(study),
        "contrasts": [
            {
                "part": part.title,
                "key": item.key,
                "a": item.a,
                "b": item.b,
                "of": item.of,
                "a_mean": item.left,
                "b_mean": item.right,
                "difference": item.mean,
                "low": item.interval.low,
                "high": item.interval.high,
                "unit": item.interval.unit,
                "values": list(item.values),
                "runs": [[pair.base, pair.seed] for pair in item.pairs],
                "p": item.p,
                "p_holm": item.adjusted,
                "p_flip": item.flip,
                "effect": item.effect,
                "family": item.family,
                "said": item.found,
                "stages": sorted({row.stage for row in item.rows}),
            }
            for part in study.parts
            for item in part.contrasts
        ],
        "tables": [
            {"title": t.title, "head": list(t.head), "rows": [[_text(cell) for cell in row] for row in t.body]}
            for t in study.tables
        ],
        "more": dict(study.plain),
        "published": [
            {
                "table": row.title,
                "row": row.name,
                "task": row.task,
                "language": row.language,
                "value": row.value,
                "difference": row.delta,
                "mark": row.mark,
                "split": row.split,
                "layer": row.layer,
                "baseline": row.baseline,
                "source": row.source,
            }
            for row in study.published
        ],
        "scores": study.results.scores.plain(),
    }


def to_json(study: Study) -> str:
    return json.dumps(plain(study), indent=1, ensure_ascii=False) + "\n"


def _notes(study: Study) -> list[str]:
    return [*study.notes, *tests_told(study), *reading_notes(study.results)]


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Number) else cell


def _table(table: Table) -> str:
    return markdown.table(table.head, [[_text(cell) for cell in row] for row in table.body], table.left)


def _sources(study: Study) -> str:
    facts = study.results.facts
    rows = []
    for task in study.results.scores.unique("task"):
        for arm in study.results.scores.where(task=task).unique("arm"):
            rows.append([origin(study.results.scores.where(task=task, arm=arm).rows, facts, most=99)])
    return "\n".join(f"- {row[0]}" for row in rows)
