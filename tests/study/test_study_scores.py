"""Reading, filtering and pairing of score rows."""

from __future__ import annotations

from typing import Any

import pytest

from adapterstilts.errors import DataError
from adapterstilts.study.gains import gain, gap, overall, per_language, task_value, verdict, zero_shot_languages
from adapterstilts.study.scores import Pair, Scores, main_metric


def row(**changes: Any) -> dict[str, Any]:
    plain = {
        "base": "b0",
        "arm": "none",
        "seed": 1,
        "task": "xnli",
        "language": "en",
        "split": "test",
        "metric": "accuracy",
        "value": 50.0,
        "n": 100,
        "stage": "s",
    }
    return plain | changes


def table(values: dict[tuple[str, str, int, str], float]) -> Scores:
    return Scores.read(row(arm=a, base=b, seed=s, language=x, value=v) for (a, b, s, x), v in values.items())


def test_rows_round_trip_without_empty_fields() -> None:
    rows = [row(), row(language="sw", layer=2, variant="raw")]
    assert Scores.read(rows).plain() == rows


@pytest.mark.parametrize(
    ("change", "words"),
    [({"value": "high"}, "not a number"), ({"value": float("nan")}, "not a number"), ({"value": None}, "not a number")],
)
def test_a_bad_value_names_its_row(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        Scores.read([row(), row(**change)])
    assert caught.value.where == "score row 1"


def test_missing_fields_and_two_values_for_one_cell_are_errors() -> None:
    broken = row()
    del broken["stage"], broken["arm"]
    with pytest.raises(DataError, match="missing arm, stage"):
        Scores.read([broken])
    with pytest.raises(DataError, match="two scores for one cell: 50 and 51"):
        Scores.read([row(), row(value=51.0)])
    assert len(Scores.read([row(), row()])) == 1


def test_main_rows_take_the_main_metric_and_the_last_split() -> None:
    scores = Scores.read(
        [
            row(metric="em", value=1.0),
            row(metric="f1", value=2.0),
            row(metric="f1", value=3.0, split="dev"),
            row(metric="f1", value=4.0, split="dev", language="sw"),
        ]
    )
    assert [(r.language, r.split, r.value) for r in scores.main().rows] == [("en", "test", 2.0), ("sw", "dev", 4.0)]
    assert main_metric(["precision", "accuracy"]) == "accuracy"
    with pytest.raises(DataError, match="one task expected"):
        Scores.read([row(), row(task="xquad")]).main()


def test_gain_is_paired_by_base_and_seed() -> None:
    values = {}
    for base, shift in (("b0", 0.0), ("b1", 30.0)):
        for seed in (1, 2, 3):
            for language, level in (("en", 80.0), ("sw", 50.0), ("ur", 40.0)):
                values["none", base, seed, language] = level + shift + seed
                values["stack", base, seed, language] = level + shift + seed + (4.0 if language == "sw" else 2.0)
    del values["stack", "b1", 3, "ur"]  # an incomplete run is left out, not averaged over fewer languages
    scores = table(values)
    others = zero_shot_languages(scores)
    assert others == ("sw", "ur")
    found = gain(scores, "stack", "none", others, "zero-shot")
    assert found is not None
    assert found.values == pytest.approx([3.0] * 5)
    assert Pair("b1", 3) not in found.pairs
    assert found.by_base == pytest.approx({"b0": 3.0, "b1": 3.0})
    assert {r.arm for r in found.rows} == {"stack", "none"}
    by_language = per_language(scores, "stack", "none", others)
    assert [g.mean for g in by_language] == pytest.approx([4.0, 2.0])
    assert all(g.family == 2 for g in by_language)
    assert gain(scores, "fuse", "none", others, "zero-shot") is None
    spread = gap(scores, "none")
    assert spread is not None and spread.mean == pytest.approx(35.0)


def test_one_run_can_not_claim_anything() -> None:
    scores = table({("none", "b0", 1, "sw"): 40.0, ("stack", "b0", 1, "sw"): 90.0})
    found = gain(scores, "stack", "none", ("sw",), "sw")
    assert found is not None and found.interval.low is None and found.p is None
    assert verdict(found) == "no gain found"


def test_equal_gains_of_three_seeds_are_not_certain() -> None:
    cells = {(arm, "b0", seed, "sw"): level for arm, level in (("none", 40.0), ("stack", 42.0)) for seed in (1, 2, 3)}
    found = gain(table(cells), "stack", "none", ("sw",), "sw")
    assert found is not None and found.p == pytest.approx(0.25) and verdict(found) == "no gain found"


def test_the_bare_base_stands_for_every_seed() -> None:
    cells = {("base", "b0", 0, "sw"): 40.0, ("nli", "b0", 1, "sw"): 45.0, ("nli", "b0", 2, "sw"): 47.0}
    found = gain(table(cells), "nli", "base", ("sw",), "sw")
    assert found is not None and found.values == pytest.approx([5.0, 7.0])


def test_a_trained_baseline_never_stands_for_another_seed() -> None:
    cells = {("none", "b0", 1, "sw"): 40.0, ("nli", "b0", 1, "sw"): 45.0, ("nli", "b0", 2, "sw"): 47.0}
    found = gain(table(cells), "nli", "none", ("sw",), "sw")
    assert found is not None and found.values == pytest.approx([5.0])


def test_official_averages() -> None:
    assert task_value({"f1": 76.6, "em": 60.8}) == pytest.approx(68.7)
    assert task_value({"precision": 1.0, "f1": 2.0, "accuracy": 3.0}) == 2.0
    with_retrieval, without = overall({"xnli": 80.0, "tatoeba": 30.0}, retrieval=("tatoeba",))
    assert (with_retrieval, without) == (55.0, 80.0)
