"""The second domain: other topics and another style, the same labels."""

from __future__ import annotations

from collections import Counter

import pytest

from adapterstilts import lab
from adapterstilts.lab import lexicon as lex

PLACES = {"in"}


def opening(task: str, n: int = 300) -> float:
    """Share of events that begin with their place."""
    texts = [text for e in lab.generate(task, "en", "test", n) for text in (e["prompt"], *e["choices"])]
    events = [text for text in texts if " is " not in text and " are " not in text]
    return sum(text.split()[0] in PLACES for text in events) / len(events)


def test_reports_open_with_their_place() -> None:
    assert opening("lab-copa-reports") > 0.95
    assert opening("lab-copa") < 0.05


def test_reports_have_other_topics() -> None:
    def people(task: str) -> float:
        found = Counter(tag == "B-PER" for e in lab.generate(task, "en", "test", 300) for tag in names(e))
        return found[True] / 300

    def names(example: dict) -> list[str]:
        return ["B-PER" for word in example["words"] if word in lex.GIVEN_NAMES]

    assert people("lab-pos-reports") < 0.6 * people("lab-pos")


@pytest.mark.parametrize("split", ["dev", "test"])
def test_a_choice_keeps_its_label(split: str) -> None:
    """The right choice follows by the same relation: an effect verb and its state, never the opposite pair."""
    right = {(verb, state) for verb, state in lex.EFFECT.items()}
    words = {form: verb for verb in lex.EFFECT for form in (lex.PAST_FORM[w] for w in lex.SYNONYMS.get(verb, (verb,)))}
    for example in lab.generate("lab-copa-reports", "en", split, 200):
        texts = [example["prompt"], example["choices"][example["label"]]]
        event = next(t for t in texts if words.keys() & set(t.split()))
        state = next(t for t in texts if t is not event)
        (verb,) = {words[w] for w in event.split() if w in words}
        told = set(state.replace(" .", "").split())
        assert any(v == verb and set(lex.SYNONYMS.get(s, (s,))) & told for v, s in right), example


def test_reports_are_parallel_too() -> None:
    english, other = (lab.generate("lab-copa-reports", code, "test", 20) for code in ("en", "qaf"))
    assert [e["label"] for e in english] == [e["label"] for e in other]
