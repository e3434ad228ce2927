"""predict: a module's answers to examples of one's own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from adapterstilts.cli.bitext import base_precision_option
from adapterstilts.cli.group import Session, verb
from adapterstilts.cli.output import Output
from adapterstilts.cli.verbs import slots_option
from adapterstilts.errors import DataError
from adapterstilts.settings import Precision

EVERY = 5.0  # seconds between two lines of progress


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if str(path) == "-":
        yield sys.stdin
        return
    if not path.is_file():
        raise DataError(f"no file `{path}`", why="examples are read from it, one JSON object a line", fix="--input -")
    with path.open(encoding="utf-8") as stream:
        yield stream


@verb(
    "predict",
    examples=[
        "adapterstilts predict mnli+xnli xnli --input pairs.jsonl > answers.jsonl",
        'echo \'{"words": ["a", "b"]}\' | adapterstilts predict pos udpos',
        "adapterstilts predict nli lab-nli --input mixed.jsonl --module-per-row",
        "adapterstilts predict nli-madx xnli --slot sw=mlm-sw --slot tr=mlm-tr --input pairs.jsonl",
    ],
)
@click.argument("module")
@click.argument("task")
@click.option(
    "--input",
    "path",
    default="-",
    show_default=True,
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="JSONL, or - for stdin.",
)
@click.option("--module-per-row", is_flag=True, help="A row may name its own `module`; MODULE answers the others.")
@slots_option
@click.option("--chunk", type=click.IntRange(1), default=256, show_default=True, help="Rows read before answers come.")
@base_precision_option
@click.pass_obj
def predict(
    session: Session,
    module: str,
    task: str,
    path: Path,
    module_per_row: bool,
    slots: dict[str, str],
    chunk: int,
    base_precision: Precision | None,
) -> int:
    """Answer each row of JSONL with MODULE's head for TASK, as it comes: one JSON object a line, in the same order.

    \b
    classification    {"text_a": "...", "text_b": "..."}   text_b may be left out
    multiple_choice   {"prompt": "...", "choices": ["...", "..."]}
    tagging           {"words": ["...", "..."]}
    span              {"question": "...", "context": "..."}

    An `id` is passed on; labels are not looked at. With --slot, the `language` of a row chooses what stands in
    {language} of MODULE.
    """
    from adapterstilts.api.predicting import input_name, predict, read_rows

    output = Output(session)
    began = last = time.monotonic()
    count = 0
    with _opened(path) as stream:
        answers = predict(
            module,
            task,
            read_rows(stream, input_name(path)),
            module_per_row=module_per_row,
            slots=slots,
            chunk=chunk,
            precision=base_precision,
            store=session.store,
            task_files=session.task_files,
        )
        for answer in answers:
            click.echo(json.dumps(answer, ensure_ascii=False))
            count += 1
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                output.say(f"{count} answered, {count / (last - began):.0f} a second")
    output.say(f"{count} answered in {time.monotonic() - began:.1f} s")
    return 0
