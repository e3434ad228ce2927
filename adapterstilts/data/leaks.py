"""Test text in training text: exact overlap after normalisation."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adapterstilts.data.bitext import load_bitext
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import Resolved
from adapterstilts.tasks.formats import get_format

SHORTEST = 15  # letters; shorter texts ("He said nothing") are shared by chance
SAMPLES = 5


@dataclass(frozen=True)
class Overlap:
    """``examples`` of ``n`` test examples occur whole in the training data; in ``texts`` of them at least one text."""

    train: str
    test: str
    n: int
    examples: int
    texts: int
    samples: tuple[str, ...]

    @property
    def share(self) -> float:
        return self.texts / max(self.n, 1)


class _Letters(dict[int, int | None]):
    # Marks stay: without them the vowels of Hindi or Thai would go and different words would meet.
    def __missing__(self, code: int) -> int | None:
        self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else None
        return self[code]


_LETTERS = _Letters()


def normalised(text: str) -> str:
    """NFKC, case folded, letters with their marks and digits only."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS)


def leaks(train: Resolved, tests: Sequence[Resolved]) -> list[Overlap]:
    """What the training data share with each test set. Holds 8 bytes per training text.

    Raises:
        DataError: data that is not there or cannot be read.
    """
    texts: set[bytes] = set()
    whole: set[bytes] = set()
    for _, parts in texts_of(train):
        keys = [normalised(part) for part in parts]
        whole.add(_key("|".join(keys)))
        texts.update(_key(key) for key in keys if len(key) >= SHORTEST)
    return [_overlap(train, test, texts, whole) for test in tests]


def _overlap(train: Resolved, test: Resolved, texts: set[bytes], whole: set[bytes]) -> Overlap:
    n = examples = shared = 0
    samples: list[str] = []
    for name, parts in texts_of(test):
        keys = [normalised(part) for part in parts]
        same = _key("|".join(keys)) in whole
        found = [part for part, key in zip(parts, keys, strict=True) if len(key) >= SHORTEST and _key(key) in texts]
        n += 1
        examples += same
        shared += bool(same or found)
        if (same or found) and len(samples) < SAMPLES:
            samples.append(f"{name}: {(found or parts)[0][:100]}")
    return Overlap(_name(train), _name(test), n, examples, shared, tuple(samples))


def texts_of(resolved: Resolved) -> Iterator[tuple[str, list[str]]]:
    """(id, texts) of every example of a source."""
    if resolved.task.format == "bitext":
        data = load_bitext(resolved)
        for side in (data["source"], data["target"]):
            yield from ((name, [text]) for name, text in side)
        return
    form = get_format(resolved.task.format)
    for example in read_examples(resolved):
        yield example["id"], form.texts(example)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _name(resolved: Resolved) -> str:
    return f"{resolved.task.name}/{resolved.language} {resolved.split}"
