"""Tokenised examples on disk: flat arrays, written as a stream, read memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import StoreError
from adapterstilts.tasks.formats.base import EncodedExample, ExampleView, FieldType, Level

INDEX = "arrays.json"
CHUNK = 2000  # examples turned into arrays at a time


@dataclass(frozen=True)
class Arrays:
    """E examples of R rows of T tokens.

    Attributes:
        ids: (T,) token ids, special tokens included.
        rows: (R + 1,) row i is ids[rows[i]:rows[i + 1]].
        examples: (E + 1,) example e owns rows examples[e] .. examples[e + 1].
        fields: name -> (level, values): (E,), (R,) or (T,); hidden states (T, d) are for the encoder alone.
    """

    ids: NDArray[np.int32]
    rows: NDArray[np.int64]
    examples: NDArray[np.int64]
    fields: Mapping[str, tuple[Level | Literal["state"], NDArray[Any]]]

    def __len__(self) -> int:
        return len(self.examples) - 1

    def lengths(self) -> NDArray[np.int64]:
        """(R,) tokens per row."""
        return np.diff(self.rows)

    def view(self, example: int) -> ExampleView:
        """The rows and fields of one example, as formats decode them."""
        first, last = int(self.examples[example]), int(self.examples[example + 1])
        spans = [(int(self.rows[r]), int(self.rows[r + 1])) for r in range(first, last)]
        fields: dict[str, Any] = {}
        for name, (level, values) in self.fields.items():
            if level == "example":
                fields[name] = values[example]
            elif level == "row":
                fields[name] = values[first:last]
            elif level == "token":
                fields[name] = [values[begin:end] for begin, end in spans]
        return ExampleView([self.ids[begin:end] for begin, end in spans], fields)


@dataclass(frozen=True)
class Counts:
    """How much was written."""

    examples: int
    rows: int
    tokens: int


def write_arrays(directory: Path, examples: Iterable[EncodedExample], fields: Mapping[str, FieldType]) -> Counts:
    """Write examples as they come; no more than ``CHUNK`` of them are held.

    Raises:
        ValueError: a token field whose length is not that of its row.
    """
    directory.mkdir(parents=True, exist_ok=True)
    counts = {"examples": 0, "rows": 0, "tokens": 0}
    with ExitStack() as stack:
        files = {
            name: stack.enter_context((directory / f"{name}.bin").open("wb"))
            for name in ("ids", "rows", "examples", *fields)
        }
        for name in ("rows", "examples"):
            np.zeros(1, dtype=np.int64).tofile(files[name])
        for chunk in _chunks(examples):
            rows = [row for example in chunk for row in example.rows]
            lengths = np.array([len(row.ids) for row in rows], dtype=np.int64)
            np.concatenate([np.asarray(row.ids, dtype=np.int32) for row in rows]).tofile(files["ids"])
            (counts["tokens"] + np.cumsum(lengths)).tofile(files["rows"])
            per_example = np.cumsum([len(example.rows) for example in chunk], dtype=np.int64)
            (counts["rows"] + per_example).tofile(files["examples"])
            for name, kind in fields.items():
                values = _values(chunk, name, kind)
                expected = {"example": len(chunk), "row": len(rows), "token": int(lengths.sum())}[kind.level]
                if len(values) != expected:
                    raise ValueError(f"field {name}: {len(values)} values for {expected} {kind.level}s")
                values.tofile(files[name])
            counts["examples"] += len(chunk)
            counts["rows"] += len(rows)
            counts["tokens"] += int(lengths.sum())
    index = {"counts": counts, "fields": {name: asdict(kind) for name, kind in fields.items()}}
    (directory / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return Counts(**counts)


def arrays_of(examples: list[EncodedExample], fields: Mapping[str, FieldType]) -> Arrays:
    """A few encoded examples as arrays in memory, as ``write_arrays`` and ``read_arrays`` would give them."""
    rows = [row for example in examples for row in example.rows]
    return Arrays(
        np.concatenate([np.asarray(row.ids, dtype=np.int32) for row in rows]),
        np.cumsum([0, *(len(row.ids) for row in rows)], dtype=np.int64),
        np.cumsum([0, *(len(example.rows) for example in examples)], dtype=np.int64),
        {name: (kind.level, _values(examples, name, kind)) for name, kind in fields.items()},
    )


def read_arrays(directory: Path) -> Arrays:
    """Memory-map what ``write_arrays`` wrote.

    Raises:
        StoreError: no arrays here, or a file of another length than the index says.
    """
    path = directory / INDEX
    if not path.is_file():
        raise StoreError("no tokenised arrays", where=str(directory), fix="run the prepare stage again")
    index = json.loads(path.read_text(encoding="utf-8"))
    counts = Counts(**index["counts"])
    sizes = {"example": counts.examples, "row": counts.rows, "token": counts.tokens}
    return Arrays(
        ids=_mapped(directory / "ids.bin", "int32", counts.tokens),
        rows=_mapped(directory / "rows.bin", "int64", counts.rows + 1),
        examples=_mapped(directory / "examples.bin", "int64", counts.examples + 1),
        fields={
            name: (kind["level"], _mapped(directory / f"{name}.bin", kind["dtype"], sizes[kind["level"]]))
            for name, kind in index["fields"].items()
        },
    )


def _chunks(examples: Iterable[EncodedExample]) -> Iterable[list[EncodedExample]]:
    chunk: list[EncodedExample] = []
    for example in examples:
        chunk.append(example)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _values(chunk: list[EncodedExample], name: str, kind: FieldType) -> NDArray[Any]:
    if kind.level == "example":
        return np.array([example.fields[name] for example in chunk], dtype=kind.dtype)
    rows = [row.fields[name] for example in chunk for row in example.rows]
    if kind.level == "row":
        return np.array(rows, dtype=kind.dtype)
    return np.concatenate([np.asarray(row, dtype=kind.dtype) for row in rows])


def _mapped(path: Path, dtype: str, length: int) -> NDArray[Any]:
    size = path.stat().st_size if path.is_file() else -1
    if size != length * np.dtype(dtype).itemsize:
        raise StoreError(
            "a tokenised array is truncated or missing",
            where=str(path),
            why=f"{size} bytes, {length} x {dtype} expected",
            fix="remove the artifact and run the prepare stage again",
        )
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=dtype, mode="r") if length else np.empty(0, dtype=dtype)
