"""Sentence files, one sentence a line: reading, naming by content, and tokenising without a task around them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from adapterstilts.data.arrays import Arrays
from adapterstilts.data.lines import lines_of
from adapterstilts.data.tokenise import Tokenizer, batched
from adapterstilts.errors import DataError


def read_sentences(path: Path) -> list[str]:
    """The lines of a UTF-8 file without surrounding space. Empty lines stay, so line numbers stay, too.

    Raises:
        DataError: no such file, or one without any sentence.
    """
    if not path.is_file():
        raise DataError(f"no file `{path}`", why="one sentence a line is read from it")
    found = [text.strip() for _, text in lines_of(path)]
    if not any(found):
        raise DataError("a file without sentences", where=str(path), why="every line is empty")
    return found


def digest(texts: Iterable[str]) -> str:
    """sha256 of sentences in their order, as hex."""
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode("utf-8", "surrogatepass"))
        found.update(b"\n")
    return found.hexdigest()


def tokenised(texts: Sequence[str], tokenizer: Tokenizer, longest: int) -> Arrays:
    """One row ``<s> subwords </s>`` a sentence, cut to ``longest`` tokens, special ones included."""
    parts, lengths = [], [0]
    for chunk in batched(texts):
        rows = [[tokenizer.bos, *ids[: longest - 2], tokenizer.eos] for ids in tokenizer.ids(chunk)]
        parts.append(np.array([token for row in rows for token in row], dtype=np.int32))
        lengths += map(len, rows)
    ids = np.concatenate(parts) if parts else np.empty(0, np.int32)
    return Arrays(ids, np.cumsum(lengths, dtype=np.int64), np.arange(len(texts) + 1, dtype=np.int64), {})
