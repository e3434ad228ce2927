"""status, logs, cancel: how far runs have come, what their stages print, and stopping them."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import STYLES, Output, duration, table

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.store import Store

EVERY = 1.0  # seconds between two looks


def _store(session: Session) -> Store:
    from adapterstilts.api.places import open_store

    return open_store(session.store)


@verb(
    "status",
    examples=[
        "adapterstilts status",
        "adapterstilts status quickstart --watch",
        "adapterstilts status quickstart --format json",
    ],
)
@click.argument("name", metavar="[RUN]", required=False)
@click.option("--last", default=10, show_default=True, type=click.IntRange(1), help="How many runs are listed.")
@click.option("--watch", is_flag=True, help="Look on until nothing runs: what is open comes first. Needs RUN.")
@click.pass_obj
def status(session: Session, name: str | None, last: int, watch: bool) -> None:
    """Show the last runs, or the stages of one: by recipe name (its newest run), id, or recipe/id."""
    from adapterstilts.api.following import find, runs, stage_states

    output, store = Output(session), _store(session)
    if name is None:
        if watch:
            raise click.UsageError("--watch needs a run\n  fix: adapterstilts status RUN --watch")
        found = runs(store, last)
        columns = ("run", "when", "stages", "done", "running", "queued", "failed", "started", "open")
        rows = [[run["name"], *(run[column] for column in columns[1:])] for run in found]
        if not found:
            output.say(f"no runs in {store.root}; adapterstilts run RECIPE makes one")
        output.emit(found, lambda console: table(console, columns, rows, right=" ".join(columns[2:])))
        return
    run = find(store, name)
    stages = stage_states(store, run.stages)
    if watch:
        from adapterstilts.cli.watching import look_on

        stages = look_on(output, run.name, lambda: stage_states(store, run.stages))
    recipe, _, id = run.name.partition("/")
    plain = {"schema_version": 1, "recipe": recipe, "id": id, "stages": stages}

    def show(console: Console) -> None:
        from rich.text import Text

        rows = [
            (
                s["kind"],
                s["name"],
                Text(s["state"], style=STYLES.get(s["state"], "")),
                s["where"],
                duration(s["seconds"]),
                s["hash"][:12],
            )
            for s in stages
        ]
        table(console, ("kind", "stage", "state", "where", "took", "hash"), rows, title=run.name, right="took")
        console.print(", ".join(f"{n} {state}" for state, n in Counter(s["state"] for s in stages).items()))

    output.emit(plain, show, [f"{s['state']} {s['name']}" for s in stages])


@verb(
    "logs",
    examples=[
        "adapterstilts logs quickstart",
        "adapterstilts logs 'train siqa lab/s0 seed 0' -f",
        "adapterstilts logs 3f2a91 --format jsonl",
    ],
)
@click.argument("name", metavar="STAGE|RUN")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until nothing of it runs.")
@click.pass_obj
def logs(session: Session, name: str, follow: bool) -> None:
    """Print what a stage (label or hash), or every stage of a run, has printed."""
    from adapterstilts.api.following import Tail, find

    output, store = Output(session), _store(session)
    found = find(store, name)
    tail = Tail(store, found.stages)
    lines: list[dict[str, Any]] = []
    silent = True
    while True:
        on = follow and tail.alive()
        for label, line in tail.lines(whole=not on):
            silent = False
            if session.format == "json":
                lines.append({"name": label, "line": line})
            elif session.format == "jsonl":
                output.emit({"name": label, "line": line})
            else:
                click.echo(line if len(found.stages) == 1 else f"{label}: {line}")
        if not on:
            break
        time.sleep(EVERY)
    if session.format == "json":
        output.emit({"schema_version": 1, "name": found.name, "lines": lines})
    elif silent:
        output.say(f"{found.name} has printed nothing")


@verb(
    "cancel",
    examples=[
        "adapterstilts cancel quickstart",
        "adapterstilts cancel 'train siqa lab/s0 seed 0'",
        "adapterstilts cancel 3f2a91 --format json",
    ],
)
@click.argument("name", metavar="STAGE|RUN")
@click.pass_obj
def cancel(session: Session, name: str) -> None:
    """Stop a run, or a running stage, wherever it runs. Checkpoints are kept: run the recipe again to go on."""
    from adapterstilts.api.following import cancel as stop

    output = Output(session)
    found = stop(session.store, name)
    text = f"{found['name']}: {len(found['stopped'])} stages are asked to stop"
    output.emit(found, lambda console: console.print(text, soft_wrap=True), found["stopped"])
