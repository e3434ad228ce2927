"""Stage prepare: the files of one task, language and split -> tokenised arrays, examples and their health."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterstilts.data.arrays import write_arrays
from adapterstilts.data.bitext import Side, load_bitext
from adapterstilts.data.health import Health
from adapterstilts.data.rows import read
from adapterstilts.data.sources import Resolved
from adapterstilts.data.tokenise import Tokenizer, batched
from adapterstilts.encoder.reference import locate
from adapterstilts.errors import DataError
from adapterstilts.stages.specs import PrepareSpec
from adapterstilts.tasks.formats import get_format
from adapterstilts.tasks.formats.base import EncodedExample, Example, Row

Progress = Callable[[float, str], None]


def run(
    spec: PrepareSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Write the prepared artifact; the data stream through, they are never held whole.

    Files: arrays, examples.jsonl, task.json, health.json. Bitext: arrays in source/ and target/, source.tsv,
    target.tsv (id<TAB>text) and, when known, gold.tsv.

    Raises:
        DataError: missing, empty or broken data, with file:line.
    """
    resolved = Resolved.from_plain(spec.source).require()
    if resolved.fingerprint() != spec.data:
        where = str(resolved.paths()[0]) if resolved.paths() else resolved.source.name
        raise DataError("the data changed since the plan was made", where=where, fix="run again")
    tokenizer = Tokenizer.from_directory(base_directory(spec.base.ref))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "task.json").write_text(resolved.task.model_dump_json(indent=1) + "\n", encoding="utf-8")
    health = _bitext(resolved, tokenizer, directory) if resolved.task.format == "bitext" else None
    health = health or _examples(resolved, tokenizer, directory, progress)
    facts = {
        **health,
        "task": resolved.task.name,
        "language": resolved.language,
        "split": resolved.split,
        "source": resolved.source.name,
        "stand_in": resolved.stand_in,
        "labelled": resolved.labelled,
        "notes": resolved.notes,
        "data": spec.data,
        "files": [str(path) for path in resolved.paths()],
        "mask_id": tokenizer.mask,
        "pad_id": tokenizer.pad,
    }
    (directory / "health.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    progress(1.0, f"{facts['n']} examples")
    return facts


def base_directory(ref: str) -> Path:
    """The local directory of a base; torch is imported only when one has to be fetched from the Hub."""
    reference = locate(ref)
    if reference.directory is not None:
        return reference.directory
    from adapterstilts.encoder.base import fetch

    return fetch(ref)


def _examples(resolved: Resolved, tokenizer: Tokenizer, directory: Path, progress: Progress) -> dict[str, Any]:
    health = Health(resolved.task)
    with (directory / "examples.jsonl").open("w", encoding="utf-8") as file:

        def write(example: Example) -> None:
            file.write(json.dumps(example, ensure_ascii=False) + "\n")

        encoded = _encoded(resolved, read(resolved), tokenizer, health, write, progress)
        counts = write_arrays(directory, encoded, get_format(resolved.task.format).fields)
    if counts.examples == 0:
        skipped = health.totals["skipped"]
        raise DataError(
            f"no examples for {resolved.task.name}/{resolved.language} {resolved.split}",
            where=str(resolved.paths()[0]) if resolved.paths() else resolved.source.name,
            why=f"all {skipped} were without usable label" if skipped else "the data set is empty",
        )
    return health.result()


def _encoded(
    resolved: Resolved,
    rows: Iterator[Row],
    tokenizer: Tokenizer,
    health: Health,
    write: Callable[[Example], None],
    progress: Progress,
) -> Iterator[EncodedExample]:
    """Parse and encode in batches. Training examples without usable label are left out and counted."""
    task = resolved.task
    form = get_format(task.format)
    for batch in batched(rows):
        examples = [form.parse(row, task) for row in batch]
        if resolved.split == "train":
            known = task.format == "masked_lm"  # its text is its label
            usable = [e for e in examples if form.usable(e) and (known or form.gold(e, task) is not None)]
            for _ in range(len(examples) - len(usable)):
                health.skip()
            examples = usable
        for example, encoded in zip(examples, form.encode(examples, tokenizer, task), strict=True):
            health.add(example, encoded)
            write(example)
            yield encoded
        # How many will come is not known before the end of the stream.
        progress(0.0, f"{health.totals['n']} examples")


def _bitext(resolved: Resolved, tokenizer: Tokenizer, directory: Path) -> dict[str, Any]:
    data = load_bitext(resolved)
    health = Health(resolved.task)
    sides: tuple[tuple[str, Side], ...] = (("source", data["source"]), ("target", data["target"]))
    for name, side in sides:
        _write_pairs(directory / f"{name}.tsv", side)
        write_arrays(directory / name, _sentences(resolved, side, tokenizer, health), {})
    if data["gold"] is not None:
        _write_pairs(directory / "gold.tsv", data["gold"])
    return {
        **health.result(),
        **{name: len(side) for name, side in sides},
        "gold": None if data["gold"] is None else len(data["gold"]),
    }


def _sentences(resolved: Resolved, side: Side, tokenizer: Tokenizer, health: Health) -> Iterator[EncodedExample]:
    form = get_format("bitext")
    for batch in batched(side):
        examples = [{"id": key, "text": text} for key, text in batch]
        for example, encoded in zip(examples, form.encode(examples, tokenizer, resolved.task), strict=True):
            health.add(example, encoded)
            yield encoded


def _write_pairs(path: Path, pairs: list[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for first, second in pairs:
            file.write(f"{first}\t{' '.join(second.splitlines())}\n")
