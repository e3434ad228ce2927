"""Sentences to be embedded: one side of a retrieval task. Search and mining are the retrieval room's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from adapterstilts.tasks.formats.base import (
    EncodedExample,
    Example,
    ExampleView,
    FieldType,
    Row,
    Tokenizer,
    pair_rows,
    text_of,
)
from adapterstilts.tasks.spec import TaskSpec


class Bitext:
    """``<s> sentence </s>``; an example is {id, text}. A *dataset* is {source, target, gold} (data/bitext.py)."""

    name: ClassVar[str] = "bitext"
    fields: ClassVar[Mapping[str, FieldType]] = {}

    def parse(self, row: Row, task: TaskSpec) -> Example:
        return {"id": str(row.values["id"]), "text": text_of(row, "text", empty=False)}

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, task: TaskSpec) -> list[EncodedExample]:
        texts = [(e["text"], None) for e in examples]
        return [encoded for _, encoded in pair_rows(texts, tokenizer, task.settings.max_length)]

    def texts(self, example: Example) -> list[str]:
        return [example["text"]]

    def usable(self, example: Example) -> bool:
        """Nothing is trained on what is searched: the published dual encoders have a loss of their own."""
        return False

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], view: ExampleView, example: Example, task: TaskSpec
    ) -> NoReturn:
        """There is no head: answers come from a search over all candidates."""
        raise ValueError(f"{task.name} is scored by the retrieve stage, it has no head")

    def gold(self, example: Example, task: TaskSpec) -> list[str] | None:
        """The gold of a bitext belongs to the data set, not to a sentence."""
        return None


FORMAT = Bitext()
