from __future__ import annotations

import pytest

from adapterstilts.evaluation.chance import at_chance, chance, majority


def test_chance_of_labels_and_choices() -> None:
    assert chance(["entailment", "neutral", "contradiction"]) == pytest.approx(100 / 3)
    assert chance(choices=1000) == pytest.approx(0.1)
    assert chance(choices=[2, 4]) == pytest.approx(37.5)
    assert chance() is None


def test_majority_of_labels_and_of_tags() -> None:
    assert majority(["a", "b", "a", "a"]) == 75.0
    assert majority([["NOUN", "VERB"], ["NOUN", "X"]]) == 50.0
    assert majority([]) == 0.0


def test_a_result_stands_out_by_its_number_of_examples() -> None:
    assert at_chance(54.0, 500, 50.0)  # XCOPA: 500 items, about 4.4 points
    assert not at_chance(55.0, 500, 50.0)
    assert not at_chance(54.0, 5010, 50.0)
    assert at_chance(20.0, 100, 33.3)
    assert at_chance(0.0, 0, 0.0)
