"""Gold labels written as predictions leave as an XTREME folder and score 100 there, by a scorer of its own."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterstilts.data.bitext import load_bitext
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import resolve
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.plan.graph import Cell, Plan, make_stage
from adapterstilts.recipe import from_plain
from adapterstilts.results.submission import Choice, choose, submission, write_submission
from adapterstilts.stages.specs import BaseRef, EvaluateSpec, RetrieveSpec
from adapterstilts.store import Store
from adapterstilts.tasks.formats import get_format
from adapterstilts.tasks.registry import SHIPPED, TaskRegistry
from adapterstilts.tasks.suites import Suite, get_suite

BASE = BaseRef(ref="b", fingerprint="b", tokenizer="t")
CHOICE = Choice("gold", "gold", "b", 0)
PRESENT = {
    "xnli": ["de", "en", "es", "sw"],
    "pawsx": ["de"],
    "udpos": ["ar", "en", "ta", "th", "tr", "zh"],
    "xquad": ["ar", "de", "en", "es", "hi", "ru", "zh"],
    "xcopa": ["id", "it", "sw", "ta", "tr", "vi", "zh"],
    "tatoeba": ["de", "jv", "sw", "zh", "uk"],
}


def present_suite(folder: Path) -> tuple[Suite, TaskRegistry]:
    """The official tasks, cut to the languages that are here."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, languages in PRESENT.items():
        plain = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**plain, "benchmarks": {"here": languages}}))
    return Suite(name="here", benchmark="here", groups={"all": tuple(PRESENT)}), TaskRegistry([folder])


def gold_run(root: Path, store: Store, tasks: TaskRegistry, **changes: Any) -> Plan:
    """A plan whose evaluate and retrieve artifacts hold the gold labels as predictions."""
    stages, cells = [], []
    for name, languages in PRESENT.items():
        spec = tasks.get(name)
        common = {"base": BASE, "module": None, "task": name, "languages": tuple(languages)}
        bitext = spec.format == "bitext"
        made = RetrieveSpec(**common) if bitext else EvaluateSpec(**common, split="test")
        made = made.model_copy(update=changes)
        stage = make_stage(made.kind, made, {}, name)
        with store.write(stage.hash, stage.kind, {"label": name, "spec": made.model_dump(mode="json")}) as directory:
            for language in languages:
                found = resolve(spec, language, "test", root, tasks)
                if bitext:
                    where = {target: source for source, target in load_bitext(found)["gold"] or ()}
                    lines = [where[str(row)] for row in range(len(where))]
                    (directory / f"predictions.{language}.test.tsv").write_text("\n".join(lines) + "\n")
                    continue
                form = get_format(spec.format)
                with (directory / f"predictions.{language}.jsonl").open("w") as file:
                    for example in read_examples(found):
                        gold = form.gold(example, spec)
                        said = {"text": gold[0], "score": 1.0} if spec.format == "span" else gold
                        file.write(json.dumps({"id": example["id"], "prediction": said, "gold": gold}) + "\n")
        stages.append(stage)
        cells.append(Cell("b", "gold", 0, name, stage.hash, name, "retrieve" if bitext else "evaluate"))
    return Plan("r", tuple(stages), tuple(cells))


# -- a scorer that shares nothing with ours ---------------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")


def equal_lines(predicted: Path, gold: Path) -> float:
    ours, theirs = lines(predicted), lines(gold)
    assert len(ours) == len(theirs) and ours[-1] == theirs[-1] == ""
    return 100 * sum(a.strip() == b.strip() for a, b in zip(ours, theirs, strict=True)) / len(theirs)


def answers(predicted: Path, gold: Path) -> float:
    def plain(text: str) -> str:
        text = "".join(c for c in text.lower() if c not in string.punctuation)
        return " ".join(word for word in text.split() if word not in ("a", "an", "the"))

    said = json.loads(predicted.read_text())
    asked = [q for a in json.loads(gold.read_text())["data"] for p in a["paragraphs"] for q in p["qas"]]
    assert len(said) == len(asked) == 1190
    return 100 * sum(any(plain(said[q["id"]]) == plain(a["text"]) for a in q["answers"]) for q in asked) / 1190


def choices(predicted: Path, gold: Path) -> float:
    said = [json.loads(line)["label"] for line in lines(predicted) if line]
    true = [int(line) for line in lines(gold) if line]
    assert len(said) == len(true) == 500
    return 100 * sum(a == b for a, b in zip(said, true, strict=True)) / 500


def other_side(predicted: Path, gold: Path) -> float:
    """The gold here names the English line of every foreign one; a submission says it the other way round."""
    said = [int(line) for line in lines(predicted) if line]
    true = [int(line) for line in lines(gold) if line]
    return 100 * sum(said[english] == foreign for foreign, english in enumerate(true)) / len(true)


SCORERS: dict[str, tuple[str, str, Callable[[Path, Path], float]]] = {
    "xnli": ("tsv", "xtreme_gold/xnli/test-{}.tsv", equal_lines),
    "pawsx": ("tsv", "xtreme_gold/pawsx/test-{}.tsv", equal_lines),
    "udpos": ("tsv", "xtreme_gold/udpos/test-{}.tsv", equal_lines),
    "xquad": ("json", "raw/xquad/xquad.{}.json", answers),
    "xcopa": ("jsonl", "xtreme_gold/xcopa/test-{}.txt", choices),
    "tatoeba": ("tsv", "xtreme_gold/tatoeba/test-{}.tsv", other_side),
}


def test_gold_written_as_predictions_scores_100(shared_data: Path, tmp_path: Path) -> None:
    suite, tasks = present_suite(tmp_path / "tasks")
    store = Store(tmp_path / "store")
    plan = gold_run(shared_data, store, tasks)
    out = tmp_path / "out"
    write_submission(submission(plan, store, tasks, suite, CHOICE), out, {"arm": "gold"})
    scored = 0
    for name, languages in PRESENT.items():
        suffix, gold, score = SCORERS[name]
        assert sorted(p.name for p in (out / name).iterdir()) == sorted(f"test-{lg}.{suffix}" for lg in languages)
        for language in languages:
            assert score(out / name / f"test-{language}.{suffix}", shared_data / gold.format(language)) == 100.0
            scored += 1
    assert scored == 30
    with pytest.raises(DataError, match="something already"):
        write_submission({}, out, {})


def test_whatever_is_missing_is_said_at_once_and_nothing_is_written(shared_data: Path, tmp_path: Path) -> None:
    _, tasks = present_suite(tmp_path / "tasks")
    store = Store(tmp_path / "store")
    plan = gold_run(shared_data, store, tasks)
    with pytest.raises(DataError) as caught:
        submission(plan, store, TaskRegistry(), get_suite("xtreme-r"), CHOICE)
    text = str(caught.value)
    assert "nothing was written" in text
    for problem in (
        "xnli: no predictions for ar, bg, el, fr,",
        "panx: not in the recipe for `gold`",
        "mlqa: not in the recipe",
    ):
        assert problem in text
    xcopa = submission(plan, store, tasks, Suite(name="s", benchmark="here", groups={"g": ("xcopa",)}), CHOICE)
    assert set(xcopa) == {f"xcopa/test-{language}.jsonl" for language in PRESENT["xcopa"]}
    with pytest.raises(RecipeError, match="has no file of xyz"):
        submission(plan, store, tasks, get_suite("xtreme"), CHOICE, ["xyz"])
    (store.path(plan.cells[0].stage) / "predictions.sw.jsonl").unlink()
    suite = Suite(name="s", benchmark="here", groups={"g": ("xnli",)})
    with pytest.raises(DataError, match="xnli: no predictions for sw"):
        submission(plan, store, tasks, suite, CHOICE)


@pytest.mark.parametrize(
    ("change", "what"), [({"limit": 10}, "first 10 examples"), ({"split": "dev"}, "scored on dev")]
)
def test_parts_of_the_test_are_refused(change: dict[str, Any], what: str, shared_data: Path, tmp_path: Path) -> None:
    suite, tasks = present_suite(tmp_path / "tasks")
    store = Store(tmp_path / "store")
    plan = gold_run(shared_data, store, tasks, **change)
    with pytest.raises(DataError, match=what):
        submission(plan, store, tasks, suite, CHOICE, ["xcopa"])


def test_stand_ins_are_refused(tmp_path: Path) -> None:
    store, tasks = Store(tmp_path), TaskRegistry()
    parent, spec = "a" * 64, RetrieveSpec(base=BASE, module=None, task="bucc2018", languages=("de", "fr", "ru", "zh"))
    with store.write(parent, "prepare", {"facts": {"stand_in": True}}):
        pass
    stage = make_stage("retrieve", spec, {"data:de:test": parent}, "bucc")
    with store.write(stage.hash, "retrieve", {}) as directory:
        for language in spec.languages:
            (directory / f"predictions.{language}.tsv").write_text("de-1\ten-1\n")
    plan = Plan("r", (stage,), (Cell("b", "base", 0, "bucc2018", stage.hash, "bucc2018", "retrieve"),))
    with pytest.raises(DataError, match="bucc2018/de: the data are a stand-in"):
        submission(plan, store, tasks, get_suite("xtreme"), Choice("x", "base", "b", 0), ["bucc2018"])


RECIPE = {
    "name": "r",
    "base": "lab/s0",
    "modules": {"nli": {"train": "lab-nli"}, "qa": {"train": "lab-qa"}},
    "arms": {"none": {}, "stack": {"on": "nli"}, "more": {"continue": "qa"}, "both": {"on": "fuse(nli, qa)"}},
    "retrieve": [{"tasks": ["lab-tatoeba"], "modules": ["base", "nli"]}],
}


@pytest.mark.parametrize(("arm", "retrieval"), [("none", "base"), ("stack", "nli"), ("more", "base"), ("both", "base")])
def test_who_searches(arm: str, retrieval: str) -> None:
    assert choose(from_plain(RECIPE), arm) == Choice(arm, retrieval, "lab/s0", 0)


@pytest.mark.parametrize(
    ("changes", "asked", "what"),
    [
        ({}, {"arm": "stak"}, "no arm `stak`"),
        ({}, {"arm": "none", "retrieval": "qa"}, "no retrieval with `qa`"),
        ({"seeds": [0, 1]}, {"arm": "none"}, "several seeds"),
        ({"seeds": [0, 1]}, {"arm": "none", "seed": 2}, "no seed `2`"),
    ],
)
def test_choices_that_are_none(changes: dict[str, Any], asked: dict[str, Any], what: str) -> None:
    with pytest.raises(RecipeError, match=what):
        choose(from_plain({**RECIPE, **changes}), **asked)


def test_a_question_that_is_asked_twice_is_refused(shared_data: Path, tmp_path: Path) -> None:
    _, tasks = present_suite(tmp_path / "tasks")
    store = Store(tmp_path / "store")
    plan = gold_run(shared_data, store, tasks)
    path = store.path(next(c.stage for c in plan.cells if c.task == "xquad")) / "predictions.de.jsonl"
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match="two predictions for the question"):
        submission(plan, store, tasks, Suite(name="s", benchmark="here", groups={"g": ("xquad",)}), CHOICE)
