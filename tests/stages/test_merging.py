"""Merges as stages: weights searched on a few development examples, heads of an average, task arithmetic in text."""

from __future__ import annotations

import json

import pytest

from adapterstilts.executors.local import run
from adapterstilts.modules.artifact import read_module
from adapterstilts.plan.used import stored_facts
from adapterstilts.stages.run import run_stage
from adapterstilts.store import Store

from .test_stages import RECIPE, artifacts, plan_of

SEARCH = "merge(good, bad, how=search, task=lab-siqa, examples=24, steps=8)"
MERGES = {
    **RECIPE,
    "modules": {
        "good": {"train": "lab-siqa", "limit": 160, "settings": {"epochs": 3}},
        "bad": {"train": "lab-siqa/qac", "limit": 16, "settings": {"epochs": 1, "learning_rate": 5e-2}},
        "found": {"merge": ["good", "bad"], "how": "search",
                  "parameters": {"task": "lab-siqa", "examples": 24, "steps": 8}},
        "mean": {"merge": ["good", "bad"], "how": "average"},
    },
    "targets": {"copa": {"task": "lab-copa", "limit": 16, "languages": ["en"], "train": {"epochs": 1}}},
    "arms": {"text": {"on": SEARCH}, "minus": {"on": "merge(good, -0.5*bad)"}},
    "retrieve": [],
    "evaluate": [{"tasks": ["lab-siqa"], "modules": ["good", "found", "mean"], "languages": ["en"], "split": "dev"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):  # type: ignore[no-untyped-def]
    store = Store(tmp_path_factory.mktemp("merging"))
    plan = plan_of(MERGES, store)
    result = run(plan, store)
    assert result.ok, [str(stage.error) for stage in result.having("failed")]
    return plan, store


def test_a_search_is_no_worse_than_each_module_on_its_examples(finished):  # type: ignore[no-untyped-def]
    plan, store = finished
    facts = store.manifest(plan.names["small/found"])["facts"]
    tried = [
        json.loads(line) for line in (store.path(plan.names["small/found"]) / "search.jsonl").read_text().splitlines()
    ]
    assert [row["weights"] for row in tried[:4]] == [[1, 0], [0, 1], [0.5, 0.5], [0, 0]]
    assert 4 < len(tried) <= 12 and facts["examples"] == 24
    best = min(row["loss"] + 0.05 * sum(map(abs, row["weights"])) / 2 for row in tried)
    assert facts["loss"] + 0.05 * sum(map(abs, facts["weights"])) / 2 == best
    assert facts["weights"] in [row["weights"] for row in tried] and facts["error"] < 1e-5
    assert tried[0]["loss"] < tried[3]["loss"]  # the trained module is better than the bare base


def test_a_merge_written_in_an_expression_is_the_same_stage(finished):  # type: ignore[no-untyped-def]
    plan, _ = finished
    merges = [stage for stage in plan.stages if stage.kind == "merge"]
    assert len(merges) == 3 and plan.names["small/found"] in {stage.hash for stage in merges}
    (minus,) = [stage for stage in merges if stage.spec.how == "cat"]
    assert minus.spec.weights == (1.0, -0.5)
    (text,) = [stage for stage in plan.stages if stage.label.startswith("train copa by text")]
    assert plan.names["small/found"] in text.parents.values()


def test_a_search_is_the_same_again_and_other_with_another_seed(finished, tmp_path):  # type: ignore[no-untyped-def]
    import shutil

    plan, store = finished
    again = Store(tmp_path / "store")
    shutil.copytree(store.root, again.root, symlinks=True)
    hash = plan.names["small/found"]
    shutil.rmtree(again.path(hash))
    assert run_stage(plan.by_hash[hash], again)
    for name in ("module.json", "search.jsonl", "golden.safetensors"):
        assert (again.path(hash) / name).read_bytes() == (store.path(hash) / name).read_bytes()
    assert plan_of({**MERGES, "seeds": [1]}, store).names["small/found"] != hash


def test_heads_of_a_search_and_of_an_average(finished):  # type: ignore[no-untyped-def]
    import torch

    plan, store = finished
    read = {name: read_module(store.path(plan.names[f"small/{name}"])) for name in ("good", "bad", "found", "mean")}
    (head,) = read["good"].heads
    for key, tensor in read["good"].head(head).items():
        assert torch.equal(read["found"].head(head)[key], tensor)
        torch.testing.assert_close(read["mean"].head(head)[key], (tensor + read["bad"].head(head)[key]) / 2)
    assert stored_facts(store, plan.names["small/found"]).tasks == {"lab-siqa"}
    scores = {
        label.split(" with ")[1].split()[0]: json.loads((path / "scores.json").read_text())[0]["value"]
        for label, path in artifacts(plan, store, "evaluate").items()
        if " with " in label
    }
    assert set(scores) == {"good", "found", "mean"} and scores["found"] > 33
