"""Raw text for masked-word training: one sentence, or a translation pair (TLM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

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


class MaskedLM:
    """Rows as in classification; ``special`` marks the tokens that are never masked."""

    name: ClassVar[str] = "masked_lm"
    fields: ClassVar[Mapping[str, FieldType]] = {"special": FieldType("token", "int32")}

    def parse(self, row: Row, task: TaskSpec) -> Example:
        text_b = text_of(row, "text_b") if row.values.get("text_b") is not None else None
        return {"id": str(row.values["id"]), "text_a": text_of(row, "text_a", empty=False), "text_b": text_b}

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, task: TaskSpec) -> list[EncodedExample]:
        texts = [(e["text_a"], e["text_b"]) for e in examples]
        special = {tokenizer.bos, tokenizer.eos}
        made = []
        for ids, encoded in pair_rows(texts, tokenizer, task.settings.max_length):
            encoded.rows[0].fields["special"] = [int(token in special) for token in ids]
            made.append(encoded)
        return made

    def texts(self, example: Example) -> list[str]:
        return [text for text in (example["text_a"], example["text_b"]) if text is not None]

    def usable(self, example: Example) -> bool:
        return True

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], view: ExampleView, example: Example, task: TaskSpec
    ) -> dict[str, float]:
        """Log-probabilities of the masked tokens -> their sum (nats) and number, from which perplexity follows."""
        scores = np.concatenate([np.asarray(output, dtype=np.float64).ravel() for output in outputs])
        return {"log_probability": float(scores.sum()), "tokens": len(scores)}

    def gold(self, example: Example, task: TaskSpec) -> str:
        """A text is its own label."""
        return str(example["text_a"])


FORMAT = MaskedLM()
