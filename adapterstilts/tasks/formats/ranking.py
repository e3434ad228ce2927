"""Queries that find candidates in one pool over all languages: answers to questions, entities to mentions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import EncodedExample, Example, Row, Tokenizer, pair_rows, text_of
from adapterstilts.tasks.formats.bitext import Bitext
from adapterstilts.tasks.spec import TaskSpec


class Ranking(Bitext):
    """``<s> text </s>``, or ``<s> text </s></s> context </s>`` for a candidate with its paragraph.

    An example is {id, text, context, label}: a candidate is right for a query when their labels share one. Queries
    are the splits dev and test, candidates the split ``pool``.
    """

    name: ClassVar[str] = "ranking"

    def parse(self, row: Row, task: TaskSpec) -> Example:
        label = row.values.get("label")
        if label is not None and not (isinstance(label, list) and all(isinstance(key, str) for key in label)):
            raise DataError("`label` is no list of texts", where=row.where, why=f"found {str(label)[:60]}")
        context = text_of(row, "context") if row.values.get("context") is not None else None
        text = text_of(row, "text", empty=False)
        return {"id": str(row.values["id"]), "text": text, "context": context, "label": label}

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, task: TaskSpec) -> list[EncodedExample]:
        texts = [(e["text"], e["context"]) for e in examples]
        return [encoded for _, encoded in pair_rows(texts, tokenizer, task.settings.max_length)]

    def texts(self, example: Example) -> list[str]:
        return [example[key] for key in ("text", "context") if example[key] is not None]

    def gold(self, example: Example, task: TaskSpec) -> list[str] | None:
        labels: list[str] | None = example["label"]
        return labels


FORMAT = Ranking()
