"""Sentences in two languages: all paired (lab-tatoeba), or some among distractors (lab-bucc)."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from typing import Any

from . import lexicon as lex
from .grammar import plain_text, realise
from .inference import draw_sentence
from .languages import ENGLISH
from .languages import language as checked_language
from .meanings import Clause, opposite_event, other, worded
from .tasks import check_split, distinct, lab_task

# Mining corpora come in blocks, so that a longer corpus begins with the shorter one.
BLOCK = 20
PAIRS_PER_BLOCK = 6
NEAR_PER_BLOCK = 4  # distractors per side that differ from a paired sentence in one thing


def bitext(task: str, language: str, split: str, n: int, seed: int = 0) -> dict[str, Any]:
    """n sentences per side; the source is the foreign language, the target English."""
    lab_task(task, bitext=True)
    checked_language(language)
    check_split(split)
    if language == ENGLISH:
        raise ValueError("a bitext needs a language other than English")
    rng = random.Random(f"{task}|{split}|{seed}")
    if task == "lab-tatoeba":
        meanings = list(islice(distinct(draw_sentence, rng, split), n))
        source = target = meanings
        gold = [(i, i) for i in range(n)]
    else:
        source, target, gold = _mining_corpora(rng, split, n)
    return {
        "source": [(_id(language, i), _text(language, c)) for i, c in enumerate(source)],
        "target": [(_id(ENGLISH, i), _text(ENGLISH, c)) for i, c in enumerate(target)],
        "gold": [(_id(language, i), _id(ENGLISH, j)) for i, j in gold],
    }


def _id(code: str, index: int) -> str:
    return f"{code}-{index + 1:09d}"


def _text(code: str, clause: Clause) -> str:
    return plain_text(realise(code, clause))


def _near(rng: random.Random, clause: Clause) -> Clause:
    """The clause with one thing changed: the verb's antonym, the object, the time or polarity."""
    kind = rng.choice(("verb", "object", "time", "polarity"))
    obj = clause.object
    if kind == "verb":
        return worded(opposite_event(clause), rng)
    if kind == "object" and obj and obj.head in lex.HYPERNYM:
        head = other(rng, lex.MEMBERS[lex.HYPERNYM[obj.head]], obj.head)
        return replace(clause, object=replace(obj, head=head, word=head))
    if kind == "time":
        times = lex.FUTURE_TIMES if clause.future else lex.PAST_TIMES
        return replace(clause, time=other(rng, times, clause.time))
    return replace(clause, negated=not clause.negated)


def _mining_corpora(rng: random.Random, split: str, n: int) -> tuple[list[Clause], list[Clause], list[tuple[int, int]]]:
    """Both sides and the indices of the partners; no meaning is on both sides by accident."""
    fresh = distinct(draw_sentence, rng, split)
    used: set[Clause] = set()
    sides: tuple[list[Clause], list[Clause]] = ([], [])
    gold: list[tuple[int, int]] = []
    while len(sides[0]) < n:
        paired = _unused(fresh, used, PAIRS_PER_BLOCK)
        places: list[list[int]] = []
        for side in sides:
            block = paired + _unused((_near(rng, rng.choice(paired)) for _ in iter(int, 1)), used, NEAR_PER_BLOCK)
            block += _unused(fresh, used, BLOCK - len(block))
            order = rng.sample(range(BLOCK), BLOCK)
            places.append([len(side) + order.index(k) for k in range(PAIRS_PER_BLOCK)])
            side += [block[k] for k in order]
        gold += zip(*places, strict=True)
    return sides[0][:n], sides[1][:n], sorted((i, j) for i, j in gold if i < n and j < n)


def _unused(source: Any, used: set[Clause], count: int) -> list[Clause]:
    taken: list[Clause] = []
    while len(taken) < count:
        clause = next(source)
        if clause not in used:
            used.add(clause)
            taken.append(clause)
    return taken
