"""mine, nearest, embed: for sentences of one's own, one a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import Output

EVERY = 5.0  # seconds between two lines of progress
base_option = click.option("--base", help="Only where no module says it: lab/s0, a folder, a Hub name.")
base_precision_option = click.option(
    "--base-precision",
    type=click.Choice(["fp32", "bf16", "int8", "nf4", "int8-dynamic"]),
    help="Of the frozen base.  [default: that in which the module was trained]",
)
file_argument = click.Path(dir_okay=False, path_type=Path)
centre_option = click.option("--centre", is_flag=True, help="Subtract from each vector the mean of its file.")


def _layer(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == "tuned":
        return value
    if not value.isdigit():
        raise click.BadParameter(f"`{value}` is neither a number nor `tuned`", context, parameter)
    return int(value)


def encoder_options(kind: str) -> Callable[[Any], Any]:
    """What says how sentences become vectors; the names are those of `api.encoding.Encoding`."""
    options = [
        click.option("--module", metavar="MODULE", help="A module by name, hash or folder.  [default: the bare base]"),
        base_option,
        click.option(
            "--layer",
            callback=_layer,
            metavar="N|tuned",
            help="0 is the embedding output.  [default: 14 of 24, scaled]",
        ),
        click.option("--pooling", type=click.Choice(["mean", "cls"]), help="[default: mean, or as tuned]"),
        click.option(
            "--type", "kind", type=click.Choice(["fp16", "fp32"]), default=kind, show_default=True, help="As stored."
        ),
        click.option("--max-length", type=click.IntRange(3), default=512, show_default=True, help="In subwords."),
        base_precision_option,
        click.option("--max-memory", default="4GB", show_default=True, help="Of the process; refused if impossible."),
    ]

    def added(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return added


@verb(
    "mine",
    examples=[
        "adapterstilts mine de.txt en.txt --base xlm-roberta-large --out pairs.tsv",
        "adapterstilts mine de.txt en.txt --module mnli --layer tuned --gold known.tsv --precision 95 > pairs.tsv",
    ],
)
@click.argument("source", type=file_argument)
@click.argument("target", type=file_argument)
@click.option("--out", default="-", type=file_argument, help="score TAB source TAB target.  [default: stdout]")
@click.option("--threshold", type=float, help="Pairs that score at least this.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="At most N pairs, the best.")
@click.option("--gold", type=file_argument, help="Known pairs, source TAB target: they give the threshold.")
@click.option(
    "--precision", type=click.FloatRange(0, 100), help="In percent, on --gold.  [default: the threshold of the best F1]"
)
@click.option("--margin", type=click.Choice(["ratio", "distance", "absolute"]), default="ratio", show_default=True)
@click.option("--neighbours", type=click.IntRange(1), default=4, show_default=True, help="k of the margin.")
@click.option(
    "--retrieval",
    type=click.Choice(["max", "forward", "backward", "intersection"]),
    default="max",
    show_default=True,
    help="max: each sentence once, best pairs first.",
)
@click.option(
    "--duplicates",
    type=click.Choice(["expand", "drop"]),
    default="expand",
    show_default=True,
    help="Equal lines: one pair for all, or lost as in LASER.",
)
@click.option(
    "--how",
    type=click.Choice(["auto", "faiss", "one_pass", "bf16", "gpu"]),
    default="auto",
    show_default=True,
    help="Of searching; all exact, auto takes the fastest.",
)
@click.option("--index", metavar="FACTORY", help='Approximate: a FAISS factory string, "IVF256,Flat;nprobe=16".')
@centre_option
@click.option("--numbers", is_flag=True, help="Line numbers (from 1) instead of sentences.")
@encoder_options("fp16")
@click.pass_obj
def mine(session: Session, /, source: Path, target: Path, out: Path, numbers: bool, **options: Any) -> None:
    """Find the pairs of lines of SOURCE and TARGET that translate each other, best first."""
    from adapterstilts.api.retrieval import mine

    output = Output(session)
    made = mine(source, target, store=session.store, say=progress(output), **options)

    def lines() -> Iterator[str]:
        for pair in made.pairs:
            if not numbers:
                yield f"{pair.score:.6f}\t{_cell(pair.source)}\t{_cell(pair.target)}"
                continue
            for i in pair.source_lines:
                yield from (f"{pair.score:.6f}\t{i}\t{j}" for j in pair.target_lines)

    _write(output, out, lines(), made.facts)


@verb(
    "nearest",
    examples=[
        "adapterstilts nearest corpus.txt --queries questions.txt -k 5 --out near.tsv",
        "tail -f questions.txt | adapterstilts nearest corpus.txt --queries - --batch 1",
    ],
)
@click.argument("corpus", type=file_argument)
@click.option("--queries", required=True, type=file_argument, help="`-` reads them from stdin as they come.")
@click.option("-k", "k", type=click.IntRange(1), default=1, show_default=True, help="Neighbours of each query.")
@click.option("--out", default="-", type=file_argument, help="cosine TAB query TAB neighbour.  [default: stdout]")
@click.option("--index", metavar="FACTORY", help='Approximate: a FAISS factory string, "IVF256,Flat;nprobe=16".')
@centre_option
@click.option("--batch", type=click.IntRange(1), default=256, show_default=True, help="Of stdin, searched together.")
@encoder_options("fp16")
@click.pass_obj
def nearest(
    session: Session,
    /,
    corpus: Path,
    queries: Path,
    k: int,
    out: Path,
    index: str | None,
    centre: bool,
    batch: int,
    **options: Any,
) -> None:
    """Find the lines of CORPUS nearest to each query, nearest first."""
    output = Output(session)
    options |= {"store": session.store, "say": progress(output)}
    if str(queries) == "-":
        if index is not None:
            raise click.UsageError("--index needs the queries as a file: its recall is measured on a sample of them")
        if centre:
            raise click.UsageError("--centre needs the queries as a file: their mean is taken over all of them")
        from adapterstilts.api.retrieval import nearest_stream

        found = nearest_stream(corpus, sys.stdin, k=k, batch=batch, **options)
        lines = (f"{s:.6f}\t{_cell(query)}\t{_cell(text)}" for query, hits in found for s, text in hits)
        _write(output, out, lines, None)
        return
    from adapterstilts.api.retrieval import nearest
    from adapterstilts.api.texts import read_texts

    hits = nearest(corpus, queries, k=k, index=index, centre=centre, **options)
    texts, asked = read_texts(corpus)[0], read_texts(queries)[0]
    lines = (
        f"{s:.6f}\t{_cell(query)}\t{_cell(texts[j])}"
        for query, near, places in zip(asked, hits.similarities.tolist(), hits.indices.tolist(), strict=True)
        for s, j in zip(near, places, strict=True)
    )
    _write(output, out, lines, {**hits.facts, "queries": len(asked), "corpus": len(texts)})


@verb(
    "embed",
    examples=[
        "adapterstilts embed sentences.txt --base xlm-roberta-large --layer 14 --out sentences.npy",
        "cat sentences.txt | adapterstilts embed - --module mnli --out sentences.npy",
        "adapterstilts embed sentences.txt --module mnli --also squad --also base --out sentences.parquet",
    ],
)
@click.argument("file", type=file_argument)
@click.option(
    "--out",
    required=True,
    type=file_argument,
    help="*.npy: the array, [lines, d]. *.parquet: the sentences too, in columns `sentence` and `embedding`.",
)
@click.option(
    "--also",
    multiple=True,
    metavar="MODULE",
    help="Embed with this one in the same pass, kept in the store for later searches; repeatable. "
    "Layers that compute the same run once.",
)
@encoder_options("fp32")
@click.pass_obj
def embed(session: Session, /, file: Path, out: Path, **options: Any) -> None:
    """Write one vector a line of FILE (`-` is stdin). A killed run goes on where it stopped."""
    from adapterstilts.api.retrieval import embed
    from adapterstilts.api.texts import read_texts
    from adapterstilts.api.vectors import check_vectors_file, save_vectors

    output = Output(session)
    check_vectors_file(out)
    given: Any = sys.stdin.read().removesuffix("\n").split("\n") if str(file) == "-" else file
    texts, _ = read_texts(given)
    vectors = embed(texts, store=session.store, say=progress(output), **options)
    save_vectors(out, texts, vectors)
    facts = {"out": str(out), "sentences": vectors.shape[0], "dimensions": vectors.shape[1]}
    output.emit(facts, lambda console: console.print(_told(facts), soft_wrap=True), [str(out)])


def progress(output: Output) -> Callable[[str, float], None]:
    """Says on stderr how far an embedding is, every few seconds."""
    last: dict[str, float] = {}

    def say(name: str, fraction: float) -> None:
        if fraction >= 1 or time.monotonic() - last.get(name, -EVERY) >= EVERY:
            last[name] = time.monotonic()
            output.say(f"embedding {name}: {fraction:.0%}")

    return say


def _write(output: Output, out: Path, lines: Iterable[str], facts: dict[str, Any] | None) -> None:
    """Lines to stdout, or to a file that is there whole or not at all; then what is to be said of them."""
    with _stream(out) as stream:
        for line in lines:
            stream.write(line + "\n")
            if stream is sys.stdout and facts is None:
                stream.flush()  # queries come one by one, and so do answers
    if str(out) == "-":
        if facts is not None:
            output.say(_told(facts))
    elif facts is not None:
        plain = {"out": str(out), **facts}
        output.emit(plain, lambda console: console.print(_told(plain), soft_wrap=True), [str(out)])


@contextmanager
def _stream(out: Path) -> Iterator[TextIO]:
    if str(out) == "-":
        yield sys.stdout
        return
    from adapterstilts.api.texts import whole_file

    with whole_file(out) as path, path.open("w", encoding="utf-8") as stream:
        yield stream


def _told(facts: dict[str, Any]) -> str:
    from adapterstilts.cli.output import words

    return ", ".join(f"{name} {words(value)}" for name, value in facts.items() if value is not None)


def _cell(text: str) -> str:
    return text.replace("\t", " ")
