"""Raw text for pretraining: short documents, and documents in English and another language.

The documents hold every construction that the labelled tasks use (questions, consequences,
contrast, restatement). A word never seen in raw text has a random vector, and that looks like a
failed transfer. All meanings are drawn from the train split.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import lexicon as lex
from .grammar import plain_text, realise
from .languages import ENGLISH
from .lexicon import word
from .meanings import (
    Clause,
    opposite_event,
    opposite_state,
    question,
    random_effect_event,
    random_event,
    state_after,
    worded,
)


@dataclass(frozen=True)
class Sentence:
    """A clause with its mark; or only one role of it (an answer); `link` follows the mark."""

    clause: Clause
    mark: str = "."
    only: str = ""
    link: str = ""


Document = tuple[Sentence, ...]


def write(code: str, sentence: Sentence) -> str:
    """One sentence in one language."""
    tokens = realise(code, sentence.clause)
    if sentence.only:
        tokens = [t for t in tokens if t.role == sentence.only]
    text = plain_text(tokens, sentence.mark)
    return f"{text} {word(code, sentence.link)}" if sentence.link else text


def write_document(code: str, document: Document) -> list[str]:
    """All sentences of a document in one language."""
    return [write(code, sentence) for sentence in document]


def single(rng: random.Random, split: str) -> Document:
    """One event."""
    return (Sentence(worded(random_event(rng, split), rng)),)


def consequence(rng: random.Random, split: str) -> Document:
    """An event and the state it leads to: one after the other, with "so", or with "because"."""
    event = random_effect_event(rng, split)
    state, event = worded(state_after(event), rng), worded(event, rng)
    kind = rng.random()
    if kind < 0.3:
        return Sentence(event), Sentence(state)
    if kind < 0.65:
        return Sentence(event, link="so"), Sentence(state)
    return Sentence(state, link="because"), Sentence(event)


def restatement(rng: random.Random, split: str) -> Document:
    """An event told again in other words, with less detail or with the hypernym."""
    event = random_event(rng, split)
    again = replace(event, fronted=rng.random() < 0.3)
    assert event.object is not None
    if event.object.head in lex.HYPERNYM and rng.random() < 0.4:
        hypernym = lex.HYPERNYM[event.object.head]
        again = replace(again, object=replace(event.object, head=hypernym, adjective=None))
    if rng.random() < 0.4:
        again = replace(again, place=None)
    if rng.random() < 0.4:
        again = replace(again, time=None)
    return Sentence(worded(event, rng)), Sentence(worded(again, rng))


def contrast(rng: random.Random, split: str) -> Document:
    """An event or a state, and its opposite denied."""
    if rng.random() < 0.5:
        state = state_after(random_effect_event(rng, split))
        denied = replace(opposite_state(state), negated=True)
        return Sentence(worded(state, rng)), Sentence(worded(denied, rng))
    event = replace(random_event(rng, split), negated=False)
    denied = replace(opposite_event(event), negated=True, place=None)
    return Sentence(worded(event, rng)), Sentence(worded(denied, rng))


def question_and_answer(rng: random.Random, split: str) -> Document:
    """One or two events, and a question about one: before them, or after them and answered."""
    events = [worded(random_event(rng, split, adjuncts=True, plain=True), rng) for _ in range(rng.choice((1, 2)))]
    asked, role = rng.choice(events), rng.choice("SOLT")
    told = tuple(Sentence(e) for e in events)
    ask = Sentence(question(asked, role), "?")
    return (ask, *told) if rng.random() < 0.4 else (*told, ask, Sentence(asked, only=role))


def next_event(rng: random.Random, split: str) -> Document:
    """Two events of the same actor."""
    first = random_event(rng, split)
    second = random_event(rng, split, subject=first.subject)
    return Sentence(worded(first, rng)), Sentence(worded(second, rng))


_KINDS: dict[Callable[[random.Random, str], Document], float] = {
    single: 0.16,
    consequence: 0.26,
    restatement: 0.14,
    contrast: 0.14,
    question_and_answer: 0.22,
    next_event: 0.08,
}


def random_document(rng: random.Random, split: str = "train") -> Document:
    """A document of a random kind."""
    (kind,) = rng.choices(list(_KINDS), weights=list(_KINDS.values()))
    return kind(rng, split)


def event_document(rng: random.Random, split: str) -> Document:
    """A document that tells an event. One of states only may be written in any split."""
    while True:
        document = random_document(rng, split)
        if any(sentence.clause.verb != "be" for sentence in document):
            return document


def raw_document(code: str, rng: random.Random, split: str = "train") -> list[str]:
    """The sentences of one document in one language."""
    return write_document(code, random_document(rng, split))


def parallel_document(code: str, rng: random.Random, split: str = "train") -> tuple[str, str]:
    """The same text in English and in another language; mostly one sentence."""
    document = single(rng, split) if rng.random() < 0.7 else random_document(rng, split)
    document = document[-2:] if len(document) > 2 else document
    return (
        " ".join(write_document(ENGLISH, document)),
        " ".join(write_document(code, document)),
    )
