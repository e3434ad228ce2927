"""Meanings: what a sentence says, independent of any language; and which split it belongs to."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from . import lexicon as lex

SPLITS = ("train", "dev", "test")
T = TypeVar("T")


@dataclass(frozen=True)
class NounPhrase:
    """A participant. `word` is the synonym in use; the head stays the concept."""

    head: str
    kind: str = "noun"  # noun | person | organisation | question
    determiner: str = "the"  # the | a quantifier | a digit
    adjective: str | None = None
    word: str = ""
    adjective_word: str = ""

    @property
    def human(self) -> bool:
        """Names and role nouns; questions count too."""
        return self.kind != "noun" or self.head in lex.ROLES

    @property
    def plural(self) -> bool:
        """More than one, in languages that mark it."""
        return self.kind == "noun" and self.determiner != "the" and self.head not in lex.MASS_NOUNS


@dataclass(frozen=True)
class Clause:
    """An event (verb and object) or a state (verb "be" and a predicate)."""

    subject: NounPhrase
    verb: str
    object: NounPhrase | None = None
    predicate: str | None = None
    place: str | None = None  # a place, a city, or "where"
    time: str | None = None  # a time, or "when"
    negated: bool = False
    future: bool = False
    fronted: bool = False  # place and time at the unusual end of the clause
    verb_word: str = ""
    place_word: str = ""


def split_of(clause: Clause) -> str:
    """The split an event belongs to: 80 % train, 10 % dev, 10 % test.

    The key leaves out everything that a task may change: which of two antonyms, which member of
    the object's category, who acts on whom, modifiers, polarity and tense. So two items from
    different splits never describe the same event, nor one made from it.
    """
    assert clause.object is not None, "only events have a split; a state has that of its event"
    verb = min(clause.verb, lex.ANTONYM[clause.verb])
    obj = clause.object
    patient = obj.head if obj.human else lex.HYPERNYM.get(obj.head, obj.head)
    key = "|".join([verb, *sorted([clause.subject.head, patient])])
    return {0: "test", 1: "dev"}.get(zlib.crc32(key.encode()) % 10, "train")


def other(rng: random.Random, items: Sequence[T], than: T) -> T:
    """A random member that differs from `than`."""
    return rng.choice([x for x in items if x != than])


def random_human(rng: random.Random) -> NounPhrase:
    """A named person, an organisation, or somebody in a role."""
    r = rng.random()
    if r < 0.55:
        name = rng.choice(lex.GIVEN_NAMES)
        if rng.random() < 0.3:
            name += " " + rng.choice(lex.SURNAMES)
        return NounPhrase(name, "person")
    if r < 0.68:
        return NounPhrase(rng.choice(lex.ORGANISATIONS), "organisation")
    adjective = rng.choice(lex.ADJECTIVES) if rng.random() < 0.2 else None
    return NounPhrase(rng.choice(lex.ROLES), adjective=adjective)


def _random_object(rng: random.Random, category: str, subject: NounPhrase, plain: bool) -> NounPhrase:
    if category == "person":
        while True:
            human = random_human(rng)
            if human.head != subject.head:
                return human
    head = category if rng.random() < 0.06 else rng.choice(lex.MEMBERS[category])
    determiner = "the"
    if not plain and rng.random() < 0.4:
        determiner = rng.choice(lex.QUANTIFIERS[:3] if head in lex.MASS_NOUNS else lex.QUANTIFIERS)
    adjective = rng.choice(lex.ADJECTIVES) if rng.random() < 0.25 else None
    return NounPhrase(head, determiner=determiner, adjective=adjective)


def random_time(rng: random.Random, future: bool) -> str:
    """A time that fits the tense."""
    return rng.choice(lex.FUTURE_TIMES if future else lex.PAST_TIMES)


def random_place(rng: random.Random) -> str:
    """A place or a city."""
    return rng.choice(lex.PLACES if rng.random() < 0.7 else lex.CITIES)


def random_event(
    rng: random.Random,
    split: str,
    *,
    verbs: Sequence[str] = lex.VERBS,
    subject: NounPhrase | None = None,
    adjuncts: bool = False,
    plain: bool = False,
) -> Clause:
    """A random event of one split. `adjuncts`: place and time for sure; `plain`: no quantifier
    and no negation."""
    while True:
        verb = rng.choice(verbs)
        actor = subject or random_human(rng)
        obj = _random_object(rng, rng.choice(lex.OBJECT_CATEGORIES[verb]), actor, plain)
        place = random_place(rng) if adjuncts or rng.random() < 0.5 else None
        future = rng.random() < 0.25
        time = random_time(rng, future) if adjuncts or rng.random() < 0.35 else None
        negated = not plain and rng.random() < 0.12
        event = Clause(actor, verb, obj, place=place, time=time, negated=negated, future=future)
        if split_of(event) == split:
            return event


def random_effect_event(rng: random.Random, split: str) -> Clause:
    """A plain past event that leaves its object in a state."""
    event = random_event(rng, split, verbs=lex.EFFECT_VERBS, plain=True)
    if event.time == "tomorrow":
        event = replace(event, time="today")
    return replace(event, future=False)


def state_after(event: Clause) -> Clause:
    """The state that the event leaves its object in."""
    assert event.object is not None
    return Clause(replace(event.object, adjective=None), "be", predicate=lex.EFFECT[event.verb])


def opposite_state(state: Clause) -> Clause:
    """The state with the antonym as predicate."""
    assert state.predicate is not None
    return replace(state, predicate=lex.ANTONYM[state.predicate])


def opposite_event(event: Clause) -> Clause:
    """The event with the antonym of its verb."""
    return replace(event, verb=lex.ANTONYM[event.verb], verb_word="")


def question(event: Clause, role: str) -> Clause:
    """The event with one role asked for (S, O, L, T), in place; another adjunct is left out."""
    if role == "S":
        return replace(event, subject=NounPhrase("who", "question"), time=None)
    if role == "O":
        assert event.object is not None
        asked = "who" if event.object.human else "what"
        return replace(event, object=NounPhrase(asked, "question"), time=None)
    if role == "L":
        return replace(event, place="where", place_word="", time=None)
    return replace(event, time="when", place=None)


def _synonym(rng: random.Random, concept: str) -> str:
    return rng.choice(lex.SYNONYMS.get(concept, (concept,)))


def _worded_phrase(phrase: NounPhrase, rng: random.Random) -> NounPhrase:
    adjective = _synonym(rng, phrase.adjective) if phrase.adjective else ""
    return replace(phrase, word=_synonym(rng, phrase.head), adjective_word=adjective)


def worded(clause: Clause, rng: random.Random) -> Clause:
    """The clause with a synonym chosen for every concept: its wording, in every language."""
    return replace(
        clause,
        subject=_worded_phrase(clause.subject, rng),
        object=_worded_phrase(clause.object, rng) if clause.object else None,
        verb_word=_synonym(rng, clause.verb),
        place_word=_synonym(rng, clause.place) if clause.place else "",
    )
