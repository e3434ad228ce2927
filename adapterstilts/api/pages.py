"""The pages of a report, from the score rows of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapterstilts.api.leaks import with_leaks
from adapterstilts.api.places import PathLike
from adapterstilts.api.planning import Planned
from adapterstilts.errors import StoreError
from adapterstilts.results import example_scores, report_facts, score_rows

FORMATS = ("html", "md", "csv", "json", "svg")


def write_pages(planned: Planned, out: PathLike, formats: Sequence[str] = FORMATS) -> dict[str, Path]:
    """Write the report of a plan into a folder; returns the path of each format. "svg" is the folder of its figures.

    Raises:
        StoreError: nothing is measured yet.
    """
    from adapterstilts.report import build

    rows = score_rows(planned.plan, planned.store)
    if not rows:
        raise nothing_measured(planned)
    return build(rows, facts_of(planned, rows), Path(out), formats, example_scores(planned.store))


def facts_of(planned: Planned, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the report says besides the numbers."""
    planned = with_leaks(planned, read=False)
    return report_facts(planned.recipe, planned.plan, planned.store, planned.tasks, rows, planned.command)


def nothing_measured(planned: Planned) -> StoreError:
    """The error of a report without a single score."""
    fix = planned.command or f"adapterstilts run {planned.recipe.name}"
    return StoreError(f"nothing is measured for `{planned.recipe.name}` yet", where=str(planned.store.root), fix=fix)
