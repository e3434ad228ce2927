"""A second domain of the world: other topics and another template style, with the labels of the first.

The first domain talks of everything alike, half of its events without a place, a third with a time, both at their usual
end of the clause. Reports, the second one, are about what the first seldom is (who acts: institutions and offices
rather than people by name; what is acted on: a few kinds of things), and each event opens with its time and place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

from . import lexicon as lex
from .inference import Choice
from .meanings import Clause, random_place

Draw = Callable[[random.Random, str], Hashable]

# How often an item on a topic is kept: a topic weighs 1 in reports and this little elsewhere.
RARE = 0.15
TOPICS = frozenset(list(lex.MEMBERS)[: len(lex.MEMBERS) // 2])


def reports(draw: Draw) -> Draw:
    """The same task in reports: items are kept by topic, then told in the style of reports."""

    def drawn(rng: random.Random, split: str) -> Any:
        while True:
            item = draw(rng, split)
            event = _event(item)
            if rng.random() < _weight(event):
                return _styled(item, rng)

    return drawn


def _event(item: Any) -> Clause:
    """The event an item is about; of a choice made from a state, its first choice."""
    if isinstance(item, Choice):
        return item.premise if item.premise.verb != "be" else item.choices[0]
    assert isinstance(item, Clause)
    return item


def _weight(event: Clause) -> float:
    assert event.object is not None
    weight = 1.0 if event.subject.kind != "person" else RARE
    topic = event.object.head if event.object.human else lex.HYPERNYM.get(event.object.head, event.object.head)
    return weight * (1.0 if topic in TOPICS else RARE)


def _styled(item: Any, rng: random.Random) -> Any:
    """Every event of the item opens with its time and place; all events of one item share them."""
    place, time = random_place(rng), rng.choice(lex.PAST_TIMES)

    def told(clause: Clause) -> Clause:
        if clause.verb == "be":
            return clause
        known = {"place": clause.place or place, "time": clause.time or (None if clause.future else time)}
        return replace(clause, **known, fronted=True)  # type: ignore[arg-type]

    if isinstance(item, Choice):
        return replace(item, premise=told(item.premise), choices=tuple(told(choice) for choice in item.choices))
    return told(item)
