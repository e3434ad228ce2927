from __future__ import annotations

import math
import random

import numpy as np
import pytest

from adapterstilts.evaluation.metrics import METRICS
from adapterstilts.retrieval.mining import Pair
from adapterstilts.retrieval.threshold import above, f1_curve, judged, pair_f1, precision_threshold


def _official(found: dict[Pair, float], gold: set[Pair]) -> float:
    """XTREME's ``bucc_optimize``, with the lowest score where it would fail with IndexError."""
    items = sorted(found.items(), key=lambda item: -item[1])
    correct = 0
    threshold = best = 0.0
    for i, (pair, score) in enumerate(items):
        extracted = i + 1
        correct += pair in gold
        if correct:
            precision, recall = correct / extracted, correct / len(gold)
            f1 = 2 * precision * recall / (precision + recall)
            if f1 > best:
                best = f1
                threshold = (score + items[i + 1][1]) / 2 if i + 1 < len(items) else score
    return threshold


@pytest.mark.parametrize("seed", range(30))
def test_the_official_threshold_where_scores_differ(seed: int) -> None:
    rng = random.Random(seed)
    pairs = [(f"s{i}", f"t{i}") for i in range(rng.randrange(1, 60))]
    found = {pair: rng.uniform(0.8, 1.4) for pair in pairs}
    gold = {pair for pair in pairs if rng.random() < found[pair] - 0.6} | {("s", "t")}
    curve = f1_curve(found, gold)
    assert curve.threshold == _official(found, gold)
    for threshold, f1, precision, recall in zip(curve.thresholds, curve.f1, curve.precision, curve.recall, strict=True):
        taken = above(found, threshold)
        expected = pair_f1(taken, gold)
        assert expected["f1"] == pytest.approx(f1)
        assert (expected["precision"], expected["recall"]) == pytest.approx((precision, recall))
        assert expected == METRICS["bucc"](taken, sorted(gold), language="de")


def test_the_whole_list_may_be_best() -> None:
    found = {("a", "1"): 1.2, ("b", "2"): 1.1}
    curve = f1_curve(found, set(found))
    assert curve.threshold == 1.1
    assert curve.best == 1 and curve.f1[1] == 100.0
    assert above(found, curve.threshold) == [("a", "1"), ("b", "2")]


def test_equal_scores_are_taken_together() -> None:
    found = {("a", "1"): 1.2, ("b", "2"): 1.1, ("c", "3"): 1.1, ("d", "4"): 1.0}
    curve = f1_curve(found, {("a", "1"), ("b", "2")})
    assert curve.thresholds.tolist() == pytest.approx([1.15, 1.05, 1.0])
    assert curve.f1.tolist() == pytest.approx([100 * 2 / 3, 80.0, 100 * 2 / 3])
    assert pair_f1(above(found, curve.threshold), {("a", "1"), ("b", "2")})["f1"] == pytest.approx(80.0)


def test_neighbouring_floats_are_parted() -> None:
    high = 1.1
    low = math.nextafter(high, 0)
    for upper, lower in ((high, low), (low, math.nextafter(low, 0))):
        found = {("a", "1"): upper, ("b", "2"): lower}
        curve = f1_curve(found, {("a", "1")})
        assert above(found, curve.threshold) == [("a", "1")]


def test_nothing_right_and_nothing_found() -> None:
    curve = f1_curve({("a", "1"): 1.2}, {("b", "2")})
    assert curve.best is None and curve.threshold == 0.0
    empty = f1_curve({}, {("b", "2")})
    assert empty.best is None and empty.threshold == 0.0 and len(empty.thresholds) == 0
    assert pair_f1([], [("b", "2")]) == {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert f1_curve({("a", "1"): 1.2}, set()).best is None
    assert np.isfinite(curve.f1).all()


def test_a_threshold_for_a_precision_is_the_lowest_that_has_it() -> None:
    gold = {("a", "A"), ("b", "B"), ("c", "C")}
    found = {("a", "A"): 0.9, ("b", "X"): 0.8, ("c", "C"): 0.7, ("z", "Z"): 0.65, ("b", "B"): 0.6, ("y", "A"): 0.5}
    assert ("z", "Z") not in judged(found, gold) and len(judged(found, gold)) == 5  # gold says nothing about z
    for precision, count in ((100, 1), (75, 4), (60, 5), (0, 5)):
        threshold = precision_threshold(found, gold, precision)
        assert threshold is not None
        assert sum(score >= threshold for score in judged(found, gold).values()) == count
    assert precision_threshold({("b", "X"): 1.0}, gold, 50) is None
    assert precision_threshold({}, gold, 50) is None
