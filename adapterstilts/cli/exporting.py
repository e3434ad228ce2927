"""export: results and modules in the forms of others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapterstilts.cli.exchange import EXPORTS
from adapterstilts.cli.group import Group, Session, verb
from adapterstilts.cli.output import Output, table

if TYPE_CHECKING:
    from rich.console import Console


@click.group("export", cls=Group)
def export() -> None:
    """Results and modules in the forms of others."""


@verb(
    "xtreme",
    examples=[
        "adapterstilts export xtreme my.yaml --arm stack --out submission",
        "adapterstilts export xtreme my.yaml --arm stack --suite xtreme-r --only xcopa --only udpos --out part",
    ],
)
@click.argument("source", metavar="RECIPE|RUN")
@click.option("--arm", required=True, help="Whose predictions.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="A new folder.")
@click.option("--suite", default="xtreme", show_default=True, help="xtreme, xtreme-r, or a YAML file of your own.")
@click.option("--only", multiple=True, metavar="TASK", help="A part of the suite; repeatable.")
@click.option("--retrieval", metavar="MODULE", help="Who searches.  [default: the arm's own module, else base]")
@click.option("--seed", type=int, help="Where the recipe has several.")
@click.option("--base", help="Where the recipe has several.")
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Override a field of the recipe; repeatable.")
@click.pass_obj
def xtreme(
    session: Session,
    source: str,
    arm: str,
    out: Path,
    suite: str,
    only: tuple[str, ...],
    retrieval: str | None,
    seed: int | None,
    base: str | None,
    sets: tuple[str, ...],
) -> int:
    """Write the folder that google-research/xtreme's evaluate.py reads. A language without predictions is an error
    before anything is written.
    """
    from adapterstilts.api.exporting import export_xtreme

    output = Output(session)
    made = export_xtreme(
        source,
        out,
        arm=arm,
        suite=suite,
        only=only,
        retrieval=retrieval,
        seed=seed,
        base=base,
        sets=sets,
        store=session.store,
        task_files=session.task_files,
    )

    def show(console: Console) -> None:
        table(console, ("task", "languages"), list(made["tasks"].items()), title=made["folder"], right="languages")
        for name, why in made["unread"].items():
            console.print(f"not in it: {name}: {why}", soft_wrap=True)

    output.emit(made, show, [made["folder"]])
    return 0


for command in (xtreme, *EXPORTS):
    export.add_command(command)
