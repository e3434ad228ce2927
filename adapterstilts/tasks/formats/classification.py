"""One or two texts, one label: NLI, paraphrase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from adapterstilts.tasks.formats.base import (
    UNKNOWN,
    EncodedExample,
    Example,
    ExampleView,
    FieldType,
    Row,
    Tokenizer,
    label_of,
    pair_rows,
    text_of,
)
from adapterstilts.tasks.spec import TaskSpec


class Classification:
    """``<s> A </s>`` or ``<s> A </s></s> B </s>``, truncated longest first."""

    name: ClassVar[str] = "classification"
    fields: ClassVar[Mapping[str, FieldType]] = {"label": FieldType("example")}

    def parse(self, row: Row, task: TaskSpec) -> Example:
        text_b = text_of(row, "text_b") if row.values.get("text_b") is not None else None
        label = label_of(row, task.labels)
        return {"id": str(row.values["id"]), "text_a": text_of(row, "text_a"), "text_b": text_b, "label": label}

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, task: TaskSpec) -> list[EncodedExample]:
        index = {label: i for i, label in enumerate(task.labels)}
        texts = [(e["text_a"], e["text_b"]) for e in examples]
        made = []
        for example, (_, encoded) in zip(examples, pair_rows(texts, tokenizer, task.settings.max_length), strict=True):
            encoded.fields["label"] = UNKNOWN if example["label"] is None else index[example["label"]]
            made.append(encoded)
        return made

    def texts(self, example: Example) -> list[str]:
        return [text for text in (example["text_a"], example["text_b"]) if text is not None]

    def usable(self, example: Example) -> bool:
        return example["label"] is not None

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], view: ExampleView, example: Example, task: TaskSpec
    ) -> str:
        """[n_labels] -> the label of the largest logit."""
        return task.labels[int(np.argmax(outputs[0]))]

    def gold(self, example: Example, task: TaskSpec) -> str | None:
        label: str | None = example["label"]
        return label


FORMAT = Classification()
