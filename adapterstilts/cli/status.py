"""status: how far runs have come."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import STYLES, Output, duration, table

if TYPE_CHECKING:
    from rich.console import Console


@verb(
    "status",
    examples=[
        "adapterstilts status",
        "adapterstilts status quickstart",
        "adapterstilts status quickstart --format json",
    ],
)
@click.argument("name", metavar="[RUN]", required=False)
@click.option("--last", default=10, show_default=True, type=click.IntRange(1), help="How many runs are listed.")
@click.pass_obj
def status(session: Session, name: str | None, last: int) -> None:
    """Show the last runs, or the stages of one: by recipe name (its newest run), id, or recipe/id."""
    from adapterstilts.api.places import open_store
    from adapterstilts.api.showing import run_states, runs
    from adapterstilts.plan.runs import load_plan

    output = Output(session)
    store = open_store(session.store)
    if name is None:
        found = runs(store, last)
        columns = ("run", "when", "stages", "done", "running", "started", "open")
        rows = [[run["name"], *(run[column] for column in columns[1:])] for run in found]
        if not found:
            output.say(f"no runs in {store.root}; adapterstilts run RECIPE makes one")
        output.emit(found, lambda console: table(console, columns, rows, right=" ".join(columns[2:])))
        return
    plan = load_plan(store, name)
    stages = run_states(plan, store)
    plain = {"schema_version": 1, "recipe": plan.recipe, "id": plan.id, "stages": stages}

    def show(console: Console) -> None:
        from rich.text import Text

        rows = [
            (
                s["kind"],
                s["name"],
                Text(s["state"], style=STYLES.get(s["state"], "")),
                duration(s["seconds"]),
                s["hash"][:12],
            )
            for s in stages
        ]
        table(console, ("kind", "stage", "state", "took", "hash"), rows, title=f"{plan.recipe}/{plan.id}", right="took")
        console.print(", ".join(f"{n} {state}" for state, n in Counter(s["state"] for s in stages).items()))

    output.emit(plain, show, [f"{s['state']} {s['name']}" for s in stages])
