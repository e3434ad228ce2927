"""What `check` finds, and test text in training text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.data.checks import check, leaks, normalised
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import resolve
from adapterstilts.tasks.registry import TaskRegistry

REGISTRY = TaskRegistry()


def codes(
    name: str, rows: list[dict[str, Any]], root: Path, split: str = "dev", language: str = "en"
) -> dict[str, int]:
    path = root / "own" / name / f"{split}-{language}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {f.code: f.count for f in check(REGISTRY.get(name), language, split, root)}


def pair(text_a: str, text_b: str = "b", label: str = "neutral", **more: Any) -> dict[str, Any]:
    return {"text_a": text_a, "text_b": text_b, "label": label, **more}


@pytest.mark.parametrize(
    ("rows", "code", "count"),
    [
        ([pair("a"), pair(" ")], "empty", 1),
        ([pair("a", id="1"), pair("b", id="1"), pair("c", id="1")], "repeated-id", 2),
        ([pair("a"), pair("a")], "repeated-example", 1),
        ([pair("a"), pair("a", label="entailment")], "conflicting-label", 1),
        ([pair("dÃ©jÃ  vu")], "mojibake", 1),
        ([pair("a\ufffdb")], "replacement-character", 1),
        ([pair('"He said ""come"" here."')], "doubled-quotes", 1),
        ([pair("a", label="maybe"), pair("b")], "row", 1),
        ([pair("a")], "count", 1),
        ([pair("a")], "unseen-label", 1),
        ([], "no-examples", 1),
    ],
)
def test_what_is_found(rows: list[dict[str, Any]], code: str, count: int, tmp_path: Path) -> None:
    assert codes("mnli", rows, tmp_path)[code] == count


def test_answers_that_are_nowhere(tmp_path: Path) -> None:
    row = {"id": "1", "question": "q", "context": "the cat", "answers": [{"text": "dog", "start": 0}]}
    assert codes("squad", [row], tmp_path)["answer-not-found"] == 1


def test_unreadable_and_missing(tmp_path: Path) -> None:
    assert [f.code for f in check(REGISTRY.get("mnli"), "en", "dev", tmp_path)] == ["missing"]
    path = tmp_path / "own/mnli/dev-en.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"text_a": "f\xfcr"}\n')
    (finding,) = check(REGISTRY.get("mnli"), "en", "dev", tmp_path)
    assert (finding.level, finding.code, finding.where) == ("error", "unreadable", f"{path}:1")


def test_a_clean_bill_of_health(shared_data: Path) -> None:
    assert check(REGISTRY.get("xnli"), "sw", "test", shared_data) == []
    assert check(REGISTRY.get("tatoeba"), "de", "test", shared_data) == []
    assert check(REGISTRY.get("copa"), "en", "train", shared_data) == []


def test_real_data_have_real_faults(shared_data: Path) -> None:
    arabic = {f.code: f for f in check(REGISTRY.get("xquad"), "ar", "test", shared_data)}
    assert arabic["mojibake"].count == 40  # "Yesün" and dashes, broken in XQuAD itself
    german = {f.code: f for f in check(REGISTRY.get("xnli"), "de", "dev", shared_data)}
    assert "2489 examples, 2490 published" in german["count"].message
    stand_in = check(REGISTRY.get("panx"), "sw", "test", shared_data)[0]
    assert (stand_in.level, stand_in.code) == ("warning", "stand-in")


def test_normalised() -> None:
    assert normalised("\uff28e said: “Straße” (2) …") == normalised("he SAID STRASSE 2")
    assert normalised("कि") != normalised("क")  # vowel marks count
    assert normalised(" —!") == ""


def test_leaks(shared_data: Path) -> None:
    squad = REGISTRY.get("squad")
    tests = [resolve(REGISTRY.get("xquad"), "en", "test", shared_data)]
    (clean,) = leaks(resolve(squad, "en", "train", shared_data), tests)
    assert (clean.examples, clean.texts, clean.n) == (0, 0, 1190)
    (dirty,) = leaks(resolve(squad, "en", "dev", shared_data), tests)
    assert dirty.examples > 1150
    assert dirty.share > 0.97
    assert dirty.samples


def test_leaks_between_tasks_of_other_formats(shared_data: Path) -> None:
    train = resolve(REGISTRY.get("uner"), "en", "test", shared_data)
    pos, tatoeba = leaks(
        train,
        [
            resolve(REGISTRY.get("udpos"), "en", "test", shared_data),
            resolve(REGISTRY.get("tatoeba"), "de", "test", shared_data),
        ],
    )
    # Universal NER is written over the same treebank; what is shorter than 15 letters is not compared.
    words = [e["words"] for e in read_examples(resolve(REGISTRY.get("udpos"), "en", "test", shared_data))]
    long = sum(len(normalised(" ".join(sentence))) >= 15 for sentence in words)
    assert long > 1600 and pos.examples > 0.95 * long
    assert tatoeba.share < 0.01


def test_a_choice_that_many_questions_have_is_no_leak(tmp_path: Path) -> None:
    def row(prompt: str, *choices: str) -> dict[str, Any]:
        return {"prompt": prompt, "choices": [*choices, "None of the above choices."], "label": 0}

    (tmp_path / "own/copa").mkdir(parents=True)
    for split, prompts in (("train", "ab"), ("dev", "bc")):
        rows = [row(f"A prompt that is long enough, {p}", f"choice {p}") for p in prompts]
        (tmp_path / f"own/copa/{split}-en.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    train, dev = (resolve(REGISTRY.get("copa"), "en", split, tmp_path) for split in ("train", "dev"))
    (found,) = leaks(train, [dev])
    assert (found.n, found.examples, found.texts) == (2, 1, 1)
