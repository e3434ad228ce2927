"""The one entry: score rows and facts in, files or terminal tables out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from adapterstilts.errors import RecipeError
from adapterstilts.report import html, markdown, rows, tables
from adapterstilts.report.facts import Facts
from adapterstilts.report.figures import Figure
from adapterstilts.report.results import Results, compute
from adapterstilts.study.gains import Examples

FORMATS = ("html", "md", "csv", "json", "svg")


def build(
    score_rows: Iterable[Mapping[str, Any]],
    facts: Mapping[str, Any] | Facts,
    out: Path,
    formats: Sequence[str] = FORMATS,
    examples: Examples | None = None,
) -> dict[str, Path]:
    """Write the report into the directory ``out`` and return the path of each format.

    ``report.html``, ``report.md``, ``scores.csv``, ``scores.json``; "svg" writes the figures into ``figures/``: SVG
    (light and dark), PNG, and their data as CSV. Each file appears whole or not at all. ``examples(stage, language)``
    gives per-example scores (0..1) by id and adds intervals over languages and examples. Raises RecipeError for an
    unknown format, DataError for bad rows.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise RecipeError(f"unknown report format {unknown[0]!r}", where="formats", fix=f"one of {', '.join(FORMATS)}")
    results = compute(score_rows, facts, examples)
    out.mkdir(parents=True, exist_ok=True)
    drawn = html.draw(results) if {"html", "svg"} & set(formats) else {}
    writers: dict[str, tuple[str, Callable[[], str]]] = {
        "html": ("report.html", lambda: html.page(results, drawn)),
        "md": ("report.md", lambda: markdown.document(results)),
        "csv": ("scores.csv", lambda: rows.to_csv(results.scores)),
        "json": ("scores.json", lambda: rows.to_json(results.scores)),
    }
    paths: dict[str, Path] = {}
    for name in dict.fromkeys(formats):
        if name == "svg":
            paths[name] = out / "figures"
            paths[name].mkdir(exist_ok=True)
            for figure in drawn.values():
                write_figure(figure, paths[name])
        else:
            file, text = writers[name]
            paths[name] = out / file
            write(paths[name], text())
    return paths


def terminal(
    score_rows: Iterable[Mapping[str, Any]],
    facts: Mapping[str, Any] | Facts,
    console: Console,
    examples: Examples | None = None,
) -> Results:
    """Print the report's tables and sentences; returns the results for callers that print more."""
    results = compute(score_rows, facts, examples)
    tables.show(results, console)
    return results


def write_figure(figure: Figure, folder: Path) -> None:
    """One figure as KEY.svg, KEY.dark.svg, KEY.png and KEY.csv."""
    write(folder / f"{figure.key}.svg", figure.alone("light"))
    write(folder / f"{figure.key}.dark.svg", figure.alone("dark"))
    write(folder / f"{figure.key}.png", figure.png("light"))
    write(folder / f"{figure.key}.csv", figure.csv)


def write(path: Path, content: str | bytes) -> None:
    """A file that appears whole or not at all."""
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        half.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)
