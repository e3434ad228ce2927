"""What a tokenizer makes of a split: lengths, unknown pieces, pieces per word, what is cut or needs several rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from adapterstilts.data.bitext import load_bitext
from adapterstilts.data.health import Health
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import Resolved
from adapterstilts.data.tokenise import Tokenizer, batched
from adapterstilts.tasks.formats import get_format
from adapterstilts.tasks.formats.base import Example


def stats(resolved: Resolved, tokenizer: Tokenizer, limit: int | None = None) -> dict[str, Any]:
    """`Health` of the first ``limit`` examples, with the distribution of row lengths in subwords.

    Returns:
        The facts of `Health.result` and ``lengths``: {mean, median, p95, longest}; a row is what the encoder sees,
        special tokens included.

    Raises:
        DataError: data that is not there or cannot be read.
    """
    health = Health(resolved.task)
    form = get_format(resolved.task.format)
    lengths: list[int] = []
    for batch in batched(islice(examples_of(resolved), limit)):
        for example, encoded in zip(batch, form.encode(batch, tokenizer, resolved.task), strict=True):
            health.add(example, encoded)
            lengths += [len(row.ids) for row in encoded.rows]
    rows = np.array(lengths or [0])
    spread = {"mean": float(rows.mean()), "median": float(np.median(rows)), "p95": float(np.percentile(rows, 95))}
    return {**health.result(), "lengths": {**spread, "longest": int(rows.max())}}


def examples_of(resolved: Resolved) -> Iterator[Example]:
    """The examples of a source; of bitext both sides, one after the other."""
    if resolved.task.format != "bitext":
        yield from read_examples(resolved)
        return
    data = load_bitext(resolved)
    pairs = zip(data["source"], data["target"], strict=False)  # in turn, so that a limit meets both sides
    yield from ({"id": key, "text": text} for pair in pairs for key, text in pair)
