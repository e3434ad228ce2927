"""report: what is measured, in every form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.measuring import bare_row
from adapterstilts.cli.output import Output
from adapterstilts.cli.planning import sets

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.api.planning import Planned


@verb(
    "report",
    examples=[
        "adapterstilts report recipes/quickstart.yaml",
        "adapterstilts report quickstart --format json > scores.json",
        "adapterstilts report quickstart --html report.html --csv scores.csv",
        "adapterstilts report quickstart --compare continue stack",
    ],
)
@click.argument("source", metavar="RECIPE|RUN")
@sets
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one self-contained HTML file.")
@click.option("--md", type=click.Path(dir_okay=False, path_type=Path), help="Write Markdown.")
@click.option("--csv", type=click.Path(dir_okay=False, path_type=Path), help="Write the score rows as CSV.")
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write every figure as SVG, PNG and CSV into it.",
)
@click.option("--compare", "arms", nargs=2, metavar="A B", help="Test one arm against another, by every level.")
@click.pass_obj
def report(
    session: Session,
    source: str,
    sets: tuple[str, ...],
    html: Path | None,
    md: Path | None,
    csv: Path | None,
    figures: Path | None,
    arms: tuple[str, str] | None,
) -> None:
    """Show what a recipe or a run has measured so far. JSON is the list of score rows."""
    from adapterstilts.api.pages import facts_of, nothing_measured
    from adapterstilts.api.showing import find_planned
    from adapterstilts.results import example_scores, score_rows

    output = Output(session)
    planned = find_planned(source, sets, store=session.store, task_files=session.task_files)
    rows = score_rows(planned.plan, planned.store)
    asked = {"html": html, "md": md, "csv": csv, "svg": figures}
    wanted = {form: path for form, path in asked.items() if path is not None}
    if not rows and (wanted or output.human):
        raise nothing_measured(planned)
    open_cells = sum(not planned.store.has(cell.stage) for cell in planned.plan.cells)
    if open_cells:
        output.say(f"warning: {open_cells} of {len(planned.plan.cells)} cells are not measured yet")
    facts = facts_of(planned, rows)
    if arms:
        from adapterstilts.report import comparing

        found = comparing.compared(rows, facts, *arms, example_scores(planned.store))
        output.emit(comparing.plain(found, *arms), lambda console: comparing.show(found, console, *arms), [])
        return
    if wanted:
        _write(output, wanted, planned, rows, facts)
        if output.human:
            return

    def show(console: Console) -> None:
        from adapterstilts.report import terminal

        terminal(rows, facts, console, example_scores(planned.store))

    output.emit(rows, show, [bare_row(row) for row in rows])


def _write(
    output: Output, wanted: dict[str, Path], planned: Planned, rows: list[dict[str, Any]], facts: dict[str, Any]
) -> None:
    """Each format into the file or folder that was asked for."""
    import shutil
    import tempfile

    from adapterstilts.report import build
    from adapterstilts.results import example_scores

    with tempfile.TemporaryDirectory() as folder:
        made = build(rows, facts, Path(folder), tuple(wanted), example_scores(planned.store))
        for form, path in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if made[form].is_dir():
                shutil.copytree(made[form], path, dirs_exist_ok=True)
            else:
                shutil.copyfile(made[form], path)
            output.say(f"wrote {path}")
