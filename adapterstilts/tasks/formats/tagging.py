"""One tag per word: parts of speech, names, supertags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import (
    IGNORE,
    EncodedExample,
    EncodedRow,
    Example,
    ExampleView,
    FieldType,
    Row,
    Tokenizer,
    joined,
    unknown_label,
)
from adapterstilts.tasks.spec import TaskSpec

# XTREME counts three special tokens for XLM-R when it splits long sentences (utils_preprocess.py), though a row has
# two. Numbers depend on where sentences are split (XTREME issue 90), so the official count is kept.
RESERVED = 3
NO_WORD = -1


class Tagging:
    """Each word is cut into subwords alone; its first subword carries the label. Long sentences become several rows.

    A word without subwords (zero-width characters) or with more than fit into a row is ``<unk>``, as in XTREME.
    """

    name: ClassVar[str] = "tagging"
    fields: ClassVar[Mapping[str, FieldType]] = {"label": FieldType("token"), "word": FieldType("token", "int32")}

    def parse(self, row: Row, task: TaskSpec) -> Example:
        words, tags = row.values.get("words"), row.values.get("tags")
        if not isinstance(words, list | tuple) or not words:
            raise DataError("a sentence without words", where=row.where, why=f"the row has {', '.join(row.values)}")
        if tags is not None:
            if len(tags) != len(words):
                raise DataError(f"{len(words)} words but {len(tags)} tags", where=row.where)
            for tag in tags:
                if tag not in task.labels:
                    raise unknown_label(str(tag), task.labels, row.where)
        return {"id": str(row.values["id"]), "words": list(words), "tags": None if tags is None else list(tags)}

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, task: TaskSpec) -> list[EncodedExample]:
        index = {label: i for i, label in enumerate(task.labels)}
        distinct = list(dict.fromkeys(word for e in examples for word in e["words"]))
        subwords = dict(zip(distinct, tokenizer.words(distinct), strict=True))
        room = task.settings.max_length - RESERVED
        made = []
        for example in examples:
            tags = example["tags"] or [None] * len(example["words"])
            rows: list[tuple[list[int], list[int], list[int]]] = [([], [], [])]
            pieces = unknown = 0
            lost = False
            for position, (word, tag) in enumerate(zip(example["words"], tags, strict=True)):
                ids = subwords[word]
                pieces += len(ids)
                unknown += ids.count(tokenizer.unk)
                if not ids or len(ids) > room:
                    lost = lost or bool(ids)
                    ids = [tokenizer.unk]
                if rows[-1][0] and len(rows[-1][0]) + len(ids) > room:
                    rows.append(([], [], []))
                rest = len(ids) - 1
                rows[-1][0].extend(ids)
                rows[-1][1].extend([IGNORE if tag is None else index[tag], *[IGNORE] * rest])
                rows[-1][2].extend([position, *[NO_WORD] * rest])
            made.append(EncodedExample([_row(tokenizer, *row) for row in rows], {}, pieces, unknown, truncated=lost))
        return made

    def texts(self, example: Example) -> list[str]:
        return [" ".join(example["words"])]

    def usable(self, example: Example) -> bool:
        return example["tags"] is not None

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], view: ExampleView, example: Example, task: TaskSpec
    ) -> list[str]:
        """[len, n_tags] per row -> one tag per word; the rows of a split sentence are joined again."""
        tags = [fallback(task)] * len(example["words"])
        for output, word in zip(outputs, view.fields["word"], strict=True):
            first = np.flatnonzero(word != NO_WORD)
            best = np.argmax(output[first], axis=-1)
            for position, tag in zip(word[first].tolist(), best.tolist(), strict=True):
                tags[position] = task.labels[tag]
        return tags

    def gold(self, example: Example, task: TaskSpec) -> list[str] | None:
        tags: list[str] | None = example["tags"]
        return tags


def _row(tokenizer: Tokenizer, ids: list[int], labels: list[int], words: list[int]) -> EncodedRow:
    fields = {"label": [IGNORE, *labels, IGNORE], "word": [NO_WORD, *words, NO_WORD]}
    return EncodedRow(joined(tokenizer, ids, None), fields)


def fallback(task: TaskSpec) -> str:
    """The tag of a word without prediction: the task's own, else O (names) or X (parts of speech) as in XTREME."""
    if task.settings.fallback is not None:
        return task.settings.fallback
    return next((tag for tag in ("O", "X") if tag in task.labels), task.labels[0])


FORMAT = Tagging()
