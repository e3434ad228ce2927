"""run, plan, validate, status."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session, interrupted, verb
from adapterstilts.cli.output import STYLES, Output, duration, table
from adapterstilts.errors import AdapterstiltsError

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.api.planning import Planned
    from adapterstilts.api.running import Choice, Jobs, Run

sets = click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Override a field of the recipe; repeatable.")


class JobsType(click.ParamType):  # type: ignore[type-arg]
    """A number, or ``auto``."""

    name = "N|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Jobs:
        """Text to jobs."""
        if value == "auto":
            return "auto"
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"`{value}` is neither a number from 1 nor `auto`", param, ctx)
        return number


jobs_option = click.option(
    "--jobs",
    type=JobsType(),
    default="1",
    show_default=True,
    help="Stages at a time. 1 runs in this process with all threads; auto is one worker with one thread a core, "
    "best when stages are small.",
)


def carried_out(output: Output, planned: Planned, jobs: Jobs, choice: Choice | None = None, **settings: Any) -> Run:
    """Run a plan with progress on stderr; leaves with 130 after an interrupt."""
    from adapterstilts.api.leaks import with_leaks
    from adapterstilts.api.running import run as run_plan
    from adapterstilts.cli.progress import Watcher

    planned = with_leaks(planned, output.say)
    output.warn(planned.plan.warnings)
    with Watcher(output, len(planned.plan.needed(planned.store))) as watcher:
        made = run_plan(planned, jobs=jobs, choice=choice, on_event=watcher, **settings)
    if made.result.interrupted:
        interrupted(sys.argv[1:])
    return made


def failures(output: Output, made: Run) -> None:
    """What failed and what could not run, on stderr."""
    failed, skipped = made.result.having("failed"), made.result.having("skipped")
    if failed:
        output.say(f"{len(failed)} stages failed, {len(skipped)} could not run without them:")
        for result in failed:
            output.say(f"error: {result.error}")
            output.say(f"  log: {result.log}")


@verb(
    "run",
    examples=[
        "adapterstilts run recipes/quickstart.yaml --jobs auto",
        "adapterstilts run real-files --set data=../data --set seeds=[0]",
        "adapterstilts run my.yaml --only 'train nli*' --dry-run",
    ],
)
@click.argument("recipe")
@sets
@click.option("--dry-run", is_flag=True, help="Show what would run, as `plan` does, and change nothing.")
@jobs_option
@click.option(
    "--only", multiple=True, metavar="LABEL", help="These stages alone; a pattern (*) or a part of the label."
)
@click.option("--from", "start", multiple=True, metavar="LABEL", help="These stages and those that need them.")
@click.option("--until", multiple=True, metavar="LABEL", help="These stages and those they need.")
@click.option("--force", multiple=True, metavar="LABEL", help="Make these and those that need them again.")
@click.option(
    "--keep-going/--no-keep-going", default=True, show_default=True, help="Go on with what no failure touches."
)
@click.option(
    "--report", "out", type=click.Path(path_type=Path), help="Folder of the report.  [default: reports/RECIPE]"
)
@click.option("--no-report", is_flag=True, help="Write no report files.")
@click.pass_obj
def run(
    session: Session,
    recipe: str,
    sets: tuple[str, ...],
    dry_run: bool,
    jobs: Jobs,
    only: tuple[str, ...],
    start: tuple[str, ...],
    until: tuple[str, ...],
    force: tuple[str, ...],
    keep_going: bool,
    out: Path | None,
    no_report: bool,
) -> int:
    """Run what is missing of RECIPE (a file, or a name of `ls recipes`), print the results and write the report.

    Done stages are hits; an interrupted run goes on where it stopped.
    """
    from adapterstilts.api.planning import plan_recipe
    from adapterstilts.api.running import Choice

    output = Output(session)
    planned = plan_recipe(recipe, sets, store=session.store, task_files=session.task_files)
    if dry_run:
        _show_plan(output, planned)
        return 0
    made = carried_out(output, planned, jobs, Choice(only, start, until, force), keep_going=keep_going)
    folder = out or Path("reports") / planned.recipe.name
    files = made.report(folder) if made.rows and not no_report else {}
    failures(output, made)
    output.emit(
        _outcome(made, files), lambda console: _show_run(console, output, made, files), map(str, files.values())
    )
    return made.result.exit_code


def _outcome(made: Run, files: dict[str, Path]) -> dict[str, Any]:
    result = made.result
    counts = Counter(stage.outcome for stage in result.stages.values())
    return {
        "schema_version": 1,
        "recipe": made.planned.recipe.name,
        "id": made.planned.plan.id,
        "folder": str(result.folder),
        "ok": result.ok,
        "exit_code": result.exit_code,
        "seconds": round(result.seconds, 2),
        "stages": dict(counts),
        "failed": [
            {"label": stage.stage.label, "hash": stage.stage.hash, "error": str(stage.error), "log": str(stage.log)}
            for stage in result.having("failed")
        ],
        "modules": made.modules,
        "report": {kind: str(path) for kind, path in files.items()},
        "scores": len(made.rows),
    }


def _show_run(console: Console, output: Output, made: Run, files: dict[str, Path]) -> None:
    if made.rows:
        from adapterstilts.api.pages import facts_of
        from adapterstilts.report import terminal
        from adapterstilts.results import example_scores

        terminal(made.rows, facts_of(made.planned, made.rows), console, example_scores(made.planned.store))
        console.print()
    counts = Counter(stage.outcome for stage in made.result.stages.values())
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    output.say(f"{told} in {duration(made.result.seconds)}")
    if "html" in files:
        console.print(f"report: {files['html']}", soft_wrap=True)


@verb(
    "plan",
    examples=[
        "adapterstilts plan recipes/quickstart.yaml",
        "adapterstilts plan xlmr-large --format json",
        "adapterstilts plan recipes/quickstart.yaml --graph mermaid > plan.mmd",
    ],
)
@click.argument("recipe")
@sets
@click.option(
    "--graph", type=click.Choice(["dot", "mermaid"]), help="The graph of stages as text, instead of the table."
)
@click.pass_obj
def plan(session: Session, recipe: str, sets: tuple[str, ...], graph: str | None) -> None:
    """Show the stages of RECIPE and which of them are done. Nothing runs; torch is not imported."""
    from adapterstilts.api.planning import plan_recipe

    output = Output(session)
    planned = plan_recipe(recipe, sets, store=session.store, task_files=session.task_files)
    if graph:
        from adapterstilts.cli.graphs import draw

        click.echo(draw(planned.plan, graph))
    else:
        _show_plan(output, planned)


def _show_plan(output: Output, planned: Planned) -> None:
    states = planned.states()
    output.warn(planned.plan.warnings)
    needed = {stage.hash for stage in planned.plan.needed(planned.store)}
    plain = {
        "schema_version": 1,
        "recipe": planned.recipe.name,
        "id": planned.plan.id,
        "stages": [
            {**stage.to_plain(), "name": stage.label, "state": states[stage.hash], "runs": stage.hash in needed}
            for stage in planned.plan.stages
        ],
        "cells": len(planned.plan.cells),
        "modules": dict(planned.plan.names),
        "warnings": list(planned.plan.warnings),
    }

    def show(console: Console) -> None:
        from rich.text import Text

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
        told = ", ".join(f"{counts[state]} {state}" for state in ("hit", "stale", "missing") if counts[state])
        console.print(f"{len(rows)} stages: {told}; {len(needed)} to run")

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
