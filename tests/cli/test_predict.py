"""predict: the answers are those that evaluate scores, streamed and in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import adapterstilts
from adapterstilts.api.predicting import predict
from adapterstilts.cli.root import root
from adapterstilts.errors import DataError, RecipeError
from tests.cli.conftest import Program

KINDS = ["t-nli", "lab-copa", "lab-pos", "t-qa"]


@pytest.fixture(scope="module")
def modules(_done: Program) -> dict[str, str]:
    """One module a format, of one base."""
    for task in KINDS:
        _done("train", task, "--base", "lab/s0", "--limit", "20", "--epochs", "1", "--name", f"p-{task}")
    return {task: f"p-{task}" for task in KINDS}


def scored(program: Program, task: str, module: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(examples, predictions) of what evaluate wrote."""
    program("evaluate", module, task, "--languages", "en", "--limit", "20")
    for entry in program.json("ls", "artifacts"):
        if entry["kind"] == "evaluate" and f"{task} with" in entry["label"]:
            manifest = program.json("show", entry["hash"])["manifest"]
            data = program.json("show", manifest["parents"]["data:en"])["path"]
            path = program.json("show", entry["hash"])["path"]
            break
    lines = [Path(data, "examples.jsonl"), Path(path, "predictions.en.jsonl")]
    first, second = ([json.loads(line) for line in file.read_text().splitlines()] for file in lines)
    return first[: len(second)], second


@pytest.mark.parametrize("task", KINDS)
def test_answers_are_those_that_are_scored(done: Program, modules: dict[str, str], task: str, tmp_path: Path) -> None:
    examples, predictions = scored(done, task, modules[task])
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps(example) for example in examples))
    lines = done("predict", modules[task], task, "--input", file, "--chunk", "7").stdout.splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["id"] for answer in answers] == [example["id"] for example in examples]
    for answer, wanted in zip(answers, predictions, strict=True):
        if task == "t-qa":
            assert answer["prediction"]["text"] == wanted["prediction"]["text"]
        else:
            assert answer["prediction"] == wanted["prediction"]
        shares = answer.get("probabilities", {})
        values = list(shares.values()) if isinstance(shares, dict) else shares
        assert not values or sum(values) == pytest.approx(1, abs=1e-4)


def test_rows_may_name_their_modules_and_order_stays(done: Program, modules: dict[str, str]) -> None:
    texts = [{"text_a": f"text {n}", "text_b": "another"} for n in range(6)]
    places: Any = {"store": done.store, "task_files": [done.folder / "tasks"]}
    alone = {
        name: [row["probabilities"] for row in predict(name, "t-nli", texts, **places)]
        for name in ("p-t-nli", "small/nli")
    }
    assert alone["p-t-nli"] != alone["small/nli"]
    names = ["p-t-nli", "small/nli", "small/nli", None, "small/nli", "p-t-nli"]
    rows = [{**row, **({"module": name} if name else {})} for row, name in zip(texts, names, strict=True)]
    mixed = list(predict("p-t-nli", "t-nli", rows, module_per_row=True, chunk=4, **places))
    for number, (row, name) in enumerate(zip(mixed, names, strict=True)):
        assert row["module"] == (name or "p-t-nli")
        assert row["probabilities"] == pytest.approx(alone[name or "p-t-nli"][number], abs=1e-5)
    with pytest.raises(RecipeError, match="unknown module `nobody`"):
        list(predict("p-t-nli", "t-nli", [{**texts[0], "module": "nobody"}], module_per_row=True, **places))


def test_stdin_and_broken_rows(done: Program, modules: dict[str, str]) -> None:
    text = '{"text_a": "one", "label": "no such label"}\n\n{"text_a": "two", "id": "x"}\n'
    found = CliRunner().invoke(root, ["predict", "p-t-nli", "t-nli"], env=done.options(), input=text)
    assert [json.loads(line)["id"] for line in found.stdout.splitlines()] == ["1", "x"]
    assert "2 answered" in found.stderr
    broken = CliRunner().invoke(root, ["predict", "p-t-nli", "t-nli"], env=done.options(), input='{"text_a": 1,\n')
    assert broken.exit_code == 3 and "stdin:1" in broken.stderr
    broken = CliRunner().invoke(root, ["predict", "p-t-nli", "t-nli"], env=done.options(), input='{"words": []}\n')
    assert broken.exit_code == 3 and "stdin:1" in broken.stderr and "text_a" in broken.stderr
    assert "no trained head" in done("predict", "p-t-nli", "lab-para", code=2).stderr
    assert "bitext" in done("predict", "p-t-nli", "t-bucc", code=2).stderr
    with pytest.raises(DataError, match="row 1"):
        list(adapterstilts.predict("p-t-nli", "t-nli", [{}], store=done.store, task_files=[done.folder / "tasks"]))
