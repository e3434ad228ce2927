"""Text to subwords: a thin wrapper of the fast tokenizer, and the stream from examples to encoded examples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import Pieces

BATCH = 1000  # texts are encoded in batches of about this many examples, over all cores
SPECIAL = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "unk": "<unk>", "mask": "<mask>"}
T = TypeVar("T")


@dataclass(frozen=True)
class Tokenizer:
    """A ``tokenizers.Tokenizer`` without its post-processor: formats lay out rows themselves.

    A text that spells a special token (``</s>`` in crawled text) gives ``<unk>`` there, never a real separator.
    """

    backend: Any
    bos: int
    eos: int
    pad: int
    unk: int
    mask: int
    word_prefix: str = ""  # byte-level tokenizers (RoBERTa) tell a word apart by the space before it

    @classmethod
    def from_directory(cls, directory: Path) -> Tokenizer:
        """The tokenizer of a local base.

        Raises:
            DataError: no tokenizer.json, or one without the special tokens of XLM-R / RoBERTa.
        """
        from tokenizers import Tokenizer as Backend

        path = directory / "tokenizer.json"
        if not path.is_file():
            raise DataError(
                "a base without fast tokenizer",
                where=str(directory),
                why="it holds no tokenizer.json",
                fix="AutoTokenizer.from_pretrained(DIR, use_fast=True).save_pretrained(DIR)",
            )
        try:
            backend = Backend.from_file(str(path))
        except Exception as error:
            raise DataError("the tokenizer cannot be read", where=str(path), why=str(error)) from error
        return cls._around(backend, _special_names(directory), str(path))

    @classmethod
    def from_transformers(cls, tokenizer: Any) -> Tokenizer:
        """From a fast tokenizer of transformers (its backend is copied, not changed)."""
        from tokenizers import Tokenizer as Backend

        names = {name: str(getattr(tokenizer, f"{name}_token") or default) for name, default in SPECIAL.items()}
        return cls._around(Backend.from_str(tokenizer.backend_tokenizer.to_str()), names, tokenizer.name_or_path)

    @classmethod
    def _around(cls, backend: Any, names: dict[str, str], where: str) -> Tokenizer:
        ids = {name: backend.token_to_id(token) for name, token in names.items()}
        if lacking := [names[name] for name, index in ids.items() if index is None]:
            raise DataError(
                f"the tokenizer has no {', '.join(lacking)}",
                where=where,
                why="bases of the XLM-R / RoBERTa kind have <s> </s> <pad> <unk> <mask>",
            )
        backend.no_truncation()
        backend.no_padding()
        bare, spaced = (backend.encode(text, add_special_tokens=False).ids for text in ("a", " a"))
        return cls(backend, **ids, word_prefix="" if bare == spaced else " ")

    @property
    def size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self.backend.get_vocab_size(with_added_tokens=True))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Subword ids of each text, no special tokens."""
        encode = getattr(self.backend, "encode_batch_fast", self.backend.encode_batch)  # fast: no offsets
        return [self._plain(e.ids) for e in encode(list(texts), add_special_tokens=False)]

    def words(self, words: Sequence[str]) -> list[list[int]]:
        """Subword ids of each word taken alone, as it stands inside a sentence."""
        return self.ids([self.word_prefix + word for word in words] if self.word_prefix else words)

    def pieces(self, texts: Sequence[str]) -> list[Pieces]:
        """Subwords with character offsets. A subword's leading space (``▁``) is no part of its offsets."""
        made = []
        for text, encoding in zip(texts, self.backend.encode_batch(list(texts), add_special_tokens=False), strict=True):
            offsets = encoding.offsets
            for i, (start, end) in enumerate(offsets):
                if start < end and text[start].isspace():
                    while start < end and text[start].isspace():
                        start += 1
                    offsets[i] = (start, end)
            made.append(Pieces(self._plain(encoding.ids), offsets))
        return made

    def _plain(self, ids: list[int]) -> list[int]:
        special = {self.bos, self.eos, self.pad, self.mask}
        return ids if special.isdisjoint(ids) else [self.unk if i in special else i for i in ids]


def _special_names(directory: Path) -> dict[str, str]:
    names = dict(SPECIAL)
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        path = directory / file
        if not path.is_file():
            continue
        stated = json.loads(path.read_text(encoding="utf-8"))
        for name in SPECIAL:
            token = stated.get(f"{name}_token")
            token = token.get("content") if isinstance(token, dict) else token
            names[name] = token or names[name]
    return names


def batched(items: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Lists of up to ``size`` items."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
