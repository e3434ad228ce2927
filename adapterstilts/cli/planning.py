"""plan and validate: what a recipe would do, and whether it can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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

_FITTING = (
    click.option("--preset", metavar="NAME", help="Settings for a kind of machine: reproduce, small-gpu, tiny, cpu."),
    click.option(
        "--max-memory", metavar="SIZE", help="Pick micro-batch and recomputing so that every stage fits: 4GB, 900MB."
    ),
    click.option(
        "--lower-precision", is_flag=True, help="--max-memory may lower the base's precision, which changes results."
    ),
)


def fitting(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `planned_to_fit`."""
    for option in reversed(_FITTING):
        function = option(function)
    return function


def planned_to_fit(
    session: Session,
    output: Output,
    recipe: str,
    sets: Sequence[str],
    *,
    preset: str | None,
    max_memory: str | None,
    lower_precision: bool,
    jobs: int = 1,
) -> Planned:
    """Plan a recipe with a preset below it, and inside an amount of memory; says what was picked."""
    from adapterstilts.api.memory import gigabytes, told, within
    from adapterstilts.api.planning import plan_recipe

    every = [*sets, *([f"preset={preset}"] if preset else [])]
    planned = plan_recipe(recipe, every, store=session.store, task_files=session.task_files)
    fitted = within(planned, max_memory, lower_precision=lower_precision, jobs=jobs)
    if fitted.picked:
        output.say(f"to fit: {told(fitted.picked)}; predicted peak {gigabytes(fitted.peak)}")
    return fitted.planned


@verb(
    "plan",
    examples=[
        "adapterstilts plan recipes/quickstart.yaml",
        "adapterstilts plan xlmr-large --format json",
        "adapterstilts plan xlmr-large --max-memory 4GB",
        "adapterstilts plan recipes/quickstart.yaml --settings",
        "adapterstilts plan recipes/quickstart.yaml --graph mermaid > plan.mmd",
    ],
)
@click.argument("recipe")
@sets
@fitting
@click.option(
    "--graph", type=click.Choice(["dot", "mermaid"]), help="The graph of stages as text, instead of the table."
)
@click.option("--settings", is_flag=True, help="The training settings and who sets them, instead of the table.")
@click.option("--save", is_flag=True, help="Also write the run folder, so that `stage run HASH` knows the stages.")
@click.pass_obj
def plan(
    session: Session, /, recipe: str, sets: tuple[str, ...], graph: str | None, settings: bool, save: bool, **fit: Any
) -> None:
    """Show the stages of RECIPE, which of them are done, and their predicted peak memory (~: data not counted yet).

    Nothing runs; torch is not imported.
    """
    output = Output(session)
    planned = planned_to_fit(session, output, recipe, sets, **fit)
    if save:
        from adapterstilts.plan.runs import record

        record(planned.plan, planned.store)
    if graph:
        from adapterstilts.cli.graphs import draw

        click.echo(draw(planned.plan, graph))
    else:
        show_plan(output, planned, settings)


def show_plan(output: Output, planned: Planned, settings: bool = False) -> None:
    """The stages with their states and predicted peak memory, or their training settings with who sets them."""
    from adapterstilts.api.memory import forecasts, gigabytes

    states = planned.states()
    memory = forecasts(planned)
    output.warn(planned.plan.warnings)
    needed = {stage.hash for stage in planned.plan.needed(planned.store)}
    plain = {
        "schema_version": 1,
        "recipe": planned.recipe.name,
        "id": planned.plan.id,
        "preset": planned.recipe.preset,
        "engine": planned.recipe.engine.model_dump(mode="json"),
        "stages": [
            {
                **stage.to_plain(),
                "name": stage.label,
                "state": states[stage.hash],
                "runs": stage.hash in needed,
                "memory": memory[stage.hash].to_plain() if stage.hash in memory else None,
                "settings_from": dict(planned.plan.origins.get(stage.hash, {})),
            }
            for stage in planned.plan.stages
        ],
        "cells": len(planned.plan.cells),
        "modules": dict(planned.plan.names),
        "warnings": list(planned.plan.warnings),
    }

    def shown(hash: str) -> str:
        found = memory.get(hash)
        return "" if found is None else ("" if found.known else "~") + gigabytes(found.peak)

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
                shown(stage.hash),
                stage.hash[:12],
            )
            for stage in planned.plan.stages
        ]
        table(console, ("kind", "stage", "state", "memory", "hash"), rows, title=planned.recipe.name)
        counts = Counter(states.values())
        summary = ", ".join(f"{counts[state]} {state}" for state in ("hit", "stale", "missing") if counts[state])
        console.print(f"{len(rows)} stages: {summary}; {len(needed)} to run")
        if memory:
            where = next(iter(memory.values())).where
            console.print(f"largest predicted peak ({where}): {gigabytes(max(m.peak for m in memory.values()))}")
        if planned.recipe.preset:
            console.print(f"preset {planned.recipe.preset}: {_preset_text(planned.recipe.preset)}", soft_wrap=True)

    def told(stage: Stage) -> str:
        chosen = stage.to_plain()["spec"]["settings"]
        return ", ".join(f"{key} {chosen[key]} ({by})" for key, by in planned.plan.origins[stage.hash].items())

    output.emit(plain, show, [stage.hash for stage in planned.plan.stages])


def _preset_text(name: str) -> str:
    from adapterstilts.recipe.presets import preset

    return ", ".join(f"{part}.{key}={value}" for part, values in preset(name).items() for key, value in values.items())


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
