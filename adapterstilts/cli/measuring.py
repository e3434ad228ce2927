"""evaluate, retrieve: scores of modules as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.bitext import base_precision_option
from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import Output, table
from adapterstilts.cli.running import carried_out, failures, jobs_option
from adapterstilts.cli.tuning import Retrieve
from adapterstilts.cli.verbs import data_option, slots_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

languages_option = click.option("--languages", metavar="CODES", help="Comma-separated.  [default: all that are there]")
limit_option = click.option("--limit", type=click.IntRange(1), help="Examples of each language.")
base_option = click.option("--base", help="Only where no module says it: lab/s0, a folder, a Hub name.")


def _list(text: str | None) -> list[str] | None:
    return text.replace(",", " ").split() if text else None


def _measure(session: Session, draft: Callable[..., dict[str, Any]], *arguments: Any, **options: Any) -> int:
    """Run the recipe that ``draft`` makes of a verb's arguments and options, and show the scores."""
    from adapterstilts.api.verbs import Where

    output = Output(session)
    options["precision"] = options.pop("base_precision")
    where, entry = Where.split({**options, "store": session.store, "task_files": session.task_files})
    made = carried_out(output, where.planned(draft(where, *arguments, **entry)), where.jobs)
    failures(output, made)
    rows = made.rows
    output.emit(rows, lambda console: show_rows(console, rows), [bare_row(row) for row in rows])
    return made.result.exit_code


def bare_row(row: dict[str, Any]) -> str:
    """A score row as one line."""
    extra = "".join(f" {row[key]}" for key in ("layer", "variant") if row.get(key) is not None)
    return f"{row['arm']} {row['task']} {row['language']} {row['split']} {row['metric']} {row['value']:.2f}{extra}"


def show_rows(console: Console, rows: list[dict[str, Any]]) -> None:
    """Score rows as tables: one for each task and split, languages as columns, in percent."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["split"]), []).append(row)
    for (task, split), group in groups.items():
        languages = list(dict.fromkeys(row["language"] for row in group))
        extras = [key for key in ("variant", "layer") if any(row.get(key) is not None for row in group)]
        lines: dict[tuple[Any, ...], dict[str, float]] = {}
        for row in group:
            key = (row["arm"], row["metric"], *(row.get(extra) for extra in extras))
            lines.setdefault(key, {})[row["language"]] = row["value"]
        body = [
            [*key, *(f"{cells[code]:.1f}" if code in cells else None for code in languages), f"{_mean(cells):.1f}"]
            for key, cells in lines.items()
        ]
        marked = published_layers({row["layer"] for row in group if row.get("layer") is not None})
        counts = sorted({row["n"] for row in group if row.get("n") is not None})
        examples = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else "".join(map(str, counts))
        for line, key in zip(body, lines, strict=True):
            if "layer" in extras and key[-1] in marked:
                line[2 + extras.index("layer")] = f"{key[-1]}*"
        columns = ("module", "metric", *extras, *languages, "mean")
        title = f"{task}, {split}, in percent" + (f" ({examples} examples a language)" if counts else "")
        table(console, columns, body, title=title, right=" ".join((*languages, "layer", "mean")))
        if marked:
            console.print("* layers behind published figures, 10, 14 and 20 of 24, scaled to this depth")


def published_layers(shown: set[int]) -> set[int]:
    """Of a whole encoder's layers those behind published figures (10, 14, 20 of 24), scaled to its depth."""
    depth = max(shown, default=0)
    return {round(k * depth / 24) for k in (10, 14, 20)} if depth and shown == set(range(depth + 1)) else set()


def _mean(cells: dict[str, float]) -> float:
    return sum(cells.values()) / len(cells)


@verb(
    "evaluate",
    examples=[
        "adapterstilts evaluate mnli+xquad xquad",
        "adapterstilts evaluate nli lab-nli --languages en,qab --limit 100 --format json",
    ],
)
@click.argument("module")
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@languages_option
@click.option("--split", default="test", show_default=True)
@limit_option
@base_option
@slots_option
@data_option
@base_precision_option
@jobs_option
@click.pass_obj
def evaluate(session: Session, /, module: str, tasks: tuple[str, ...], languages: str | None, **options: Any) -> int:
    """Score MODULE on each TASK that it has a head for, in every language that is there.

    The module `base` is the bare base, for masked_lm tasks.
    """
    from adapterstilts.api.verbs import draft_evaluation

    return _measure(session, draft_evaluation, module, list(tasks), languages=_list(languages), **options)


@verb(
    "retrieve",
    cls=Retrieve,
    examples=[
        "adapterstilts retrieve lab-tatoeba --base lab/s0",
        "adapterstilts retrieve tatoeba bucc2018 --module mnli --module squad --layers 14",
        "adapterstilts retrieve lareqa --module squad --languages en,de --layers 14 --data DATA",
        "adapterstilts retrieve tune-layer bucc2018 --module mnli",
    ],
)
@click.argument("tasks", nargs=-1, required=True, metavar="TASK...")
@click.option("--module", "modules", multiple=True, metavar="MODULE", help="Beside the bare base; repeatable.")
@languages_option
@click.option("--layers", default="all", show_default=True, help="`all`, or numbers: 7,14 (0 is the embedding output).")
@click.option("--pooling", type=click.Choice(["mean", "cls"]), default="mean", show_default=True)
@click.option("--margin", type=click.Choice(["ratio", "distance", "absolute"]), default="ratio", show_default=True)
@click.option("--neighbours", type=click.IntRange(1), default=4, show_default=True, help="k of the margin.")
@limit_option
@base_option
@slots_option
@data_option
@base_precision_option
@jobs_option
@click.pass_obj
def retrieve(session: Session, /, tasks: tuple[str, ...], languages: str | None, layers: str, **options: Any) -> int:
    """Search with the bare base and with modules: translations by Tatoeba-type accuracy or BUCC-type mining F1, answers
    of XQuAD-R (lareqa) and entities of Mewsli-X by mAP@20.

    `retrieve tune-layer` chooses the layer on development data.
    """
    from adapterstilts.api.verbs import draft_retrieval

    chosen: Any = "all"
    if layers != "all":
        try:
            chosen = [int(item) for item in layers.replace(",", " ").split()]
        except ValueError:
            raise click.BadParameter(f"`{layers}` is neither `all` nor numbers", param_hint="--layers") from None
    return _measure(session, draft_retrieval, list(tasks), languages=_list(languages), layers=chosen, **options)
