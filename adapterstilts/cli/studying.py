"""study: the questions, each one command and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Group, Session, verb
from adapterstilts.cli.output import Output
from adapterstilts.cli.planning import sets
from adapterstilts.cli.running import carried_out, failures, jobs_option

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.api.planning import Planned
    from adapterstilts.api.running import Jobs
    from adapterstilts.report.studies.page import Study

QUESTIONS = {
    "sequential-vs-joint": "One language after the other, both at once, or composed: order effects and forgetting.",
    "scale": "Whether larger bases gain more from an intermediate task.",
    "domain-shift": "What targets lose in another domain, by English and by multilingual intermediate tasks.",
    "multitask-vs-sequential": "One mix or one after another over diverse languages, for small and large targets.",
    "distance": "Scores against linguistic distance and pretraining text, with and without an intermediate task.",
}


@click.group("study", cls=Group)
def study() -> None:
    """Questions with answers: each runs its recipe of recipes/studies and writes one page."""


def options(function: Any) -> Any:
    """What every study takes."""
    chosen = [
        click.option("--base", "bases", multiple=True, help="Instead of the recipe's bases; repeatable."),
        click.option(
            "--suite",
            type=click.Choice(["lab", "real-files", "xtreme"]),
            default="lab",
            show_default=True,
            help="The embedded world, files on disk, or the whole of XTREME.",
        ),
        click.option("--seeds", type=click.IntRange(1), help="How many.  [default: the recipe's]"),
        sets,
        jobs_option,
        click.option("--dry-run", is_flag=True, help="Only say how much would run."),
        click.option(
            "--out", type=click.Path(file_okay=False, path_type=Path), help="Of the page.  [default: reports/study-...]"
        ),
    ]
    for option in reversed(chosen):
        function = option(function)
    return function


def _command(name: str, question: str) -> click.Command:
    @verb(
        name, examples=[f"adapterstilts study {name}", f"adapterstilts study {name} --base lab/s1 --seeds 2 --dry-run"]
    )
    @options
    @click.pass_obj
    def command(session: Session, /, jobs: Jobs, dry_run: bool, out: Path | None, **chosen: Any) -> int:
        from adapterstilts.api.studying import plan_study

        planned = plan_study(name, **chosen, store=session.store, task_files=session.task_files)
        return answered(session, planned, jobs, dry_run, out)

    command.help = question
    return command


def answered(
    session: Session, planned: Planned, jobs: Jobs, dry_run: bool, out: Path | None, rank: bool = False
) -> int:
    """Run what is missing, write the page, say what came out."""
    from adapterstilts.api.studying import study_of
    from adapterstilts.report.studies import build
    from adapterstilts.report.studies.render import plain

    output = Output(session)
    if dry_run:
        needed = len(planned.plan.needed(planned.store))
        told = {"schema_version": 1, "recipe": planned.recipe.name, "stages": len(planned.plan.stages), "runs": needed}
        text = f"{planned.recipe.name}: {len(planned.plan.stages)} stages, {needed} to run"
        output.emit(told, lambda console: console.print(text, soft_wrap=True), [])
        return 0
    made = carried_out(output, planned, jobs)
    failures(output, made)
    if not made.rows:
        return made.result.exit_code
    found = study_of(planned, rank)
    paths = build(found, out or Path("reports") / planned.recipe.name)
    output.emit(
        {**plain(found), "files": {form: str(path) for form, path in paths.items()}},
        lambda console: _show(console, found, paths),
        map(str, paths.values()),
    )
    return made.result.exit_code


def _show(console: Console, made: Study, paths: dict[str, Path]) -> None:
    from rich.text import Text

    from adapterstilts.report.studies import render, told

    console.print(Text(made.results.facts.recipe, style="bold"))
    console.print(Text(made.question, style="dim"))
    parts = (
        ("Answer", told.answers(made), ""),
        ("Design", made.design, ""),
        ("What was found", told.findings(made) or [render.NOTHING], told.FOUND_IN_BRACKETS),
        ("What was not found", told.not_found(made) or [render.ALL_FOUND], told.MISSED_IN_BRACKETS),
    )
    for heading, lines, note in parts:
        console.print()
        console.print(Text.assemble((heading, "bold"), (f"  {note}", "dim")), soft_wrap=True)
        for line in lines:
            console.print(Text(f"- {line.replace('**', '')}"), soft_wrap=True)
    console.print()
    console.print(f"page: {paths['html']}", soft_wrap=True)


@verb(
    "transfer",
    examples=[
        "adapterstilts study transfer",
        "adapterstilts study transfer --intermediate lab-siqa,lab-nli --target lab-copa,lab-tatoeba --rank --dry-run",
    ],
)
@click.option("--intermediate", metavar="TASK,...", default="", help="Tasks to train first.  [default: the recipe's]")
@click.option("--target", "targets", metavar="TASK,...", default="", help="Tasks to measure.  [default: the recipe's]")
@click.option("--rank", is_flag=True, help="Also predict good intermediate tasks without training on the targets.")
@options
@click.pass_obj
def transfer(
    session: Session,
    /,
    intermediate: str,
    targets: str,
    rank: bool,
    jobs: Jobs,
    dry_run: bool,
    out: Path | None,
    **chosen: Any,
) -> int:
    """The matrix of intermediate tasks by targets by languages, beside the published one."""
    from adapterstilts.api.studying import plan_transfer

    planned = plan_transfer(
        _names(intermediate), _names(targets), **chosen, store=session.store, task_files=session.task_files
    )
    return answered(session, planned, jobs, dry_run, out, rank)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


study.add_command(transfer)
for _name, _question in QUESTIONS.items():
    study.add_command(_command(_name, _question))
