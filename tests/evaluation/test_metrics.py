"""The official values: XTREME's mock_test_data through our own metrics, and the rules those files do not reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.errors import DataError
from adapterstilts.evaluation.metrics import METRICS


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]


def _sentences(path: Path) -> list[list[str]]:
    return [block.split("\n") for block in path.read_text(encoding="utf-8").strip().split("\n\n")]


def _questions(path: Path) -> dict[str, list[Any]]:
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return {q["id"]: q["answers"] for a in articles for p in a["paragraphs"] for q in p["qas"]}


def _read(path: Path, metric: str) -> Any:
    if metric in ("chunk_f1", "iob_f1"):
        return _sentences(path)
    if metric == "squad" and path.parent.parent.name == "labels":
        return _questions(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else _lines(path)


def _language(folder: Path, task: str, metric: str, language_file: str) -> tuple[list[Any], list[Any]]:
    golds = _read(folder / "labels" / task / language_file, metric)
    predictions = _read(folder / "predictions" / task / language_file, metric)
    if isinstance(golds, dict):  # by id; an id without a prediction scores 0
        return [predictions.get(key) for key in golds], list(golds.values())
    return predictions, golds


GOLDEN = {  # protocol.md 2.3 and 8.1: means over the languages
    "pawsx": ("accuracy", 7, {"accuracy": 51.42857142857143}),
    "xnli": ("accuracy", 15, {"accuracy": 30.666666666666668}),
    "panx": ("iob_f1", 40, {"f1": 57.50793650793652, "precision": 54.729166666666664, "recall": 62.75}),
    "udpos": ("chunk_f1", 33, {"f1": 70.21746048354693, "precision": 71.02232625883823, "recall": 69.54982073976082}),
    "bucc2018": ("bucc", 4, {"f1": 55.0}),
    "tatoeba": ("tatoeba", 36, {"accuracy": 53.611111111111114}),
    "xquad": ("squad", 11, {"em": 77.27272727272727, "f1": 79.9586776859504}),
    "tydiqa": ("squad", 9, {"em": 88.88888888888889, "f1": 97.22222222222223}),
    "mewslix": ("map@20", 11, {"map@20": 14.39025156130419}),
}


@pytest.mark.parametrize("task", GOLDEN)
def test_golden_values_of_xtreme(task: str, shared_data: Path) -> None:
    name, languages, expected = GOLDEN[task]
    metric = METRICS[name]
    folder = shared_data / "xtreme_mock"
    files = sorted((folder / "labels" / task).iterdir())
    assert len(files) == languages
    results = [
        metric(*_language(folder, task, name, file.name), language=file.stem.removeprefix("test-")) for file in files
    ]
    for key, value in expected.items():
        assert sum(result[key] for result in results) / languages == pytest.approx(value, abs=1e-9)
    assert metric.main_key in expected
    assert set(results[0]) == set(metric.keys)


@pytest.mark.parametrize("task", GOLDEN)
def test_golds_as_predictions_give_100(task: str, shared_data: Path) -> None:
    name = GOLDEN[task][0]
    metric = METRICS[name]
    folder = shared_data / "xtreme_mock"
    for file in (folder / "labels" / task).iterdir():
        _, golds = _language(folder, task, name, file.name)
        same = [gold[0] for gold in golds] if name == "squad" else golds
        assert metric(same, golds, language="en") == dict.fromkeys(metric.keys, 100.0)
        assert set(metric.example_scores(same, golds, language="en")) == {1.0}


def test_word_accuracy_of_the_mock_pos_stands_beside_the_chunk_f1(shared_data: Path) -> None:
    folder = shared_data / "xtreme_mock"
    metric = METRICS["chunk_f1"]
    results = [
        metric(*_language(folder, "udpos", "chunk_f1", file.name), language="en")
        for file in (folder / "labels" / "udpos").iterdir()
    ]
    assert sum(result["accuracy"] for result in results) / len(results) == pytest.approx(74.194, abs=5e-4)


def test_a_stream_gives_the_value_of_the_whole(shared_data: Path) -> None:
    predictions, golds = _language(shared_data / "xtreme_mock", "udpos", "chunk_f1", "test-de.tsv")
    metric = METRICS["chunk_f1"]
    state = metric.start("de")
    scores = [state.update(prediction, gold) for prediction, gold in zip(predictions, golds, strict=True)]
    assert state.n == len(golds)
    assert state.result() == metric(predictions, golds, language="de")
    assert scores == metric.example_scores(predictions, golds, language="de")


def test_labels_are_compared_as_text() -> None:
    assert METRICS["accuracy"]([1, " a ", None], ["1", "a", "b"], language="en") == {"accuracy": pytest.approx(200 / 3)}
    assert METRICS["accuracy"].example_scores([0, 1], [0, 0], language="en") == [1.0, 0.0]


def test_unequal_lengths_and_unknown_golds_are_refused() -> None:
    with pytest.raises(DataError, match="1 predictions for 2 golds"):
        METRICS["accuracy"](["a"], ["a", "b"], language="sw")
    with pytest.raises(DataError, match=r"accuracy \(sw\): example 1 has no gold label"):
        METRICS["accuracy"](["a", "b"], ["a", None], language="sw")
    with pytest.raises(DataError, match="no example to score"):
        METRICS["squad"]([], [], language="en")


def test_average_precision_looks_at_twenty() -> None:
    ranked = [f"Q{i}" for i in range(30)]
    scores = METRICS["map@20"].example_scores(
        [ranked, ranked, ranked, None], [["Q3"], ["Q19"], ["Q20"], ["Q1"]], language="en"
    )
    assert scores == [1 / 4, 1 / 20, 0.0, 0.0]


def test_mined_pairs_are_sets_and_their_examples_depend_on_the_golds_alone() -> None:
    gold = [("a", "1"), ("b", "2"), ("b", "3")]
    one = [("a", "1"), ("a", "1"), ("b", "2"), ("c", "9")]  # a repeated pair counts once
    third = pytest.approx(200 / 3)
    assert METRICS["bucc"](one, gold, language="de") == {"f1": third, "precision": third, "recall": third}
    assert METRICS["bucc"].example_scores(one, gold, language="de") == [1.0, 2 / 3, 0.0]
    assert METRICS["bucc"].example_scores([], gold, language="de") == [0.0, 0.0, 1.0]
    assert METRICS["bucc"]([], gold, language="de") == {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert METRICS["bucc"](["a\t1"], ["a\t1"], language="de")["f1"] == 100.0
