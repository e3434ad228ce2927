"""Test text in training text: exact overlap after normalisation."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

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


@lru_cache(maxsize=4096)  # a SQuAD context comes once per question
def normalised(text: str) -> str:
    """NFKC, case folded, letters with their marks and digits only."""
    return unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS)


def leaks(train: Resolved, tests: Sequence[Resolved]) -> list[Overlap]:
    """What the training data share with each test set; see `overlaps`."""
    return [found for _, _, found in overlaps([train], tests)]


def overlaps(trains: Sequence[Resolved], tests: Sequence[Resolved]) -> Iterator[tuple[int, int, Overlap]]:
    """(number of the train set, number of the test set, what they share) of every pair; each set is read once.

    Holds 8 bytes (as Python counts, about 100) per training text.

    Raises:
        DataError: data that is not there or cannot be read.
    """
    known = [_Known.of(train) for train in trains]
    for index, test in enumerate(tests):
        counts = [_Count() for _ in trains]
        n = 0
        for name, parts in texts_of(test):
            n += 1
            keys = [normalised(part) for part in parts]
            whole, texts = _keys(keys)
            for train, count in zip(known, counts, strict=True):
                same = whole is not None and whole in train.whole
                shared = [part for part, key in zip(parts, texts, strict=True) if key in train.texts]
                if same or shared:
                    count.examples += same
                    count.texts += 1
                    if len(count.samples) < SAMPLES:
                        count.samples.append(f"{name}: {(shared or parts)[0][:100]}")
        for number, count in enumerate(counts):
            found = Overlap(_name(trains[number]), _name(test), n, count.examples, count.texts, tuple(count.samples))
            yield number, index, found


@dataclass
class _Known:
    """Hashes of a training set: of single texts, and of whole examples."""

    texts: set[bytes]
    whole: set[bytes]

    @classmethod
    def of(cls, train: Resolved) -> _Known:
        known = cls(set(), set())
        for _, parts in texts_of(train):
            whole, texts = _keys([normalised(part) for part in parts])
            known.whole.update(() if whole is None else (whole,))
            known.texts.update(key for key in texts if key is not None)
        return known


@dataclass
class _Count:
    examples: int = 0
    texts: int = 0
    samples: list[str] = field(default_factory=list)


def _keys(normal: Sequence[str]) -> tuple[bytes | None, list[bytes | None]]:
    """Hashes of the whole example and of its texts; None where it is too short to mean anything."""
    whole = _key("|".join(normal)) if sum(map(len, normal)) >= SHORTEST else None
    return whole, [_key(text) if len(text) >= SHORTEST else None for text in normal]


def texts_of(resolved: Resolved) -> Iterator[tuple[str, list[str]]]:
    """(id, texts) of every example of a source. Choices are one text: "None of the above choices" is no leak."""
    if resolved.task.format == "bitext":
        data = load_bitext(resolved)
        for side in (data["source"], data["target"]):
            yield from ((name, [text]) for name, text in side)
        return
    form = get_format(resolved.task.format)
    for example in read_examples(resolved):
        texts = form.texts(example)
        yield example["id"], [texts[0], " ".join(texts[1:])] if form.name == "multiple_choice" else texts


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _name(resolved: Resolved) -> str:
    return f"{resolved.task.name}/{resolved.language} {resolved.split}"
