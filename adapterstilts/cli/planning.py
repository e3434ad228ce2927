"""plan and validate: what a recipe would do, and whether it can."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import STYLES, Output, table
from adapterstilts.errors import AdapterstiltsError

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.api.planning import Planned
    from adapterstilts.plan.graph import Stage

sets = click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Override a field of the recipe; repeatable.")


@verb(
    "plan",
    examples=[
        "adapterstilts plan recipes/quickstart.yaml",
        "adapterstilts plan xlmr-large --format json",
        "adapterstilts plan recipes/quickstart.yaml --settings",
        "adapterstilts plan recipes/quickstart.yaml --graph mermaid > plan.mmd",
    ],
)
@click.argument("recipe")
@sets
@click.option(
    "--graph", type=click.Choice(["dot", "mermaid"]), help="The graph of stages as text, instead of the table."
)
@click.option("--settings", is_flag=True, help="The training settings and who sets them, instead of the table.")
@click.option("--save", is_flag=True, help="Also write the run folder, so that `stage run HASH` knows the stages.")
@click.pass_obj
def plan(session: Session, recipe: str, sets: tuple[str, ...], graph: str | None, settings: bool, save: bool) -> None:
    """Show the stages of RECIPE and which of them are done. Nothing runs; torch is not imported."""
    from adapterstilts.api.planning import plan_recipe

    output = Output(session)
    planned = plan_recipe(recipe, sets, store=session.store, task_files=session.task_files)
    if save:
        from adapterstilts.plan.runs import record

        record(planned.plan, planned.store)
    if graph:
        from adapterstilts.cli.graphs import draw

        click.echo(draw(planned.plan, graph))
    else:
        show_plan(output, planned, settings)


def show_plan(output: Output, planned: Planned, settings: bool = False) -> None:
    """The stages with their states, or their training settings with who sets them."""
    states = planned.states()
    output.warn(planned.plan.warnings)
    needed = {stage.hash for stage in planned.plan.needed(planned.store)}
    plain = {
        "schema_version": 1,
        "recipe": planned.recipe.name,
        "id": planned.plan.id,
        "stages": [
            {
                **stage.to_plain(),
                "name": stage.label,
                "state": states[stage.hash],
                "runs": stage.hash in needed,
                "settings_from": dict(planned.plan.origins.get(stage.hash, {})),
            }
            for stage in planned.plan.stages
        ],
        "cells": len(planned.plan.cells),
        "modules": dict(planned.plan.names),
        "warnings": list(planned.plan.warnings),
    }

    def show(console: Console) -> None:
        from rich.text import Text

        if settings:
            set_by = [(stage.label, told(stage)) for stage in planned.plan.stages if stage.hash in planned.plan.origins]
            table(console, ("stage", "settings"), set_by, title=f"{planned.recipe.name}: what is not a default")
            return

        rows = [
            (
                stage.kind,
                stage.label,
                Text(states[stage.hash], style=STYLES.get(states[stage.hash], "")),
                stage.hash[:12],
            )
            for stage in planned.plan.stages
        ]
        table(console, ("kind", "stage", "state", "hash"), rows, title=planned.recipe.name)
        counts = Counter(states.values())
        summary = ", ".join(f"{counts[state]} {state}" for state in ("hit", "stale", "missing") if counts[state])
        console.print(f"{len(rows)} stages: {summary}; {len(needed)} to run")

    def told(stage: Stage) -> str:
        chosen = stage.to_plain()["spec"]["settings"]
        return ", ".join(f"{key} {chosen[key]} ({by})" for key, by in planned.plan.origins[stage.hash].items())

    output.emit(plain, show, [stage.hash for stage in planned.plan.stages])


@verb(
    "validate",
    examples=[
        "adapterstilts validate recipes/quickstart.yaml",
        "adapterstilts validate my.yaml --set base=lab/s0 --format json",
    ],
)
@click.argument("recipe")
@sets
@click.pass_obj
def validate(session: Session, recipe: str, sets: tuple[str, ...]) -> int:
    """Check RECIPE: keys, names, languages, compositions, bases and data. All problems come at once."""
    from adapterstilts.api.planning import plan_recipe

    output = Output(session)
    plain: dict[str, Any] = {"schema_version": 1, "recipe": recipe, "ok": True, "stages": 0, "problems": []}
    try:
        planned = plan_recipe(recipe, sets, store=session.store, task_files=session.task_files)
    except AdapterstiltsError as error:
        if output.human or session.format == "quiet":
            raise
        problems = getattr(error, "problems", (error,))
        fields = ("what", "where", "why", "fix")
        plain |= {"ok": False, "problems": [{f: getattr(problem, f) for f in fields} for problem in problems]}
        output.emit(plain)
        return error.exit_code
    output.warn(planned.plan.warnings)
    plain |= {"stages": len(planned.plan.stages), "warnings": list(planned.plan.warnings)}
    text = f"{recipe} is valid: {plain['stages']} stages, {len(planned.plan.cells)} cells of the result table"
    output.emit(plain, lambda console: console.print(text, soft_wrap=True), [])
    return 0
