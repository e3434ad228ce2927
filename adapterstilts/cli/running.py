"""run: a recipe to its results; and what every verb that runs stages shares."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session, interrupted, verb
from adapterstilts.cli.output import Output, duration
from adapterstilts.cli.planning import fitting, planned_to_fit, sets, show_plan
from adapterstilts.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.api.planning import Planned
    from adapterstilts.api.running import Jobs, Run, Runner

TRACKERS = ("tensorboard", "wandb", "trackio", "mlflow")


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
    help="Stages at a time.  [default: 1 here, in this process with all threads; all there is room for on a cluster] "
    "auto is a worker for every GPU, or one with one thread for every core, best when stages are small.",
)


def carried_out(
    output: Output,
    planned: Planned,
    jobs: Jobs | None = None,
    runner: Runner | None = None,
    keep_going: bool = True,
    **outside: Any,
) -> Run:
    """Run a plan with progress on stderr; leaves with 130 after an interrupt."""
    from adapterstilts.api.leaks import with_leaks
    from adapterstilts.api.running import run as run_plan
    from adapterstilts.cli.progress import Watcher

    planned = with_leaks(planned, output.say)
    output.warn(planned.plan.warnings)
    with Watcher(output, len(planned.plan.needed(planned.store))) as watcher:
        made = run_plan(planned, jobs=jobs, runner=runner, keep_going=keep_going, on_event=watcher, **outside)
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


NAME = "NAME"  # what --only and its like take

options = [
    click.option("--dry-run", is_flag=True, help="Show what would run, as `plan` does, and change nothing."),
    jobs_option,
    click.option(
        "--only",
        multiple=True,
        metavar=NAME,
        help="These stages alone. NAME: a kind, module, target, label, pattern of labels (*), or part of one.",
    ),
    click.option("--from", "start", multiple=True, metavar=NAME, help="These stages and those that need them."),
    click.option("--until", multiple=True, metavar=NAME, help="These stages and those they need."),
    click.option("--force", multiple=True, metavar=NAME, help="Make these and those that need them again."),
    click.option(
        "--keep-going/--no-keep-going", default=True, show_default=True, help="Go on with what no failure touches."
    ),
    click.option(
        "--executor",
        type=click.Choice(["local", "ray", "slurm"]),
        default="local",
        show_default=True,
        help="Who runs the stages: this machine, a Ray cluster, Slurm.",
    ),
    click.option(
        "--gpus-per-stage",
        "gpus",
        type=click.IntRange(0),
        default=0,
        help="GPUs of a training stage, which share its updates; processes on the cores where there are none.",
    ),
    click.option(
        "--together",
        type=click.Choice(["never", "auto", "always"]),
        default="never",
        show_default=True,
        help="Train modules on one base in one loop: where that is known to pay, or wherever they can.",
    ),
    click.option("--cores-per-stage", "cores", type=click.IntRange(1), default=1, help="What a cluster reserves."),
    click.option(
        "--with",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="An option of the executor: address=..., partition=..., time=...; repeatable.",
    ),
    click.option(
        "--remote", metavar="URL", help="A store elsewhere, s3://, gs://, hf://, file://: pulled from and pushed to."
    ),
    click.option(
        "--track", "trackers", multiple=True, type=click.Choice(TRACKERS), help="Log training curves there; repeatable."
    ),
    click.option(
        "--report", "out", type=click.Path(path_type=Path), help="Folder of the report.  [default: reports/RECIPE]"
    ),
    click.option("--no-report", is_flag=True, help="Write no report files."),
]


def _with_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        function = option(function)
    return function


@verb(
    "run",
    examples=[
        "adapterstilts run recipes/quickstart.yaml --jobs auto",
        "adapterstilts run real-files --set data=../data --set seeds=[0]",
        "adapterstilts run my.yaml --only nli --dry-run",
        "adapterstilts run my.yaml --max-memory 4GB --preset small-gpu",
        "adapterstilts run xlmr-large --executor slurm --gpus-per-stage 1 --with partition=gpu --with time=240",
    ],
)
@click.argument("recipe")
@sets
@fitting
@_with_options
@click.pass_obj
def run(
    session: Session,
    /,
    recipe: str,
    sets: tuple[str, ...],
    dry_run: bool,
    jobs: Jobs | None,
    only: tuple[str, ...],
    start: tuple[str, ...],
    until: tuple[str, ...],
    force: tuple[str, ...],
    keep_going: bool,
    out: Path | None,
    no_report: bool,
    settings: tuple[str, ...],
    remote: str | None,
    trackers: tuple[str, ...],
    preset: str | None,
    max_memory: str | None,
    lower_precision: bool,
    **machine: Any,
) -> int:
    """Run what is missing of RECIPE (a file, or a name of `ls recipes`), print the results and write the report.

    Done stages are hits; an interrupted run goes on where it stopped.
    """
    from adapterstilts.api.choosing import Choice, Part, choose
    from adapterstilts.api.running import Runner, workers

    output = Output(session)
    runner = Runner(jobs=jobs, options=_pairs(settings), **machine)
    fit: dict[str, Any] = {"preset": preset, "max_memory": max_memory, "lower_precision": lower_precision}
    planned = planned_to_fit(session, output, recipe, sets, **fit, jobs=workers(jobs))
    runner.companions(planned, max_memory=max_memory)  # refused before anything runs
    choice = Choice(only, start, until, force)
    planned = choose(planned, choice) if choice else planned
    if isinstance(planned.plan, Part) and remote is None:
        planned.plan.check(planned.store)
    if dry_run:
        show_plan(output, planned)
        return 0
    made = carried_out(output, planned, runner=runner, keep_going=keep_going, remote=remote, trackers=trackers)
    folder = out or Path("reports") / planned.recipe.name
    files = made.report(folder) if made.rows and not no_report else {}
    failures(output, made)
    output.emit(
        _outcome(made, files), lambda console: _show_run(console, output, made, files), map(str, files.values())
    )
    return made.result.exit_code


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise RecipeError("cannot read this option", where=f"--with {text}", fix="--with partition=gpu")
        found[key] = value
    return found


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
