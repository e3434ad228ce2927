"""The stages on the embedded world: what they write, what they refuse, and a training run killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import adapterstilts
from adapterstilts.cli.root import root
from adapterstilts.errors import StageFailed, StoreError
from adapterstilts.executors.local import run
from adapterstilts.plan.build import make_plan
from adapterstilts.recipe.load import from_plain
from adapterstilts.report.facts import read
from adapterstilts.report.figures import fused, usage
from adapterstilts.results.rows import score_rows
from adapterstilts.results.usage import by_layer, module_usage, plan_usage
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

RECIPE: dict[str, Any] = {
    "name": "small",
    "base": "lab/s0",
    "method": {"name": "lora", "r": 4, "sites": ["value", "output"]},
    "train": {"batch": 16, "learning_rate": 2e-3, "checkpoints": 0},
    "tasks": {
        name: {"sizes": {"train": 200, "dev": 40, "test": 40}}
        for name in ("lab-siqa", "lab-copa", "lab-tatoeba", "lab-bucc")
    },
    "modules": {
        "a": {"train": "lab-siqa", "limit": 96, "settings": {"epochs": 1}},
        "b": {"train": "lab-siqa/qac", "limit": 96, "settings": {"epochs": 1}},
        "m": {"merge": ["a", "b"], "weights": [0.5, 0.5]},
    },
    "targets": {"copa": {"task": "lab-copa", "limit": 32, "languages": ["en", "qaa"], "train": {"epochs": 2}}},
    "arms": {"none": {}, "fuse": {"on": "fuse(a, b)"}, "merge": {"on": "m"}, "continue": {"continue": "a"}},
    "retrieve": [{"tasks": ["lab-tatoeba", "lab-bucc"], "modules": ["base", "a"], "languages": ["qaa"]}],
}  # fmt: skip


def plan_of(recipe: dict[str, Any], store: Store):  # type: ignore[no-untyped-def]
    registry = TaskRegistry()
    return make_plan(from_plain(recipe), registry, store)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):  # type: ignore[no-untyped-def]
    store = Store(tmp_path_factory.mktemp("store"))
    plan = plan_of(RECIPE, store)
    result = run(plan, store)
    assert result.ok, [str(stage.error) for stage in result.having("failed")]
    return plan, store


def artifacts(plan, store, kind: str) -> dict[str, Path]:  # type: ignore[no-untyped-def]
    return {stage.label: store.path(stage.hash) for stage in plan.stages if stage.kind == kind}


def test_every_stage_leaves_what_it_says(finished):  # type: ignore[no-untyped-def]
    plan, store = finished
    for label, path in artifacts(plan, store, "train").items():
        facts = json.loads((path / "manifest.json").read_text())["facts"]
        assert facts["steps"] == len((path / "metrics.jsonl").read_text().splitlines()), label
        assert facts["parameters"]["module"] > 0 and facts["peak_memory"]["host"] > 0
        assert facts["trained"] in json.loads((path / "module.json").read_text())["tree"]
    for path in artifacts(plan, store, "evaluate").values():
        rows = json.loads((path / "scores.json").read_text())
        assert {(row["language"], row["n"]) for row in rows} == {("en", 40), ("qaa", 40)}
        for row in rows:
            lines = map(json.loads, (path / f"predictions.{row['language']}.jsonl").read_text().splitlines())
            assert row["value"] == pytest.approx(100 * sum(line["score"] for line in lines) / 40)
    for path in artifacts(plan, store, "retrieve").values():
        rows = json.loads((path / "scores.json").read_text())
        assert {row["variant"] for row in rows} == {"raw", "centred"} and all(0 <= row["value"] <= 100 for row in rows)
    (merged,) = artifacts(plan, store, "merge").values()
    assert json.loads((merged / "manifest.json").read_text())["facts"]["error"] < 1e-5


def test_a_second_run_does_nothing_and_the_store_is_whole(finished):  # type: ignore[no-untyped-def]
    _, store = finished
    assert plan_of(RECIPE, store).needed(store) == []
    assert store.verify() == []


def test_names_do_not_decide_what_is_computed(finished):  # type: ignore[no-untyped-def]
    plan, store = finished
    renamed = json.loads(json.dumps(RECIPE).replace('"a"', '"english"').replace("fuse(a, b)", "fuse(english, b)"))
    again = plan_of({**renamed, "name": "other"}, store)
    assert {stage.hash for stage in again.stages} == {stage.hash for stage in plan.stages}


def test_memory_settings_do_not_decide_either_but_the_schedule_does(finished):  # type: ignore[no-untyped-def]
    plan, store = finished
    train = RECIPE["train"]
    same = plan_of({**RECIPE, "train": {**train, "checkpoints": 9}, "engine": {"tokens": 64}}, store)
    assert {s.hash for s in same.stages} == {s.hash for s in plan.stages}
    other = plan_of({**RECIPE, "train": {**train, "learning_rate": 1e-3}}, store)
    assert {s.hash for s in other.needed(store)} and all(s.kind != "prepare" for s in other.needed(store))


def test_truncated_weights_fail_their_dependents_only(finished, tmp_path):  # type: ignore[no-untyped-def]
    import shutil

    plan, whole = finished
    store = Store(tmp_path / "store")
    shutil.copytree(whole.root, store.root, symlinks=True)
    wanted = [s for s in plan.stages if s.label.startswith(("evaluate copa by none", "evaluate copa by continue"))]
    for stage in wanted:
        shutil.rmtree(store.path(stage.hash))
    broken = next(s for s in plan.stages if s.label.startswith("train copa by none"))
    weights = next(store.path(broken.hash).rglob("leaves/*/adapter_model.safetensors"))
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data[: len(data) // 2])
    result = run(plan, Store(store.root))
    (failed,) = result.having("failed")
    assert "none" in failed.stage.label and "cannot be read" in str(failed.error)
    assert [s.stage.label for s in result.having("done")] == [s.label for s in wanted if "continue" in s.label]


KILLED = {
    **RECIPE,
    "train": {**RECIPE["train"], "checkpoints": 30, "dropout": 0.1},
    "modules": {"a": {"train": ["lab-siqa", "lab-copa"], "limit": 200, "settings": {"epochs": 8}}},
    "arms": {"continue": {"continue": "a"}},
    "retrieve": [],
}
WORKER = """
import json, sys
from tests.stages.test_stages import plan_of
from adapterstilts.errors import StageFailed, StoreError
from adapterstilts.executors.local import run
from adapterstilts.store import Store
store = Store(sys.argv[1])
sys.exit(run(plan_of(json.loads(sys.argv[2]), store), store).exit_code)
"""


def test_a_killed_training_stage_resumes_to_the_same_bits(tmp_path):  # type: ignore[no-untyped-def]
    def command(store: Path) -> list[str]:
        return [sys.executable, "-c", WORKER, str(store), json.dumps(KILLED)]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    subprocess.run(command(tmp_path / "whole"), check=True, cwd=root, env=environment)
    kills = 0
    for _ in range(6):
        process = subprocess.Popen(command(tmp_path / "cut"), cwd=root, env=environment)
        if kills < 2:
            # The moment a new checkpoint is there, the process dies without a word.
            seen = {path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("work/*/checkpoint.safetensors")}
            while process.poll() is None:
                found = {path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("work/*/checkpoint.safetensors")}
                if found - seen:
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
                time.sleep(0.005)
        if process.wait() == 0:
            break
    assert kills == 2 and process.returncode == 0
    stores = [Store(tmp_path / name) for name in ("whole", "cut")]
    plan = plan_of(KILLED, stores[0])
    for stage in plan.stages:
        if stage.kind in ("train", "evaluate"):
            one, two = (
                {name: entry["sha256"] for name, entry in store.manifest(stage.hash)["files"].items()}
                for store in stores
            )
            assert one == two, stage.label
    assert stores[1].verify() == [] and not list(stores[1].root.glob("work/*"))


def test_masked_words_train_and_are_scored(tmp_path):  # type: ignore[no-untyped-def]
    store = Store(tmp_path)
    recipe = {
        "name": "words",
        "base": "lab/s0",
        "train": {"batch": 16, "learning_rate": 2e-3, "evaluate": 1},
        "tasks": {"lab-mlm": {"sizes": {"train": 200, "dev": 60, "test": 60}}},
        "modules": {"words": {"train": "lab-mlm/qac", "settings": {"epochs": 2}}},
        "evaluate": [{"tasks": ["lab-mlm"], "modules": ["words"], "languages": ["qac"]}],
    }
    plan = plan_of(recipe, store)
    result = run(plan, store)
    assert result.ok, [str(stage.error) for stage in result.having("failed")]
    (path,) = artifacts(plan, store, "evaluate").values()
    values = {row["metric"]: row["value"] for row in json.loads((path / "scores.json").read_text())}
    # The base was pretrained on this text: far better than guessing among 4,001 pieces.
    assert 1 < values["perplexity"] < 30 and values["log_probability"] < 0


def test_a_module_trained_in_bf16_is_used_in_bf16(tmp_path):  # type: ignore[no-untyped-def]
    store = Store(tmp_path)
    train = {**RECIPE["train"], "precision": "bf16"}
    arms = {"continue": {"continue": "a"}}
    search = [{"tasks": ["lab-tatoeba"], "modules": ["a"], "languages": ["qaa"], "limit": 20}]
    plan = plan_of(
        {**RECIPE, "train": train, "modules": {"a": RECIPE["modules"]["a"]}, "arms": arms, "retrieve": search}, store
    )
    result = run(plan, store)
    assert result.ok, [str(stage.error) for stage in result.having("failed")]
    for path in artifacts(plan, store, "train").values():
        assert json.loads((path / "module.json").read_text())["precision"] == "bf16"


def test_what_a_fusion_used_is_kept_told_and_drawn(finished, tmp_path):  # type: ignore[no-untyped-def]
    plan, store = finished
    rows = plan_usage(plan, store, score_rows(plan, store))
    assert {(row["arm"], row["language"], tuple(row["parts"])) for row in rows} == {
        ("fuse", "en", ("a", "b")),
        ("fuse", "qaa", ("a", "b")),
    }
    for row in rows:
        assert sum(row["share"]) == pytest.approx(1, abs=1e-5) and row["tokens"] > 40
    # A gate sees the input: its weights differ from token to token, and so between the languages.
    assert any(max(row["deviation"]) > 0 for row in rows)
    shares = {(row["language"], row["layer"], row["place"]): row["share"] for row in rows}
    assert any(share != shares["qaa", layer, place] for (code, layer, place), share in shares.items() if code == "en")
    means = by_layer(rows)
    assert len(means) == 2 * len({row["layer"] for row in rows})
    (cell,) = [cell for cell in plan.cells if cell.arm == "fuse"]
    store.names.set("fused", plan.by_hash[cell.stage].parents["module"])
    assert [row["share"] for row in module_usage(store, "fused")] == [row["share"] for row in rows]
    environment = {"ADAPTERSTILTS_STORE": str(store.root), "COLUMNS": "160"}
    told = CliRunner().invoke(root, ["usage", "fused", "--csv", str(tmp_path / "usage.csv")], env=environment)
    assert told.exit_code == 0 and "mean weight in percent" in told.output
    lines = (tmp_path / "usage.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * len(rows)
    assert {line.split(",")[-3] for line in lines[1:]} == {"small/a", "small/b"}
    with pytest.raises(StoreError, match="fuses nothing"):
        store.names.set("alone", plan.names["small/a"])
        module_usage(store, "alone")
    facts = read({"recipe": {"name": "small"}, "usage": means})
    ((arm, drawn),) = fused(facts, "lab-copa")
    figure = usage(drawn, arm, "lab-copa", facts)
    assert len(figure.rows) == len(means) and ">qaa<" in figure.inline and figure.png()[1:4] == b"PNG"


def test_a_module_whose_delta_stays_zero_is_an_error(tmp_path):  # type: ignore[no-untyped-def]
    settings = {"epochs": 1, "batch": 16, "learning_rate": 1e-30}
    with pytest.raises(StageFailed, match="training changed nothing"):
        adapterstilts.train("lab-siqa", name="x", base="lab/s0", limit=16, settings=settings, store=tmp_path / "s")


@pytest.mark.parametrize(
    ("method", "rate", "told"), [({}, 1e-6, "never moved from the even one"), ({"alpha": 1e-30}, 2e-3, "adds nothing")]
)
def test_what_learnt_nothing_beside_what_did_is_told(finished, method, rate, told):  # type: ignore[no-untyped-def]
    plan, store = finished
    for name in "ab":
        store.names.set(name, plan.names[f"small/{name}"])
    made = adapterstilts.fuse(
        ["a", "b"],
        "lab-copa",
        name="f",
        store=store,
        limit=16,
        method={"name": "lora", "r": 4, **method},
        settings={"epochs": 1, "batch": 16, "learning_rate": rate},
    )
    (warning,) = store.manifest(made.hash)["facts"]["warnings"]
    assert told in warning
