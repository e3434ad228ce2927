"""Encoding examples through the arrays on disk, and head outputs that say exactly the gold."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterstilts.data.arrays import Arrays, read_arrays, write_arrays
from adapterstilts.data.tokenise import Tokenizer
from adapterstilts.tasks.formats import get_format
from adapterstilts.tasks.formats.base import Example, ExampleView
from adapterstilts.tasks.spec import TaskSpec

CERTAIN = 9.0


def arrays_of(task: TaskSpec, examples: Sequence[Example], tokenizer: Tokenizer) -> Arrays:
    form = get_format(task.format)
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder), form.encode(examples, tokenizer, task), form.fields)
        return read_arrays(Path(folder))  # mapped files outlive their names


def gold_outputs(task: TaskSpec, view: ExampleView) -> list[NDArray[np.float32]]:
    """What a head that knows the labels in the arrays would give."""
    fields = view.fields
    if task.format == "classification":
        return [one_hot(int(fields["label"]), len(task.labels))]
    if task.format == "multiple_choice":
        return [np.float32([CERTAIN * (row == fields["label"])]) for row in range(len(view.ids))]
    outputs = []
    for row, ids in enumerate(view.ids):
        if task.format == "tagging":
            outputs.append(np.stack([one_hot(int(label), len(task.labels)) for label in fields["label"][row]]))
        else:
            starts, ends = (one_hot(int(fields[side][row]), len(ids)) for side in ("start", "end"))
            outputs.append(np.stack([starts, ends], axis=1))
    return outputs


def one_hot(index: int, length: int) -> NDArray[np.float32]:
    vector = np.zeros(length, dtype=np.float32)
    if index >= 0:
        vector[index] = CERTAIN
    return vector


def decoded_gold(task: TaskSpec, examples: Sequence[Example], tokenizer: Tokenizer) -> list[Any]:
    """The predictions of such a head."""
    form = get_format(task.format)
    arrays = arrays_of(task, examples, tokenizer)
    assert len(arrays) == len(examples)
    assert int(arrays.lengths().max()) <= task.settings.max_length
    views = [arrays.view(index) for index in range(len(examples))]
    return [
        form.decode(gold_outputs(task, view), view, example, task)
        for view, example in zip(views, examples, strict=True)
    ]
