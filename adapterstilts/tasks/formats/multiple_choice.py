"""A prompt and several choices, one of them right; one row per choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import (
    UNKNOWN,
    EncodedExample,
    EncodedRow,
    Example,
    ExampleView,
    FieldType,
    Row,
    Tokenizer,
    joined,
    special_tokens,
    text_of,
)
from adapterstilts.tasks.spec import TaskSpec


class MultipleChoice:
    """``<s> prompt </s></s> choice </s>``; a prompt too long loses its front, so that its end and the choice stay.

    That is jiant's rule (truncate_end=False). A choice that alone is too long loses its end.
    """

    name: ClassVar[str] = "multiple_choice"
    fields: ClassVar[Mapping[str, FieldType]] = {"label": FieldType("example")}

    def parse(self, row: Row, task: TaskSpec) -> Example:
        choices = row.values.get("choices")
        if not isinstance(choices, list | tuple) or not all(isinstance(c, str) for c in choices):
            raise DataError("field `choices` is no list of texts", where=row.where, why=f"found {choices!r:.60}")
        if len(choices) < 2:
            raise DataError(f"{len(choices)} choice", where=row.where, why="a multiple choice needs two or more")
        template = task.settings.template
        # Canonical examples (the lab's, a user's own file) bring their prompt ready made.
        if template is None or "prompt" in row.values:
            prompt = text_of(row, "prompt")
        else:
            prompt = filled(template, row.values, row.where)
            choices = [filled(task.settings.choice_template, {**row.values, "choice": c}, row.where) for c in choices]
        label = row.values.get("label")
        if label is not None:
            if not str(label).isdigit() or int(label) >= len(choices):
                raise DataError(
                    f"label `{label}` is no choice",
                    where=row.where,
                    why=f"there are choices 0 to {len(choices) - 1}",
                    fix="map it with `label_map:` in the task's source",
                )
            label = int(label)
        return {"id": str(row.values["id"]), "prompt": prompt, "choices": list(choices), "label": label}

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, task: TaskSpec) -> list[EncodedExample]:
        prompts = tokenizer.ids([e["prompt"] for e in examples])
        choices = iter(tokenizer.ids([choice for e in examples for choice in e["choices"]]))
        room = task.settings.max_length - special_tokens(paired=True)
        made = []
        for example, prompt in zip(examples, prompts, strict=True):
            answers = [next(choices) for _ in example["choices"]]
            rows = []
            for answer in answers:
                kept = max(0, room - len(answer))
                rows.append(EncodedRow(joined(tokenizer, prompt[max(0, len(prompt) - kept) :], answer[:room])))
            texts = [prompt, *answers]
            made.append(
                EncodedExample(
                    rows,
                    {"label": UNKNOWN if example["label"] is None else example["label"]},
                    pieces=sum(map(len, texts)),
                    unknown=sum(ids.count(tokenizer.unk) for ids in texts),
                    truncated=any(len(prompt) + len(answer) > room for answer in answers),
                )
            )
        return made

    def texts(self, example: Example) -> list[str]:
        return [example["prompt"], *example["choices"]]

    def usable(self, example: Example) -> bool:
        return example["label"] is not None

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], view: ExampleView, example: Example, task: TaskSpec
    ) -> int:
        """One [1] per choice -> index of the best choice (the first of equals)."""
        return int(np.argmax([float(output[0]) for output in outputs]))

    def gold(self, example: Example, task: TaskSpec) -> int | None:
        label: int | None = example["label"]
        return label


def filled(template: str, values: Mapping[str, Any], where: str) -> str:
    """A template with the row's fields; surrounding spaces of empty fields are dropped."""
    try:
        return template.format_map(values).strip()
    except (KeyError, IndexError) as error:
        raise DataError(
            f"the template names the field {error}",
            where=where,
            why=f"`{template}`; the row has {', '.join(values)}",
            fix="name the field under `columns:` of the task's source",
        ) from error


FORMAT = MultipleChoice()
