"""retrieve tune-layer: the layer and pooling to search with, from development data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.bitext import progress
from adapterstilts.cli.group import Session, Verb, verb
from adapterstilts.cli.output import Output, table
from adapterstilts.cli.verbs import data_option

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.api.tuning import Tuned

file_argument = click.Path(dir_okay=False, path_type=Path)


@verb(
    "tune-layer",
    examples=[
        "adapterstilts retrieve tune-layer bucc2018 --module mnli --data DATA",
        "adapterstilts retrieve tune-layer tatoeba --languages de,sw --base xlm-roberta-large --data DATA",
        "adapterstilts retrieve tune-layer --pairs known.de known.en --base xlm-roberta-large",
    ],
)
@click.argument("task", required=False)
@click.option("--pairs", nargs=2, type=file_argument, metavar="SOURCE TARGET", help="Your own, line by line aligned.")
@click.option("--languages", metavar="CODES", help="To tune on; a task without dev split needs them, held out.")
@click.option("--module", metavar="MODULE", help="A module by name, hash or folder.  [default: the bare base]")
@click.option("--base", help="Only where no module says it: lab/s0, a folder, a Hub name.")
@click.option(
    "--pooling", "poolings", type=click.Choice(["mean", "cls"]), multiple=True, help="Repeatable.  [default: both]"
)
@click.option("--limit", type=click.IntRange(1), help="Sentences of each side.")
@data_option
@click.pass_obj
def tune_layer(
    session: Session,
    /,
    task: str | None,
    pairs: tuple[Path, Path] | None,
    languages: str | None,
    poolings: Sequence[Any],
    **options: Any,
) -> None:
    """Score every layer and pooling on the dev split of TASK and record the best for `--layer tuned`.

    The test languages take no part. Published layers (10, 14 and 20 of 24, scaled) are marked with *.
    """
    from adapterstilts.api.tuning import POOLINGS, tune_layer

    output = Output(session)
    tuned = tune_layer(
        task,
        pairs=pairs or None,
        languages=languages.replace(",", " ").split() if languages else (),
        poolings=tuple(poolings) or POOLINGS,
        tasks=session.task_files,
        store=session.store,
        say=progress(output),
        **options,
    )
    plain: dict[str, Any] = {
        "layer": tuned.layer,
        "pooling": tuned.pooling,
        "value": tuned.value,
        "metric": tuned.metric,
    }
    plain |= {"data": tuned.data, "recorded": str(tuned.path), "grid": tuned.grid}
    output.emit(plain, lambda console: _show(console, tuned), [f"{tuned.layer} {tuned.pooling} {tuned.value:.2f}"])


def _show(console: Console, tuned: Tuned) -> None:
    columns = list(dict.fromkeys((row["pooling"], row["variant"]) for row in tuned.grid))
    lines: dict[int, dict[tuple[str, str], str]] = {}
    marked = {row["layer"] for row in tuned.grid if row["published"]}
    for row in tuned.grid:
        best = (row["layer"], row["pooling"], row["variant"]) == (tuned.layer, tuned.pooling, "raw")
        lines.setdefault(row["layer"], {})[row["pooling"], row["variant"]] = (
            f"{row['value']:.1f}{' <' if best else '  '}"
        )
    names = [f"{pooling}, {variant}" for pooling, variant in columns]
    body = [
        [f"{layer}{'*' if layer in marked else ' '}", *(cells.get(column) for column in columns)]
        for layer, cells in sorted(lines.items())
    ]
    used = tuned.data
    title = f"{used['task']} {used['split']}, {tuned.metric}, mean over {' '.join(used['languages'])}, in percent"
    table(console, ["layer", *names], body, title=title)
    console.print(f"layer {tuned.layer}, {tuned.pooling}: {tuned.value:.1f} (use it with --layer tuned)")


class Retrieve(Verb):
    """``retrieve TASK...``, with ``retrieve tune-layer`` beside it."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the verb that is meant."""
        if args and args[0] == tune_layer.name:
            return tune_layer.make_context(f"{info_name} {tune_layer.name}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)
