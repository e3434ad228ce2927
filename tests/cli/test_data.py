"""data and export, on the small tasks and on published files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Program
from tests.small_tasks import own_data


def test_suites(fresh: Program) -> None:
    found = {entry["name"]: entry for entry in fresh.json("ls", "suites")}
    assert set(found) == {"phang2020-intermediate", "xtreme", "xtreme-r"} and len(found["xtreme"]["tasks"]) == 9
    assert "structured prediction" in fresh("show", "xtreme").stdout
    assert fresh.json("show", "xtreme-r")["unread"].keys() == {"lareqa"}


def test_check(fresh: Program) -> None:
    found = fresh.json("data", "check", "t-own", "--data", "data")
    assert {entry["language"] for entry in found if not entry["missing"]} == {"en", "de"}
    assert all(entry["count"] == 1 and not entry["errors"] for entry in found if not entry["missing"])
    text = fresh("data", "check", "t-own", "--data", "data").stdout
    assert "no data in 3 of 9 splits" in text and "unseen-label" in text
    path = fresh.folder / "data/own/t-own/dev-de.jsonl"
    path.write_bytes(b'{"text_a": "x", "label": "neutral"}\n{"text_a": "f\xfcr", "label": "neutral"}\n')
    assert f"{path}:2" in fresh("data", "check", "t-own/de", "--data", "data", code=3).stdout
    fresh("data", "check", "t-own", "--data", "nowhere", code=3)
    assert "t-own does not have fr" in fresh("data", "check", "t-own", "--languages", "fr", code=2).stderr
    assert "did you mean `xtreme`" in fresh("data", "check", "xtrem.yaml", code=2).stderr


def test_stats(fresh: Program) -> None:
    (entry,) = fresh.json("data", "stats", "lab-nli/qab", "--base", "lab/s0", "--limit", "20")[:1]
    assert entry["n"] == 20 and entry["lengths"]["p95"] <= entry["lengths"]["longest"] == entry["longest"]
    assert entry["pieces_per_word"] >= 1 and entry["truncated_share"] == 0
    assert "per word" in fresh("data", "stats", "lab-tatoeba/qab", "--base", "lab/s0", "--limit", "20").stdout


def leaky(program: Program) -> Path:
    """A recipe whose training text comes again in its test set."""
    long = {"id": "1", "text_a": "a sentence that is long enough to mean something", "text_b": None, "label": "neutral"}
    for split in ("train", "test"):
        upper = {**long, "text_a": long["text_a"].upper() + "!"} if split == "test" else long
        (program.folder / f"data/own/t-own/{split}-en.jsonl").write_text(json.dumps(upper) + "\n")
    path = program.folder / "leaky.yaml"
    plain = {"name": "leaky", "base": "lab/s0", "data": "data", "train": {"steps": 1}, "arms": {"none": {}},
             "targets": {"t": {"task": "t-own"}}}  # fmt: skip
    path.write_text(yaml.safe_dump(plain))
    return path


def test_leaks(fresh: Program) -> None:
    recipe = leaky(fresh)
    (entry,) = fresh.json("data", "leaks", recipe, code=1)
    assert (entry["train"], entry["test"], entry["examples"]) == ("t-own/en train", "t-own/en test", 1)
    assert "MEAN SOMETHING" in entry["samples"][0]
    assert fresh.json("data", "leaks", "t-own", "--data", "data", code=1) == [entry]
    cache = fresh.store / "cache" / "leaks.json"
    known = json.loads(cache.read_text())
    for found in known.values():
        found["samples"] = ["remembered"] if found["examples"] else []
    cache.write_text(json.dumps(known))
    assert "remembered" in fresh("data", "leaks", recipe, code=1).stdout
    own_data(fresh.folder / "data")  # other bytes are compared anew
    assert fresh.json("data", "leaks", recipe) == []
    assert "one recipe, or tasks" in fresh("data", "leaks", recipe, "t-own", code=2).stderr
    assert "no train data" in fresh("data", "leaks", "tatoeba", "--data", "data", code=3).stderr


def test_run_warns_of_leaks_by_itself(fresh: Program) -> None:
    made = fresh("run", leaky(fresh), "--report", "out")
    warning = "leak: examples of t-own test are in t-own/en train: en 1 of 1 whole"
    assert f"warning: {warning}" in made.stderr
    fresh("report", "leaky", "--html", "again.html")
    for path in ("out/report.html", "again.html"):
        assert warning in (fresh.folder / path).read_text(), path


def test_packed_recipes_are_the_same_plan_elsewhere(fresh: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = leaky(fresh)
    here = sorted(fresh("plan", recipe, "--format", "quiet").stdout.split())
    made = fresh.json("data", "pack", recipe, "--out", "packed.tar")
    assert made["data"] == 4 and "t-own" in made["tasks"]
    fresh("data", "unpack", "packed.tar", "--out", "there")
    monkeypatch.chdir(fresh.folder / "there")
    there = Program(fresh.folder / "there")
    assert sorted(there("plan", "recipe.yaml", "--format", "quiet").stdout.split()) == here
    assert there.json("data", "leaks", "recipe.yaml", code=1)[0]["examples"] == 1
    assert "something already" in there("data", "unpack", "../packed.tar", "--out", ".", code=3).stderr


def test_recipes_that_cannot_be_packed(fresh: Program) -> None:
    path = fresh.folder / "used.yaml"
    path.write_text("name: used\nbase: lab/s0\nmodules: {m: {train: [t-nli]}}\ndata: {hub: true}\n"
                    "tasks: {squad: {settings: {max_length: 128}}, xquad: {settings: {max_length: 128}}}\n"
                    "targets: {x: {task: xquad, languages: [de]}}\narms: {none: {}}\n")  # fmt: skip
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert "only the Hub has squad/en train" in fresh("data", "pack", path, "--out", "x.tar", code=3).stderr
    monkeypatch.undo()
    assert not (fresh.folder / "x.tar").exists()


def test_fetch_without_a_hub_source(fresh: Program) -> None:
    assert "the Hub has none of this" in fresh("data", "fetch", "t-nli", "--out", "x", code=3).stderr
    (fresh.folder / "mirror").mkdir()
    made = fresh.json("data", "fetch", "xnli/de", "--out", "x", "--mirror", "mirror", code=3)
    assert [entry["state"] for entry in made["files"]] == ["failed", "failed"]


def test_export(done: Program) -> None:
    suite = done.folder / "mine.yaml"
    suite.write_text("title: Mine\ngroups: {all: [t-nli, t-bucc]}\n")
    text = done("export", "xtreme", "small", "--arm", "stack", "--suite", suite, "--out", "sub", code=3).stderr
    assert "t-nli: no predictions for qac" in text and "nothing was written" in text
    assert not (done.folder / "sub").exists()
    for name, languages in (("t-nli", ["en", "qaa"]), ("t-bucc", ["qaa"])):
        path = done.folder / "tasks" / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "benchmarks": {"mine": languages}}))
    suite.write_text("title: Mine\nbenchmark: mine\ngroups: {all: [t-nli, t-bucc]}\n")
    made = done.json("export", "xtreme", "small", "--arm", "stack", "--suite", suite, "--out", "sub")
    assert made["tasks"] == {"t-nli": 2, "t-bucc": 1} and made["retrieval"] == "nli"
    labels = (done.folder / "sub/t-nli/test-qaa.tsv").read_text().split()
    assert len(labels) == 20 and set(labels) <= {"contradiction", "entailment", "neutral"}
    pairs = (done.folder / "sub/t-bucc/test-qaa.tsv").read_text().splitlines()
    assert all(len(line.split("\t")) == 2 for line in pairs)
    assert "no arm `stuck`" in done("export", "xtreme", "small", "--arm", "stuck", "--out", "x", code=2).stderr


def test_tests_without_labels_are_predicted_for_a_submission(fresh: Program) -> None:
    """XTREME's own files withhold test labels: a language that is named is predicted, one that is not is left out."""
    folder = fresh.folder / "data" / "blank"
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows = [{"text_a": f"{split} {i}", "text_b": None, "label": "neutral"} for i in range(4)]
        for row in rows if split == "test" else ():
            del row["label"]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {split: f"{split}.jsonl" for split in ("train", "dev", "test")}
    columns = {"text_a": "text_a", "text_b": "text_b", "label": "label"}
    source = {"name": "blank", "layout": "blank", "files": files, "columns": columns, "blanked": ["test"]}
    task = {"format": "classification", "labels": ["neutral", "other"], "metric": "accuracy", "languages": ["en"]}
    (fresh.folder / "tasks" / "t-blank.yaml").write_text(yaml.safe_dump({**task, "sources": [source]}))
    plain = {"name": "blank", "base": "lab/s0", "data": "data", "train": {"steps": 1}, "arms": {"none": {}}}
    recipe = fresh.folder / "blank.yaml"
    recipe.write_text(yaml.safe_dump({**plain, "targets": {"t": {"task": "t-blank"}}}))
    assert "its files leave them out" in fresh("run", recipe, code=3).stderr
    recipe.write_text(yaml.safe_dump({**plain, "targets": {"t": {"task": "t-blank", "languages": ["en"]}}}))
    made = fresh("run", recipe)
    assert "no labels for t-blank/en test" in made.stderr and "predicted and not scored" in made.stderr
    (fresh.folder / "mine.yaml").write_text("groups: {all: [t-blank]}\n")
    fresh("export", "xtreme", "blank", "--arm", "none", "--suite", "mine.yaml", "--out", "sub")
    labels = (fresh.folder / "sub/t-blank/test-en.tsv").read_text().split()
    assert len(labels) == 4 and set(labels) <= {"neutral", "other"}
