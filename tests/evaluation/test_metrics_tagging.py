from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterstilts.errors import DataError
from adapterstilts.evaluation.metrics import METRICS
from adapterstilts.evaluation.tagging import chunks

UPOS = ["ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PRON", "PUNCT", "SCONJ", "SYM", "VERB", "X"]
IOB = ["O", *(f"{letter}-{kind}" for letter in "BI" for kind in ("LOC", "ORG", "PER"))]


def _runs(tags: list[str]) -> list[tuple[str, int, int]]:
    """The closed form for UPOS: runs of equal tags, but tags that start with S stand alone (protocol 2.4)."""
    found, place = [], 0
    for tag, run in groupby(tags):
        size = len(list(run))
        if tag.startswith("S"):
            found += [(tag, place + i, place + i) for i in range(size)]
        else:
            found.append((tag, place, place + size - 1))
        place += size
    return found


@given(st.lists(st.sampled_from(UPOS), max_size=30))
def test_upos_chunks_are_runs_of_equal_tags_except_s(tags: list[str]) -> None:
    assert chunks(tags) == _runs(tags)


@given(st.lists(st.sampled_from(IOB), max_size=30))
def test_iob_chunks_cover_exactly_the_words_that_are_not_o(tags: list[str]) -> None:
    inside = [place for _, first, last in chunks(tags) for place in range(first, last + 1)]
    assert inside == [place for place, tag in enumerate(tags) if tag != "O"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([], []),
        (["O", "O"], []),
        (["B-PER", "I-PER", "O", "B-LOC"], [("PER", 0, 1), ("LOC", 3, 3)]),
        (["I-PER", "I-PER"], [("PER", 0, 1)]),  # an I after O opens a chunk
        (["B-PER", "I-LOC"], [("PER", 0, 0), ("LOC", 1, 1)]),  # and an I of another type
        (["B-PER", "B-PER"], [("PER", 0, 0), ("PER", 1, 1)]),
        (["S-LOC", "S-LOC", "B-ORG", "I-ORG", "E-ORG"], [("LOC", 0, 0), ("LOC", 1, 1), ("ORG", 2, 4)]),
        (["SCONJ", "SCONJ", "NOUN", "NOUN"], [("SCONJ", 0, 0), ("SCONJ", 1, 1), ("NOUN", 2, 3)]),
        (["INTJ", "INTJ", "X"], [("INTJ", 0, 1), ("X", 2, 2)]),
    ],
)
def test_chunks(tags: list[str], expected: list[tuple[str, int, int]]) -> None:
    assert chunks(tags) == expected


def test_span_and_type_must_match() -> None:
    gold = [["B-PER", "I-PER", "O"], ["O", "B-LOC", "O"]]
    predicted = [["B-PER", "O", "O"], ["O", "B-LOC", "O"]]
    result = METRICS["iob_f1"](predicted, gold, language="en")
    assert result == {"f1": 50.0, "precision": 50.0, "recall": 50.0, "accuracy": pytest.approx(500 / 6)}


def test_a_sentence_without_entities_is_right_when_none_is_claimed() -> None:
    metric = METRICS["iob_f1"]
    assert metric.example_scores([["O", "O"], ["B-PER", "O"], None], [["O", "O"]] * 3, language="en") == [1.0, 0.0, 1.0]


def test_a_missing_sentence_loses_its_chunks_and_words() -> None:
    result = METRICS["chunk_f1"]([["NOUN", "VERB"], None], [["NOUN", "VERB"]] * 2, language="en")
    assert result == {"f1": pytest.approx(200 / 3), "precision": 100.0, "recall": 50.0, "accuracy": 50.0}


def test_a_prediction_of_another_length_is_refused() -> None:
    with pytest.raises(DataError, match="1 predicted tags for a sentence of 2 words: NOUN VERB"):
        METRICS["chunk_f1"]([["NOUN"]], [["NOUN", "VERB"]], language="en")
