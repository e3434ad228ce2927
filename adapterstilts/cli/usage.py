"""usage: which module a fusion used where."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import Output, table

if TYPE_CHECKING:
    from rich.console import Console


@verb(
    "usage",
    examples=[
        "adapterstilts usage fused",
        "adapterstilts usage quickstart --format json",
        "adapterstilts usage quickstart --csv usage.csv",
    ],
)
@click.argument("source", metavar="MODULE|RECIPE|RUN")
@click.option("--csv", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write all rows as CSV.")
@click.pass_obj
def usage(session: Session, source: str, out: Path | None) -> None:
    """Show how much of each module the fusions of SOURCE used: mean weights over all tokens, by language and layer.

    They are measured while a module is evaluated. JSON has a row for every place of a layer, with the deviation over
    tokens; the table is their mean.
    """
    from adapterstilts.api.showing import usage as find
    from adapterstilts.results.usage import by_layer

    output = Output(session)
    rows = find(source, store=session.store, task_files=session.task_files)
    if out is not None:
        _write(rows, out)
        output.say(f"wrote {out}")

    def show(console: Console) -> None:
        groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in by_layer(rows):
            groups.setdefault((row["base"], row["arm"], row["task"], *row["parts"]), []).append(row)
        for (base, arm, task, *parts), group in groups.items():
            body = [(row["language"], row["layer"], *(f"{100 * share:.1f}" for share in row["share"])) for row in group]
            title = ", ".join(str(part) for part in (arm, task, base) if part) + ": mean weight in percent"
            table(console, ("language", "layer", *parts), body, title=title, right=" ".join(("layer", *parts)))

    output.emit(rows, show, [_line(row) for row in rows])


def _line(row: dict[str, Any]) -> str:
    share = " ".join(f"{part}={value:.3f}" for part, value in zip(row["parts"], row["share"], strict=True))
    return f"{row['task']} {row['language']} {row['layer']} {row['place']} {share}"


def _write(rows: list[dict[str, Any]], out: Path) -> None:
    """One line a module and place."""
    single = [key for key in rows[0] if key not in ("parts", "share", "deviation")]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*single, "part", "share", "deviation"])
        for row in rows:
            for values in zip(row["parts"], row["share"], row["deviation"], strict=True):
                writer.writerow([*(row[key] for key in single), *values])
