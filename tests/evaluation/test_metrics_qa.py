from __future__ import annotations

import pytest

from adapterstilts.errors import DataError
from adapterstilts.evaluation.metrics import METRICS
from adapterstilts.evaluation.qa import mlqa_normaliser, squad_normalise


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat's, a hat!", "cats hat"),
        ("an-the", "anthe"),  # punctuation goes before articles
        ("« 308 »", "« 308 »"),  # ASCII punctuation only
        ("ประเทศไทย", "ประเทศไทย"),
    ],
)
def test_squad_rules(text: str, expected: str) -> None:
    assert squad_normalise(text) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The «cat», a hat", "cat hat"),
        ("es", "¿La casa y unos perros?", "casa y perros"),
        ("vi", "Những con mèo của tôi", "con mèo tôi"),
        ("de", "Die Katze eines Mannes", "katze mannes"),
        ("ar", "الكتاب والسلام", "كتاب و سلام"),  # "ال" goes inside words too
        ("hi", "एक, किताब।", "एक किताब"),  # the danda is punctuation
        ("zh", "《北京大学》 in 2008年", "北 京 大 学 in 2008 年"),
        ("zh", "the a", "the a"),
    ],
)
def test_mlqa_rules(language: str, text: str, expected: str) -> None:
    assert mlqa_normaliser(language)(text) == expected


def test_mlqa_has_seven_languages() -> None:
    with pytest.raises(DataError, match="no answer rules for language 'sw'"):
        METRICS["mlqa"](["x"], [["x"]], language="sw")


def test_chinese_answers_overlap_by_character_under_mlqa_and_not_under_squad() -> None:
    assert METRICS["mlqa"](["北京大学"], [["北京"]], language="zh") == {"f1": pytest.approx(200 / 3), "em": 0.0}
    assert METRICS["squad"](["北京大学"], [["北京"]], language="zh") == {"f1": 0.0, "em": 0.0}


def test_the_best_gold_counts_and_a_missing_answer_scores_zero() -> None:
    metric = METRICS["squad"]
    golds = [["in Paris", "Paris"], [{"text": "a red car", "start": 3}], ["x"]]
    assert metric(["Paris", {"text": "red", "score": 1.0}, None], golds, language="en") == {
        "f1": pytest.approx(100 * (1 + 2 / 3) / 3),
        "em": pytest.approx(100 / 3),
    }
    assert metric.example_scores(["Paris", "red", None], golds, language="en") == [1.0, pytest.approx(2 / 3), 0.0]


def test_overlap_counts_repeated_words_once_each() -> None:
    assert METRICS["squad"](["dog dog cat"], [["dog cat cat"]], language="en")["f1"] == pytest.approx(200 / 3)


def test_unanswerable_questions_want_an_empty_answer() -> None:
    assert METRICS["squad"].example_scores(["", "the", "Paris"], [[], [], []], language="en") == [1.0, 1.0, 0.0]


def test_answers_of_articles_alone_match_exactly_with_f1_zero() -> None:
    assert METRICS["squad"](["the"], [["a"]], language="en") == {"f1": 0.0, "em": 100.0}  # as SQuAD v1.1 has it
