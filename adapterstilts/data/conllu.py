"""CoNLL-U as XTREME turns it into words and tags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import Row

COLUMNS = 10
FORM, UPOS, HEAD = 1, 3, 6
# XTREME's conllu_to_conll.py; the tag of a fused word whose parts are equally close to the root.
DEFAULT_PRECEDENCE = [
    "VERB",
    "NOUN",
    "PROPN",
    "PRON",
    "ADJ",
    "NUM",
    "ADV",
    "INTJ",
    "AUX",
    "ADP",
    "DET",
    "PART",
    "CCONJ",
    "SCONJ",
    "X",
    "PUNCT",
]
PRECEDENCE = {
    "es": ["VERB", "AUX", "PRON", "ADP", "DET"],
    "fr": ["VERB", "AUX", "PRON", "NOUN", "ADJ", "ADV", "ADP", "DET", "PART", "SCONJ", "CONJ"],
    "it": ["VERB", "AUX", "ADV", "PRON", "ADP", "DET", "INTJ"],
}
RANGE = re.compile(r"(\d+)-(\d+)$")
SENT_ID = re.compile(r"# *sent_id *= *(\S+)")
Token = Sequence[str]


def read_conllu(path: Path, lines: Iterator[tuple[int, str]], options: Mapping[str, Any]) -> Iterator[Row]:
    """Sentences as {words, tags} and the file's {sent_id}, by XTREME's rules.

    The rules are those of utils_preprocess.py and ud-conversion-tools: multi-word tokens become one fused word; empty
    nodes are left out; zero-width non-joiners and spaces inside words are removed; sentences whose words are all, or
    all but one, ``_`` (text withheld) are dropped.
    """
    precedence = PRECEDENCE.get(str(options.get("language")), DEFAULT_PRECEDENCE)
    for number, name, tokens in _sentences(path, lines):
        words, tags = [], []
        for form, tag in fused(tokens, precedence, f"{path}:{number}"):
            words.append(form.replace("\u200c", "").replace(" ", "") or form)
            tags.append(tag)
        blank = words.count("_")
        if blank == 0 or blank < len(words) - 1:
            named = {"sent_id": name} if name else {}
            yield Row({"words": words, "tags": tags, **named}, f"{path}:{number}")


def _sentences(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str, list[Token]]]:
    """Line, sent_id (empty where the file names none) and tokens of each sentence."""
    tokens: list[Token] = []
    first, name = 0, ""
    for number, line in lines:
        if not line.strip():
            if tokens:
                yield first, name, tokens
            tokens, name = [], ""
        elif found := SENT_ID.match(line):
            name = found[1]
        elif not line.startswith("#"):
            columns = line.split("\t")
            if len(columns) < COLUMNS:
                raise DataError(
                    f"{len(columns)} columns, CoNLL-U has {COLUMNS}",
                    where=f"{path}:{number}",
                    fix="for token<TAB>tag files use `reader: conll`",
                )
            first = first if tokens else number
            tokens.append(columns)
    if tokens:
        yield first, name, tokens


def fused(tokens: Sequence[Token], precedence: Sequence[str], where: str) -> Iterator[tuple[str, str]]:
    """(form, tag) of the words of a sentence, multi-word tokens as one word.

    The fused word takes the tag of its part closest to the root; among equally close ones that of the tag that comes
    first in ``precedence``. (The conversion script fails on tags outside the list, like SYM; here they come last.)
    """
    parts: dict[int, Token] = {}
    for token in tokens:
        if token[0].isdigit() and parts.setdefault(int(token[0]), token) is not token:
            why = "a blank line between two sentences may be lost"
            raise DataError(f"word {token[0]} comes twice in a sentence", where=where, why=why)
    spans = {int(m[1]): (int(m[2]), t[FORM]) for t in tokens if (m := RANGE.match(t[0]))}
    heads = {}
    for index, token in parts.items():
        if not token[HEAD].isdigit() and spans:
            raise DataError(f"head `{token[HEAD]}` is no number", where=where, why=f"of word {index}")
        heads[index] = int(token[HEAD]) if token[HEAD].isdigit() else 0
    after = 0
    for index in sorted(parts):
        if index <= after:
            continue
        if index not in spans:
            yield parts[index][FORM], parts[index][UPOS]
            continue
        after, form = spans[index]
        members = [i for i in range(index, after + 1) if i in parts]
        depths = {i: _depth(i, heads) for i in members}
        highest = [i for i in members if depths[i] == min(depths.values())]
        ranks = {i: precedence.index(t) if (t := parts[i][UPOS]) in precedence else len(precedence) for i in highest}
        yield form, parts[min(highest, key=lambda i: ranks[i])][UPOS]


def _depth(index: int, heads: Mapping[int, int]) -> int:
    seen: set[int] = set()
    while index in heads and heads[index] != 0 and index not in seen:
        seen.add(index)
        index = heads[index]
    return len(seen)
