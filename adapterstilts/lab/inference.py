"""Draws the language-free items of the labelled tasks: sentence pairs, choices and questions."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import lexicon as lex
from .meanings import (
    Clause,
    opposite_event,
    opposite_state,
    other,
    question,
    random_effect_event,
    random_event,
    random_place,
    random_time,
    state_after,
    worded,
)


@dataclass(frozen=True)
class Pair:
    """Two clauses and how they relate; `kind` says which rule made the label."""

    first: Clause
    second: Clause
    label: str
    kind: str


@dataclass(frozen=True)
class Choice:
    """A premise, "so" or "because", and the continuations to choose from."""

    premise: Clause
    link: str
    choices: tuple[Clause, ...]
    label: int


@dataclass(frozen=True)
class Question:
    """Two told events and a question about one role of one of them."""

    told: tuple[Clause, ...]
    asked: int
    role: str
    question: Clause


Relation = tuple[Clause, Clause]
Rule = Callable[[random.Random, str], Relation]


# --- natural language inference -----------------------------------------------------------------


def _less_detail(rng: random.Random, event: Clause) -> Clause:
    return replace(
        event,
        place=None if rng.random() < 0.6 else event.place,
        time=None if rng.random() < 0.6 else event.time,
    )


def _inanimate_event(rng: random.Random, split: str) -> Clause:
    while True:
        event = random_event(rng, split, plain=True)
        if event.object and event.object.head in lex.HYPERNYM:
            return event


def _with_object(event: Clause, **changes: str | None) -> Clause:
    assert event.object is not None
    return replace(event, object=replace(event.object, **changes))  # type: ignore[arg-type]


def _same(rng: random.Random, split: str) -> Relation:
    event = random_event(rng, split, plain=True)
    return event, _less_detail(rng, event)


def _hypernym(rng: random.Random, split: str) -> Relation:
    event = _inanimate_event(rng, split)
    assert event.object is not None
    general = _with_object(event, head=lex.HYPERNYM[event.object.head], adjective=None)
    return event, _less_detail(rng, general)


def _effect(rng: random.Random, split: str) -> Relation:
    event = random_effect_event(rng, split)
    return event, state_after(event)


def _effect_denied(rng: random.Random, split: str) -> Relation:
    event, state = _effect(rng, split)
    return event, opposite_state(state)


def _added_place(rng: random.Random, split: str) -> Relation:
    event = random_event(rng, split, plain=True)
    return replace(event, place=None), replace(event, place=random_place(rng))


def _added_time(rng: random.Random, split: str) -> Relation:
    event = random_event(rng, split, plain=True)
    return replace(event, time=None), replace(event, time=random_time(rng, event.future))


def _added_adjective(rng: random.Random, split: str) -> Relation:
    event = _with_object(_inanimate_event(rng, split), adjective=None)
    return event, _with_object(event, adjective=rng.choice(lex.ADJECTIVES))


def _another_event(rng: random.Random, split: str) -> Relation:
    event = random_event(rng, split, plain=True)
    unrelated = [v for v in lex.VERBS if v not in (event.verb, lex.ANTONYM[event.verb])]
    return event, random_event(rng, split, verbs=unrelated, subject=event.subject, plain=True)


def _negation(rng: random.Random, split: str) -> Relation:
    event, second = _same(rng, split)
    return event, replace(second, negated=True)


def _antonym(rng: random.Random, split: str) -> Relation:
    event, second = _same(rng, split)
    return event, opposite_event(second)


def _opposite_adjective(rng: random.Random, split: str) -> Relation:
    event = _with_object(_inanimate_event(rng, split), adjective=rng.choice(lex.ADJECTIVES))
    assert event.object is not None
    assert event.object.adjective is not None
    return event, _with_object(event, adjective=lex.ANTONYM[event.object.adjective])


# A tiny encoder learns negation, hypernyms and added detail in a few hundred steps; antonyms and
# effects, which bind a word of one sentence to a word of the other, need many more.
NLI_RULES: dict[str, dict[Rule, float]] = {
    "entailment": {_same: 0.35, _hypernym: 0.35, _effect: 0.3},
    "neutral": {
        _added_place: 0.25,
        _added_time: 0.25,
        _added_adjective: 0.25,
        _another_event: 0.25,
    },
    "contradiction": {
        _negation: 0.35,
        _antonym: 0.2,
        _opposite_adjective: 0.15,
        _effect_denied: 0.3,
    },
}


def _pair(rng: random.Random, relation: Relation, label: str, kind: str) -> Pair:
    first, second = relation
    fronted = second.verb != "be" and rng.random() < 0.3
    second = replace(second, fronted=fronted)
    return Pair(worded(first, rng), worded(second, rng), label, kind)


def draw_nli(rng: random.Random, split: str) -> Pair:
    """A premise and a hypothesis."""
    label = rng.choice(sorted(NLI_RULES))
    rules = NLI_RULES[label]
    (rule,) = rng.choices(list(rules), weights=list(rules.values()))
    return _pair(rng, rule(rng, split), label, rule.__name__.strip("_"))


# --- paraphrase ---------------------------------------------------------------------------------


def _change(rng: random.Random, event: Clause) -> tuple[Clause, str]:
    """The event with one thing changed; not every change fits every event."""
    obj = event.object
    assert obj is not None
    kind = rng.choice(("negation", "antonym", "object", "place", "swap"))
    if kind == "antonym":
        return opposite_event(event), kind
    if kind == "object" and obj.head in lex.HYPERNYM:
        category = lex.MEMBERS[lex.HYPERNYM[obj.head]]
        return _with_object(event, head=other(rng, category, obj.head)), kind
    if kind == "place" and event.place in lex.PLACES:
        return replace(event, place=other(rng, lex.PLACES, event.place)), kind
    if kind == "swap" and obj.human:
        return replace(event, subject=obj, object=event.subject), kind
    return replace(event, negated=True), "negation"


def draw_paraphrase(rng: random.Random, split: str) -> Pair:
    """The same event in other words, or an event with one change."""
    event = random_event(rng, split, plain=True)
    if rng.random() < 0.5:
        return _pair(rng, (event, event), "same", "same")
    changed, kind = _change(rng, event)
    relation = (event, changed) if rng.random() < 0.5 else (changed, event)
    return _pair(rng, relation, "different", kind)


# --- choice of a plausible alternative ----------------------------------------------------------


def draw_copa(rng: random.Random, split: str) -> Choice:
    """An event and its effect or the opposite one; a state and its cause or the opposite one."""
    event = replace(random_effect_event(rng, split), time=None)
    state = state_after(event)
    if rng.random() < 0.5:
        premise, link, right, wrong = event, "so", state, opposite_state(state)
    else:
        premise, link, right, wrong = state, "because", event, opposite_event(event)
    label = rng.randrange(2)
    right, wrong = worded(right, rng), worded(wrong, rng)
    # Only the word in question differs between the two.
    wrong = replace(wrong, subject=right.subject, object=right.object, place_word=right.place_word)
    choices = (right, wrong) if label == 0 else (wrong, right)
    return Choice(worded(premise, rng), link, choices, label)


def draw_siqa(rng: random.Random, split: str) -> Choice:
    """An event and three states of its object: the effect, the opposite and an unrelated one."""
    event = replace(random_effect_event(rng, split), time=None)
    right = worded(state_after(event), rng)
    wrong = opposite_state(right)
    unrelated = [s for s in lex.STATES if s not in (right.predicate, wrong.predicate)]
    choices = [right, wrong, replace(right, predicate=rng.choice(unrelated))]
    order = rng.sample(range(3), 3)
    return Choice(worded(event, rng), "so", tuple(choices[k] for k in order), order.index(0))


# --- questions and single sentences -------------------------------------------------------------


def draw_question(rng: random.Random, split: str, roles: str) -> Question:
    """Two events of different actors with different verbs, and a question about one of them."""
    first = worded(random_event(rng, split, adjuncts=True, plain=True), rng)
    verbs = [v for v in lex.VERBS if v != first.verb]
    while True:
        second = random_event(rng, split, verbs=verbs, adjuncts=True, plain=True)
        if second.subject.head != first.subject.head:
            break
    told = (first, worded(second, rng))
    asked, role = rng.randrange(2), rng.choice(roles)
    return Question(told, asked, role, question(told[asked], role))


def draw_sentence(rng: random.Random, split: str) -> Clause:
    """One event."""
    return worded(random_event(rng, split), rng)
