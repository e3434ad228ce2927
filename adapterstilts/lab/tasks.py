"""Labelled examples made from meanings.

A task draws language-free items, so the examples of all languages are translations of each other
(as in XNLI and XCOPA), and example i depends on task, split and seed only, not on how many are
asked for. What makes intermediate training meaningful: lab-nli, lab-siqa and lab-copa need the same
relations (event and state, antonyms), lab-siqa has the format of lab-copa, and lab-qa-who has the
format of lab-qa.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from . import inference, writing
from .corpus import event_document
from .domains import reports
from .languages import language as checked_language
from .meanings import SPLITS
from .writing import Example

MAX_REPEATS = 5000  # draws in a row that were seen before: the world is exhausted

UPOS = (
    "NOUN", "VERB", "ADJ", "PROPN", "DET", "NUM", "ADP", "ADV", "AUX", "PART", "PRON", "PUNCT",
)  # fmt: skip
IOB2 = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


@dataclass(frozen=True)
class LabTask:
    """What a task of the world is."""

    name: str
    format: str  # classification | multiple_choice | tagging | span | masked_lm | bitext
    labels: tuple[str, ...]
    description: str


TASKS: dict[str, LabTask] = {
    task.name: task
    for task in (
        LabTask(
            "lab-nli",
            "classification",
            ("contradiction", "entailment", "neutral"),
            "Does the second sentence follow from the first: negation, antonyms, effects, detail.",
        ),
        LabTask(
            "lab-para",
            "classification",
            ("different", "same"),
            "Do two sentences say the same: synonyms and word order against one changed thing.",
        ),
        LabTask(
            "lab-copa",
            "multiple_choice",
            (),
            "Two choices: which state an event leads to, or which event led to a state.",
        ),
        LabTask("lab-copa-reports", "multiple_choice", (), "lab-copa in another domain: other topics, another style."),
        LabTask("lab-siqa", "multiple_choice", (), "Three choices: the state an event leads to."),
        LabTask("lab-qa", "span", (), "Where and when questions about one of two events."),
        LabTask("lab-qa-who", "span", (), "Who and what questions about one of two events."),
        LabTask("lab-pos", "tagging", UPOS, "Parts of speech (universal tags)."),
        LabTask("lab-pos-reports", "tagging", UPOS, "lab-pos in another domain: other topics, another style."),
        LabTask("lab-ner", "tagging", IOB2, "Persons, organisations and cities (IOB2)."),
        LabTask("lab-mlm", "masked_lm", (), "Raw text for masked-word training."),
        LabTask("lab-tatoeba", "bitext", (), "Sentences and their English translations."),
        LabTask("lab-bucc", "bitext", (), "Two corpora; about 30 % of the sentences are paired."),
    )
}

Draw = Callable[[random.Random, str], Hashable]
Write = Callable[[str, Any], Example]

_MAKERS: dict[str, tuple[Draw, Write]] = {
    "lab-nli": (inference.draw_nli, writing.write_pair),
    "lab-para": (inference.draw_paraphrase, writing.write_pair),
    "lab-copa": (inference.draw_copa, writing.write_choice),
    "lab-copa-reports": (reports(inference.draw_copa), writing.write_choice),
    "lab-siqa": (inference.draw_siqa, writing.write_choice),
    "lab-qa": (partial(inference.draw_question, roles="LT"), writing.write_span),
    "lab-qa-who": (partial(inference.draw_question, roles="SO"), writing.write_span),
    "lab-pos": (inference.draw_sentence, writing.write_upos),
    "lab-pos-reports": (reports(inference.draw_sentence), writing.write_upos),
    "lab-ner": (inference.draw_sentence, writing.write_ner),
    "lab-mlm": (event_document, writing.write_raw),
}


def check_split(split: str) -> None:
    """Refuse a split that does not exist."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; there are {', '.join(SPLITS)}")


def lab_task(name: str, *, bitext: bool) -> LabTask:
    """The task of a name, or an error that lists the names of that sort."""
    fitting = [t.name for t in TASKS.values() if (t.format == "bitext") == bitext]
    if name not in fitting:
        raise ValueError(f"{name!r} is none of {', '.join(fitting)}")
    return TASKS[name]


def distinct(draw: Draw, rng: random.Random, split: str) -> Iterator[Any]:
    """Items that differ from all earlier ones."""
    seen: set[Hashable] = set()
    repeats = 0
    while repeats < MAX_REPEATS:
        item = draw(rng, split)
        if item in seen:
            repeats += 1
            continue
        seen.add(item)
        repeats = 0
        yield item
    raise ValueError(f"the {split} split has no more than about {len(seen)} distinct items")


def generate(task: str, language: str, split: str, n: int, seed: int = 0) -> list[Example]:
    """The first n examples of a task; the same meanings in every language."""
    lab_task(task, bitext=False)
    checked_language(language)
    check_split(split)
    draw, write = _MAKERS[task]
    items = distinct(draw, random.Random(f"{task}|{split}|{seed}"), split)
    return [{"id": f"{split}-{seed}-{i:06d}", **write(language, item)} for i, item in enumerate(islice(items, n))]
