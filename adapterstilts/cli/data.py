"""data: check, measure, compare, fetch and pack data sets."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Group, Session, verb
from adapterstilts.cli.output import Output, size, table
from adapterstilts.cli.verbs import data_option

if TYPE_CHECKING:
    from rich.console import Console

    from adapterstilts.data.fetch import Fetched

names = click.argument("names", nargs=-1, required=True, metavar="TASK|SUITE...")
languages_option = click.option("--languages", metavar="CODES", help="Comma-separated; default all.")
SHOWN = 12  # findings, leaks, missing splits that people see; programs get all


@click.group("data", cls=Group)
def data() -> None:
    """Data sets: are they whole, what does a tokenizer make of them, do they leak, fetch and pack them."""


def _codes(text: str | None) -> tuple[str, ...]:
    return tuple((text or "").replace(",", " ").split())


def _told(output: Output, entry: dict[str, Any]) -> dict[str, Any]:
    """Say that a split is done, where somebody waits."""
    if sys.stderr.isatty():
        output.say(f"  {entry['name']}")
    return entry


@verb(
    "check",
    short_help="are data sets whole: counts, labels, types, encoding, ids",
    examples=[
        "adapterstilts data check xnli --data ../data",
        "adapterstilts data check xtreme --data ../data --languages de,sw",
        "adapterstilts data check my-task --tasks my-task.yaml --data mine --format json",
    ],
)
@names
@data_option
@languages_option
@click.pass_obj
def check(session: Session, names: tuple[str, ...], data: str | None, languages: str | None) -> int:
    """Read every split through: counts against the published sizes, labels, types of columns, encoding, empty texts,
    repeated ids and examples. A report for each language; leaves with 3 when something is broken or nothing is there.
    """
    from adapterstilts.api.data import check as checked

    output = Output(session)
    found = [
        _told(output, entry)
        for entry in checked(names, data=data, task_files=session.task_files, languages=_codes(languages))
    ]
    output.emit(found, lambda console: _show_checks(console, found))
    present = [entry for entry in found if not entry["missing"]]
    return 0 if present and not any(entry["errors"] for entry in present) else 3


def _show_checks(console: Console, found: list[dict[str, Any]]) -> None:
    from rich.text import Text

    present = [entry for entry in found if not entry["missing"]]
    rows = []
    for entry in present:
        worst = "broken" if entry["errors"] else "look" if entry["warnings"] else "ok"
        style = {"ok": "green", "look": "yellow", "broken": "bold red"}[worst]
        codes = ", ".join(f"{f['code']} {f['count']}" if f["count"] > 1 else f["code"] for f in entry["findings"])
        place = (entry["task"], entry["language"], entry["split"], entry["source"])
        rows.append((Text(worst, style=style), *place, entry["count"], entry["published"], codes))
    if rows:
        columns = ("", "task", "language", "split", "source", "examples", "published", "findings")
        table(console, columns, rows, right="examples published")
    told = [(e, f) for e in present for f in e["findings"] if f["level"] != "info"]
    for entry, finding in told[:SHOWN]:
        where = f" (first at {finding['where']})" if finding["where"] else ""
        message = str(finding["message"]).replace("\n", " ")
        console.print(f"{finding['level']}: {entry['name']}: {message}{where}", soft_wrap=True)
    if len(told) > SHOWN:
        console.print(f"and {len(told) - SHOWN} more findings (--format json has all)")
    gone = Counter(f"{e['task']} {e['split']}" for e in found if e["missing"])
    if gone:
        some = ", ".join(f"{name} ({count})" for name, count in list(gone.items())[:SHOWN])
        console.print(f"no data in {sum(gone.values())} of {len(found)} splits: {some}", soft_wrap=True)


@verb(
    "stats",
    short_help="what a tokenizer makes of each language",
    examples=[
        "adapterstilts data stats xquad --base xlm-roberta-large --data ../data",
        "adapterstilts data stats udpos/th tatoeba --base ../base --data ../data --limit 500",
    ],
)
@names
@data_option
@languages_option
@click.option(
    "--base", default="xlm-roberta-large", show_default=True, help="Whose tokenizer: lab/s0, a folder, a Hub name."
)
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Examples of each split.")
@click.pass_obj
def stats(
    session: Session, names: tuple[str, ...], data: str | None, languages: str | None, base: str, limit: int
) -> int:
    """Lengths in subwords, unknown pieces, pieces per word and truncation of every language that is there."""
    from adapterstilts.api.data import stats as measured

    output = Output(session)
    codes = _codes(languages)
    found = [
        _told(output, entry)
        for entry in measured(names, base=base, data=data, task_files=session.task_files, languages=codes, limit=limit)
    ]
    if not found:
        output.say("nothing of this is there")

    def show(console: Console) -> None:
        rows = [
            (
                *(entry[key] for key in ("task", "language", "split", "n")),
                *(f"{entry['lengths'][key]:.0f}" for key in ("mean", "p95", "longest")),
                f"{entry['unknown_rate']:.2%}",
                f"{entry['pieces_per_word']:.2f}",
                f"{entry['pieces_per_character']:.2f}",
                f"{entry['truncated_share']:.1%}",
                f"{entry['split_share']:.1%}",
            )
            for entry in found
        ]
        numbers = ("n", "mean", "p95", "longest", "unknown", "per word", "per character", "cut", "in rows")
        right = ("n", "mean", "p95", "longest", "unknown", "cut")
        title = f"subwords of {base}, first {limit} examples"
        table(console, ("task", "language", "split", *numbers), rows, title=title, right=" ".join(right))

    output.emit(found, show)
    return 0 if found else 3


@verb(
    "leaks",
    short_help="test text in training text",
    examples=[
        "adapterstilts data leaks recipes/real-files.yaml",
        "adapterstilts data leaks squad xquad mlqa --data ../data",
        "adapterstilts data leaks phang2020-intermediate xtreme --data ../data --format json",
    ],
)
@click.argument("names", nargs=-1, required=True, metavar="RECIPE | TASK|SUITE...")
@data_option
@languages_option
@click.pass_obj
def leaks(session: Session, names: tuple[str, ...], data: str | None, languages: str | None) -> int:
    """Dev and test examples that occur in a train set of the RECIPE or of the TASKs, after normalising (NFKC, case,
    letters and digits only). Leaves with 1 when whole examples do. What was compared is remembered in the store.
    """
    from adapterstilts.api.data import leaks as compared

    output = Output(session)
    found = compared(names, data=data, task_files=session.task_files, store=session.store, languages=_codes(languages))

    def show(console: Console) -> None:
        rows = [
            (e["train"], e["test"], e["n"], e["examples"], e["texts"], f"{e['share']:.1%}")
            for e in sorted(found, key=lambda e: (-e["examples"], -e["texts"]))
        ]
        if rows:
            columns = ("train", "dev or test", "n", "whole", "a text", "share")
            table(console, columns, rows, right="n whole share")
        for entry in found[: SHOWN if session.verbose else 3]:
            console.print(f"{entry['name']}: {entry['samples'][0]}", style="dim", soft_wrap=True)
        if not rows:
            console.print("no overlap")

    output.emit(found, show)
    return 1 if any(entry["examples"] for entry in found) else 0


@verb(
    "fetch",
    short_help="from the Hub into a folder; goes on where it stopped",
    examples=[
        "adapterstilts data fetch xtreme --out data",
        "adapterstilts data fetch mnli xnli --languages en,de,sw --out data",
        "adapterstilts data fetch xquad --out data --mirror /mnt/hub-clones",
    ],
)
@names
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Use it as --data.")
@languages_option
@click.option(
    "--mirror",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Cloned Hub repositories, NAMESPACE/NAME, instead of the network.",
)
@click.option("--revision", help="Branch, tag or commit.  [default: as in the tasks, then as recorded in OUT]")
@click.pass_obj
def fetch(
    session: Session,
    /,
    names: tuple[str, ...],
    out: Path,
    languages: str | None,
    mirror: Path | None,
    revision: str | None,
) -> int:
    """Fetch data sets from the Hub; what is there is kept, what was interrupted goes on. Their SHA-256 and commits are
    written into OUT/hub/manifest.json.
    """
    from adapterstilts.api.data import fetch as fetched

    output = Output(session)

    def watch(one: Fetched) -> None:
        told = one.error if one.error else f"{one.rows} rows, {size(one.bytes)}"
        output.say(f"{one.state}: {one.split.name}: {told}" + (f"; {one.note}" if one.note else ""))

    codes = _codes(languages)
    made = fetched(
        names, out, task_files=session.task_files, languages=codes, mirror=mirror, revision=revision, watch=watch
    )
    counts = Counter(entry["state"] for entry in made["files"])

    def show(console: Console) -> None:
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        console.print(f"{told}; use it with --data {made['folder']}", soft_wrap=True)
        if made["without"]:
            some = ", ".join(made["without"][:SHOWN])
            console.print(f"no Hub repository is known for {len(made['without'])} splits: {some}", soft_wrap=True)

    output.emit(made, show, [entry["name"] for entry in made["files"]])
    return 3 if counts["failed"] else 0


@verb(
    "pack",
    short_help="one file that runs a recipe without a network",
    examples=[
        "adapterstilts data pack recipes/real-files.yaml --out real-files.tar",
        "adapterstilts data pack my.yaml --set data=../data --out my.tar.gz",
    ],
)
@click.argument("recipe")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="FILE.tar or FILE.tar.gz")
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Override a field of the recipe; repeatable.")
@click.pass_obj
def pack(session: Session, recipe: str, out: Path, sets: tuple[str, ...]) -> int:
    """Write the data, bases, tokenizers and task files of RECIPE and the recipe itself into one checked file."""
    from adapterstilts.api.packing import pack_recipe

    made = pack_recipe(recipe, out, sets, store=session.store, task_files=session.task_files)
    text = f"{made['path']}: {made['files']} files, {size(made['bytes'])}"
    Output(session).emit(made, lambda console: console.print(text, soft_wrap=True), [made["path"]])
    return 0


@verb(
    "unpack",
    short_help="what pack wrote, checked",
    examples=[
        "adapterstilts data unpack real-files.tar --out there",
        "adapterstilts data unpack my.tar.gz --out there --format json",
    ],
)
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="A new folder.")
@click.pass_obj
def unpack(session: Session, archive: Path, out: Path) -> int:
    """Unpack what `data pack` wrote; every checksum is compared, and anything that leaves the folder is refused."""
    from adapterstilts.api.packing import unpack_recipe

    made = unpack_recipe(archive, out)
    text = f"{made['files']} files, all as packed. To run it:\n  {made['command']}"
    Output(session).emit(made, lambda console: console.print(text, soft_wrap=True), [made["recipe"]])
    return 0


for command in (check, stats, leaks, fetch, pack, unpack):
    data.add_command(command)
