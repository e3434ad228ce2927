"""Exact match and F1 of answers: the SQuAD script (XQuAD, TyDiQA, SQuAD) and the MLQA script (per language).

Sources: SQuAD ``evaluate-v1.1.py`` and, for unanswerable questions, ``evaluate-v2.0.py``; facebookresearch/MLQA
``mlqa_evaluation_v1.py``. Both remove punctuation before articles.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from adapterstilts.errors import DataError

Normaliser = Callable[[str], str]

_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ENGLISH_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MLQA_ARTICLES = {
    "en": _ENGLISH_ARTICLES,
    "es": re.compile(r"\b(un|una|unos|unas|el|la|los|las)\b"),
    "vi": re.compile(r"\b(của|là|cái|chiếc|những)\b"),
    "de": re.compile(r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b"),
    # The official pattern has a first branch that can never match; the second takes the article wherever it stands.
    "ar": re.compile("ال"),
    "hi": None,
    "zh": None,
}
_CHINESE = re.compile(r"([\u4e00-\u9fa5])")


def answer_scores(prediction: str, golds: Sequence[str], normalise: Normaliser) -> tuple[float, float]:
    """(F1, exact match) of one answer, each the best over the golds, 0..1. No gold = unanswerable (SQuAD v2 rule)."""
    words = normalise(prediction)
    if not golds:
        empty = float(not words)
        return empty, empty
    wanted = [normalise(gold) for gold in golds]
    return max(_overlap(words.split(), gold.split()) for gold in wanted), float(words in wanted)


def _overlap(prediction: list[str], gold: list[str]) -> float:
    same = sum((Counter(prediction) & Counter(gold)).values())
    if not same:
        return 0.0  # two empty answers too: SQuAD v1.1 and MLQA give them exact match 1 and F1 0
    precision, recall = same / len(prediction), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def squad_normalise(text: str) -> str:
    """The English rules, used for every language of XQuAD and TyDiQA."""
    return " ".join(_ENGLISH_ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())


@cache
def mlqa_normaliser(language: str) -> Normaliser:
    """The rules of one MLQA language (of the context). Raises DataError for a language MLQA does not have."""
    if language not in _MLQA_ARTICLES:
        raise DataError(
            f"mlqa has no answer rules for language {language!r}",
            why=f"the official script knows {', '.join(sorted(_MLQA_ARTICLES))} only",
            fix="use metric: squad for other languages",
        )
    articles = _MLQA_ARTICLES[language]

    def normalise(text: str) -> str:
        text = "".join(letter for letter in text.lower() if not _is_punctuation(letter))
        if articles:
            text = articles.sub(" ", text)
        if language == "zh":
            text = _CHINESE.sub(r" \1 ", text)  # every Chinese character is a word of its own
        return " ".join(text.split())

    return normalise


def _is_punctuation(letter: str) -> bool:
    return letter in string.punctuation or unicodedata.category(letter).startswith("P")
