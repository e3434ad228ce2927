"""train, stack, fuse, merge: one module without a recipe file."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import Output, duration, words
from adapterstilts.cli.running import carried_out, failures, jobs_option
from adapterstilts.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.api.running import Run
    from adapterstilts.api.verbs import Draft


class PlainType(click.ParamType):  # type: ignore[type-arg]
    """A word, or a YAML mapping: ``lora`` or ``{name: lora, r: 16}``."""

    name = "NAME|{YAML}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Text to plain data."""
        import yaml

        try:
            return yaml.safe_load(value) if isinstance(value, str) else value
        except yaml.YAMLError as error:
            self.fail(f"`{value}` cannot be read: {str(error).splitlines()[0]}", param, ctx)


def _setting(values: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE of --set to training settings."""
    import yaml

    found: dict[str, Any] = {}
    for text in values:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise RecipeError("cannot read this setting", where=f"--set {text}", fix="--set batch=16")
        place = found
        *above, last = path.removeprefix("train.").split(".")
        for step in above:
            place = place.setdefault(step, {})
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise RecipeError("cannot read this value", where=f"--set {text}", why=str(error).splitlines()[0]) from None
    return found


data_option = click.option(
    "--data",
    metavar="DIR",
    envvar=["ADAPTERSTILTS_DATA"],
    show_envvar=True,
    help="Folder with the data sets; without one they come from the Hub.",
)


def _slots(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    found = dict(text.partition("=")[::2] for text in values)
    if not all(found) or not all(found.values()):
        raise click.BadParameter("it is CODE=MODULE: --slot sw=mlm-sw", context, parameter)
    return found


slots_option = click.option(
    "--slot",
    "slots",
    multiple=True,
    metavar="CODE=MODULE",
    callback=_slots,
    help="The module in {language} for one language; repeatable.",
)
name_required = click.option("--name", required=True, help="What the new module is called.")


def training(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that everything that trains has."""
    options = [
        click.option("--method", type=PlainType(), help="lora (default), seq_bn, ... or {name: lora, r: 16}."),
        data_option,
        click.option("--limit", type=click.IntRange(1), help="Training examples of each task."),
        click.option("--epochs", type=click.FloatRange(0, min_open=True), help="Passes over the data.  [default: 3]"),
        click.option("--steps", type=click.IntRange(1), help="Updates, instead of epochs."),
        click.option("--batch", type=click.IntRange(1), help="Examples in one update.  [default: 32]"),
        click.option("--learning-rate", type=float, help="Default: that of the method."),
        click.option("--seed", type=int, default=0, show_default=True),
        click.option(
            "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any other training setting, or engine.KEY=VALUE."
        ),
        slots_option,
        jobs_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    named = {key: options.pop(key) for key in ("epochs", "steps", "batch", "learning_rate")}
    return {**{key: value for key, value in named.items() if value is not None}, **_setting(options.pop("sets"))}


def make(session: Session, draft: Callable[..., Draft], *arguments: Any, **options: Any) -> int:
    """Run the recipe that ``draft`` makes of a verb's arguments and options, and show the module."""
    from adapterstilts.api.verbs import Where

    output = Output(session)
    command = shlex.join(["adapterstilts", *sys.argv[1:]])
    told = {**options, "store": session.store, "task_files": session.task_files, "command": command}
    where, entry = Where.split(told)
    name, plain = draft(where, *arguments, **entry)
    planned = where.planned(plain)
    store = planned.store
    before = store.names.get(name)
    made = carried_out(output, planned, where.jobs)
    if not made.ok:
        failures(output, made)
        return made.result.exit_code
    hash = planned.plan.names[name]
    if before not in (None, hash):
        output.say(f"warning: `{name}` stood for {str(before)[:12]}; that artifact stays until `store gc`")
    _show_module(output, made, name, hash)
    return 0


def _show_module(output: Output, made: Run, name: str, hash: str) -> None:
    store = made.planned.store
    manifest = store.manifest(hash)
    facts = manifest.get("facts", {})
    again = made.result.stages[hash].outcome == "hit"
    plain = {
        "schema_version": 1,
        "name": name,
        "hash": hash,
        "kind": manifest["kind"],
        "base": manifest["spec"]["base"]["ref"],
        "made": not again,
        "seconds": manifest.get("wall_seconds"),
        "path": str(store.path(hash)),
        **{
            key: facts[key]
            for key in ("dev", "loss", "steps", "converged", "parameters", "how", "error")
            if key in facts
        },
    }

    def show(console: Console) -> None:
        took = "was there already" if again else f"made in {duration(plain['seconds'])}"
        console.print(f"module `{name}` on {plain['base']}: {took}", soft_wrap=True)
        for key, label in (("dev", "dev scores"), ("parameters", "parameters"), ("loss", "loss"), ("error", "error")):
            if plain.get(key) not in (None, {}):
                console.print(f"  {label}: {words(plain[key])}", soft_wrap=True)
        if plain.get("converged") is False:
            console.print("  its loss was still falling: more epochs may help")
        console.print(f"  {hash[:12]}  adapterstilts show {name}", soft_wrap=True)

    output.emit(plain, show)


@verb(
    "train",
    examples=[
        "adapterstilts train mnli --method lora --name mnli",
        "adapterstilts train lab-nli lab-nli/qab --base lab/s0 --limit 500 --epochs 2 --name nli",
        "adapterstilts train indonli --data ../data --continue mnli --method '{name: lora, r: 16}'",
    ],
)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK[/LANGUAGE]...")
@click.option("--name", help="What the module is called.  [default: the tasks, joined by +]")
@click.option("--base", help="Base: lab/s0, a folder, a Hub name.  [default: xlm-roberta-large]")
@click.option("--continue", "continue_from", metavar="MODULE", help="Train on from a copy of this module.")
@training
@click.pass_obj
def train(session: Session, /, tasks: tuple[str, ...], **options: Any) -> int:
    """Train a module on one TASK, or on a mix of several, and give it a name.

    A target such as xquad is trained on its training task (squad).
    """
    from adapterstilts.api.verbs import draft_training

    return make(session, draft_training, list(tasks), settings=_settings(options), **options)


@verb(
    "stack",
    examples=[
        "adapterstilts stack mnli --train xquad --name mnli+xquad",
        "adapterstilts stack nli-en nli-id --train xcopa --limit 1000 --name both+xcopa",
        "adapterstilts stack '{language}' --slot en=mlm-en --train mnli --name mnli-madx",
    ],
)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.option(
    "--train", "tasks", multiple=True, required=True, metavar="TASK", help="What the fresh module learns; repeatable."
)
@click.option("--name", help="What the new module is called.  [default: modules and tasks, joined by +]")
@training
@click.pass_obj
def stack(session: Session, /, modules: tuple[str, ...], tasks: tuple[str, ...], **options: Any) -> int:
    """Train a fresh module over frozen MODULEs (bottom first). Before its first step it changes nothing."""
    from adapterstilts.api.verbs import draft_training, stacked

    return make(session, draft_training, list(tasks), on=stacked(modules), settings=_settings(options), **options)


@verb(
    "fuse",
    examples=[
        "adapterstilts fuse mnli squad --train xcopa --name fused",
        "adapterstilts fuse nli-bn qa-bn --how attention --method seq_bn --train lab-copa --name fused-bn",
    ],
)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.option("--train", "tasks", multiple=True, required=True, metavar="TASK", help="What is learned; repeatable.")
@click.option(
    "--how",
    type=click.Choice(["gate", "weights", "attention"]),
    default="gate",
    show_default=True,
    help="gate: a weight per token; weights: per layer; attention: AdapterFusion (bottlenecks).",
)
@name_required
@training
@click.pass_obj
def fuse(session: Session, /, modules: tuple[str, ...], tasks: tuple[str, ...], how: str, **options: Any) -> int:
    """Train a mixture of frozen MODULEs, and a fresh module over it."""
    from adapterstilts.api.verbs import draft_training, fused

    return make(session, draft_training, list(tasks), on=fused(modules, how), settings=_settings(options), **options)


@verb(
    "merge",
    examples=[
        "adapterstilts merge mnli squad --name both",
        "adapterstilts merge mnli squad --how ties --weights 1,-0.5 --parameters '{rank: 8}' --name both-ties",
        "adapterstilts merge mnli squad --how search --parameters '{task: mnli, examples: 32}' --name found",
    ],
)
@click.argument("modules", nargs=-1, required=True, metavar="MODULE...")
@click.option(
    "--how",
    help="cat (exact sum; default of deltas), average (default of bottlenecks), svd, linear, ties, dare_ties, ..., "
    "search (weights that suit a task's development examples).",
)
@click.option("--weights", help="One number for each module: 1,0.5")
@click.option("--parameters", type=PlainType(), help="Of --how, as YAML: {rank: 8, density: 0.5}")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random drops and of a search's examples.")
@data_option
@name_required
@click.pass_obj
def merge(session: Session, /, modules: tuple[str, ...], weights: str | None, data: str | None, **options: Any) -> int:
    """Make one module of several, without training; the error against the exact sum is stored with it."""
    from adapterstilts.api.verbs import draft_merge

    return make(session, draft_merge, list(modules), weights=_numbers(weights) if weights else None, **options)


def _numbers(text: str) -> list[float]:
    try:
        return [float(item) for item in text.replace(",", " ").split()]
    except ValueError:
        raise RecipeError(f"`{text}` is no list of numbers", where="--weights", fix="--weights 1,0.5") from None
