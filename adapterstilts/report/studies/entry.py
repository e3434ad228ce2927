"""The one entry: score rows, facts and roles in, a study's page out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterstilts.errors import RecipeError
from adapterstilts.report.entry import write, write_figure
from adapterstilts.report.facts import Facts
from adapterstilts.report.results import compute
from adapterstilts.report.studies import distance, diverse, render, scale, sequential, shift, transfer
from adapterstilts.report.studies.page import Maker, Material, Study
from adapterstilts.study.gains import Examples

MAKERS: Mapping[str, Maker] = {
    "sequential-vs-joint": sequential.make,
    "scale": scale.make,
    "domain-shift": shift.make,
    "multitask-vs-sequential": diverse.make,
    "distance": distance.make,
    "transfer": transfer.make,
}
NAMES = tuple(MAKERS)
FORMATS = ("html", "md", "json", "figures")


def study(
    rows: Iterable[Mapping[str, Any]],
    facts: Mapping[str, Any] | Facts,
    roles: Mapping[str, Any],
    examples: Examples | None = None,
) -> Study:
    """The answer of a run to the question that its recipe's ``study`` names.

    Raises:
        RecipeError: no such study, or a role that the recipe does not say. DataError: rows that cannot be read.
    """
    name = str(roles.get("name"))
    if name not in MAKERS:
        raise RecipeError(f"no study `{name}`", where="study.name", fix=f"one of {', '.join(MAKERS)}")
    return MAKERS[name](Material(compute(rows, facts, examples), roles, examples))


def build(made: Study, out: Path, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Write ``study.html``, ``study.md``, ``study.json`` and ``figures/`` into a folder; returns the paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths: dict[str, Path] = {}
    texts = {
        "html": ("study.html", render.html),
        "md": ("study.md", render.document),
        "json": ("study.json", render.to_json),
    }
    for form in formats:
        if form == "figures":
            paths[form] = out / "figures"
            paths[form].mkdir(exist_ok=True)
            for figure in made.figures:
                write_figure(figure, paths[form])
        else:
            file, text = texts[form]
            paths[form] = out / file
            write(paths[form], text(made))
    return paths
