"""Writes the language-free items of the tasks as examples in one language."""

from __future__ import annotations

from typing import Any

from .corpus import Document, write_document
from .grammar import plain_text, realise
from .inference import Choice, Pair, Question
from .lexicon import word
from .meanings import Clause

Example = dict[str, Any]


def write_pair(code: str, item: Pair) -> Example:
    """Classification: two texts and a label."""
    return {
        "text_a": plain_text(realise(code, item.first)),
        "text_b": plain_text(realise(code, item.second)),
        "label": item.label,
    }


def write_choice(code: str, item: Choice) -> Example:
    """Multiple choice: the prompt ends with the connective."""
    premise = plain_text(realise(code, item.premise))
    return {
        "prompt": f"{premise} {word(code, item.link)}",
        "choices": [plain_text(realise(code, choice)) for choice in item.choices],
        "label": item.label,
    }


def write_span(code: str, item: Question) -> Example:
    """The answer is every word with the asked role, from its first to its last."""
    words: list[str] = []
    answer: list[int] = []
    for number, clause in enumerate(item.told):
        for token in realise(code, clause):
            if number == item.asked and token.role == item.role:
                answer.append(len(words))
            words.append(token.text)
        words.append(".")
    start = len(" ".join(words[: answer[0]])) + (answer[0] > 0)
    text = " ".join(words[answer[0] : answer[-1] + 1])
    return {
        "question": plain_text(realise(code, item.question), "?"),
        "context": " ".join(words),
        "answers": [{"text": text, "start": start}],
    }


def write_upos(code: str, item: Clause) -> Example:
    """Tagging with parts of speech."""
    tokens = realise(code, item)
    return {"words": [*(t.text for t in tokens), "."], "tags": [*(t.upos for t in tokens), "PUNCT"]}


def write_ner(code: str, item: Clause) -> Example:
    """Tagging with names."""
    tokens = realise(code, item)
    return {"words": [*(t.text for t in tokens), "."], "tags": [*(t.ner for t in tokens), "O"]}


def write_raw(code: str, item: Document) -> Example:
    """A document as one text, or as two when it has several sentences."""
    first, *rest = write_document(code, item)
    return {"text_a": first, "text_b": " ".join(rest) if rest else None}
