"""What every format gives and gets: raw rows in, canonical examples, encoded rows, predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import DataError
from adapterstilts.tasks.spec import TaskSpec

Level = Literal["example", "row", "token"]
Example = dict[str, Any]
IGNORE = -100  # label of a token that is not scored
UNKNOWN = -1  # label of an example whose label is blanked


@dataclass(frozen=True)
class Row:
    """One raw example with our field names, and where it was read (file:line)."""

    values: Mapping[str, Any]
    where: str


@dataclass(frozen=True)
class FieldType:
    """A field of tokenised arrays: one value per example, per row or per token."""

    level: Level
    dtype: str = "int64"


@dataclass
class EncodedRow:
    """One sequence for the encoder with its row and token fields."""

    ids: list[int]
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class EncodedExample:
    """The rows of one example. ``pieces`` and ``unknown`` count each text once, before truncation and windows."""

    rows: list[EncodedRow]
    fields: dict[str, int] = field(default_factory=dict)
    pieces: int = 0
    unknown: int = 0
    truncated: bool = False


@dataclass(frozen=True)
class ExampleView:
    """One example of the arrays: ids per row; fields: example -> int, row -> (R,), token -> list of (len,)."""

    ids: list[NDArray[np.int32]]
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Pieces:
    """The subwords of one text, no special tokens; offsets are characters of the text, trimmed of spaces."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Tokenizer(Protocol):
    """What formats need of a tokenizer (data/tokenise.py has it)."""

    @property
    def bos(self) -> int: ...

    @property
    def eos(self) -> int: ...

    @property
    def unk(self) -> int: ...

    def ids(self, texts: Sequence[str]) -> list[list[int]]: ...

    def words(self, words: Sequence[str]) -> list[list[int]]: ...

    def pieces(self, texts: Sequence[str]) -> list[Pieces]: ...


class Format(Protocol):
    """The shape of a task: text to features, and what its texts are."""

    name: ClassVar[str]
    fields: ClassVar[Mapping[str, FieldType]]

    def parse(self, row: Row, task: TaskSpec) -> Example:
        """A raw row as canonical example. Raises DataError with file:line."""
        ...

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, task: TaskSpec) -> list[EncodedExample]:
        """Canonical examples as rows for the encoder, none longer than the task's max_length."""
        ...

    def texts(self, example: Example) -> list[str]:
        """The texts of an example, for checks of leaks, empty fields and token health."""
        ...

    def usable(self, example: Example) -> bool:
        """Whether the example can be trained on (its label is known)."""
        ...

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], view: ExampleView, example: Example, task: TaskSpec
    ) -> Any:
        """Head outputs of the example's rows -> a JSON-able prediction."""
        ...

    def gold(self, example: Example, task: TaskSpec) -> Any:
        """What a prediction is compared with; None when labels are blanked."""
        ...


def text_of(row: Row, name: str, *, empty: bool = True) -> str:
    """A text field of a row. Raises DataError when it is missing, no text or (unless allowed) empty."""
    value = row.values.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        found = "is missing" if name not in row.values or value is None else f"is {type(value).__name__}, not text"
        raise DataError(f"field `{name}` {found}", where=row.where, why=f"the row has {', '.join(row.values)}")
    if not empty and not value.strip():
        raise DataError(f"field `{name}` is empty", where=row.where)
    return value


def label_of(row: Row, labels: Sequence[str]) -> str | None:
    """The label of a row, checked against the task's set; None when it is blanked."""
    label = row.values.get("label")
    if label is None:
        return None
    if str(label) not in labels:
        raise unknown_label(str(label), labels, row.where)
    return str(label)


def unknown_label(label: str, labels: Sequence[str], where: str) -> DataError:
    """The error of a label outside the task's set."""
    if not labels:
        return DataError(
            "the task has no labels yet",
            where=where,
            why=f"the file has `{label}`",
            fix="give them, one a line: `tasks: {NAME: {labels: {file: labels.txt}}}`",
        )
    known = ", ".join(labels[:20]) + (" ..." if len(labels) > 20 else "")
    return DataError(
        f"label `{label}` is none of the task's {len(labels)}",
        where=where,
        why=f"the task has {known}",
        fix="map it with `label_map:` or leave it out with `drop:` in the task's source",
    )


def pair_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """Lengths of two sequences cut to ``room`` together, longest first (`longest_first` of tokenizers)."""
    if first + second <= room:
        return first, second
    short, long = sorted((first, second))
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (short, long) if first <= second else (long, short)


def joined(tokenizer: Tokenizer, first: list[int], second: list[int] | None) -> list[int]:
    """``<s> A </s>`` or ``<s> A </s></s> B </s>`` (XLM-R puts two separators between segments)."""
    ids = [tokenizer.bos, *first, tokenizer.eos]
    return ids if second is None else [*ids, tokenizer.eos, *second, tokenizer.eos]


def special_tokens(paired: bool) -> int:
    """How many special tokens a row layout has."""
    return 4 if paired else 2


def pair_rows(
    texts: Sequence[tuple[str, str | None]], tokenizer: Tokenizer, max_length: int
) -> list[tuple[list[int], EncodedExample]]:
    """One row per (text_a, text_b), truncated longest first; each with an example that holds it."""
    firsts = tokenizer.ids([a for a, _ in texts])
    seconds = iter(tokenizer.ids([b for _, b in texts if b is not None]))
    made = []
    for (_, text_b), first in zip(texts, firsts, strict=True):
        second = None if text_b is None else next(seconds)
        room = max_length - special_tokens(text_b is not None)
        keep_first, keep_second = pair_lengths(len(first), len(second or ()), room)
        ids = joined(tokenizer, first[:keep_first], None if second is None else second[:keep_second])
        pieces = len(first) + len(second or ())
        unknown = first.count(tokenizer.unk) + (second or []).count(tokenizer.unk)
        example = EncodedExample([EncodedRow(ids)], {}, pieces, unknown, truncated=pieces > room)
        made.append((ids, example))
    return made
