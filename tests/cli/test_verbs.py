"""train, stack, fuse, merge, evaluate, retrieve, explain, ls and show, without a recipe; and the same from Python."""

from __future__ import annotations

import json

import numpy as np
import pytest

import adapterstilts
from tests.cli.conftest import Program

TRAIN = ("--base", "lab/s0", "--steps", "3")


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Modules a (lora), b (lora, from a), bn (bottleneck), a+t-qa and their merge and fusion."""
    from tests.cli.conftest import program

    made = program(tmp_path_factory.mktemp("flow"))
    made("train", "t-nli", *TRAIN, "--method", "lora", "--name", "a")
    made("train", "t-nli/qaa", "--steps", "3", "--continue", "a", "--name", "b")
    made("train", "t-nli", *TRAIN, "--method", "{name: seq_bn, reduction: 8}", "--name", "bn")
    made("stack", "a", "--train", "t-xqa", "--steps", "3", "--name", "a+t-xqa")
    return made


def test_three_verbs(flow: Program) -> None:
    """The flow of the README: train, stack on it, evaluate; the target is trained on its own training task."""
    module = flow.json("show", "a+t-xqa")["manifest"]
    assert [share["key"] for share in module["spec"]["mix"]] == ["t-qa/en"]
    assert module["spec"]["base"]["ref"] == "lab/s0"
    rows = flow.json("evaluate", "a+t-xqa", "t-xqa", "--limit", "10")
    assert {(row["arm"], row["task"]) for row in rows} == {("a+t-xqa", "t-xqa")}
    assert {row["language"] for row in rows} == {"en", "qaa", "qac"} and {row["metric"] for row in rows} == {"f1", "em"}
    assert "t-xqa, test, in percent" in flow("evaluate", "a+t-xqa", "t-xqa", "--limit", "10").stdout


def test_same_plan_as_a_recipe(flow: Program) -> None:
    recipe = flow.folder / "same.yaml"
    recipe.write_text("name: same\nbase: lab/s0\nmodules: {a: {train: [t-nli], method: lora, settings: {steps: 3}}}\n")
    plain = flow.json("plan", recipe)
    assert {stage["state"] for stage in plain["stages"]} == {"hit"}
    assert plain["modules"]["same/a"] == flow.json("show", "a")["manifest"]["hash"]


def test_train_says_what_it_made(flow: Program) -> None:
    plain = flow.json("train", "t-nli", *TRAIN, "--name", "a")
    assert plain["made"] is False and plain["name"] == "a" and plain["base"] == "lab/s0"
    assert set(plain["dev"]) == {"t-nli/en"} and plain["parameters"]["module"] > 0 and plain["steps"] == 3
    assert "was there already" in flow("train", "t-nli", *TRAIN, "--name", "a").stdout
    other = flow("train", "t-nli", "--base", "lab/s0", "--steps", "2", "--name", "renamed")
    assert "module `renamed`" in other.stdout
    assert "stood for" in flow("train", "t-nli", "--base", "lab/s0", "--steps", "1", "--name", "renamed").stderr


def test_merge_and_fuse(flow: Program) -> None:
    merged = flow.json("merge", "a", "b", "--how", "cat", "--weights", "1,0.5", "--name", "ab")
    assert merged["kind"] == "merge" and merged["how"] == "cat"
    fused = flow.json("fuse", "a", "b", "--train", "t-nli", "--steps", "2", "--name", "fused")
    assert fused["kind"] == "train"
    assert flow.json("explain", "fused")["formulas"]["delta"] == "W x + α_1(x) Δ_a x + α_2(x) Δ_b x + Δ_fused x"
    rows = flow.json("evaluate", "fused", "t-nli", "--languages", "en", "--limit", "5")
    assert rows[0]["n"] == 5


def test_retrieve(flow: Program) -> None:
    rows = flow.json("retrieve", "t-tatoeba", "--module", "a", "--languages", "qaa", "--layers", "2,4")
    assert {row["arm"] for row in rows} == {"base", "a"} and {row["layer"] for row in rows} == {2, 4}


@pytest.mark.parametrize("name", ["a", "bn", "a+t-xqa"])
def test_explain_counts_what_training_counted(flow: Program, name: str) -> None:
    """The counts come from config.json alone and must be those of the modules that were built."""
    plain = flow.json("explain", name)
    trained = flow.json("show", name)["manifest"]["facts"]["parameters"]["module"]
    assert plain["trainable"] == trained
    assert [row["name"] for row in plain["modules"] if row["trains"]] == [name]


def test_explain_methods_without_a_store(fresh: Program) -> None:
    plain = fresh.json("explain", "stack(lora, fuse(seq_bn, double_seq_bn), dora)", "--base", "lab/s0")
    assert plain["formulas"] == {
        "delta": "W x + Δ_lora x + Δ_dora x",
        "bottleneck": "α_1(h) g_seq_bn(h) + α_2(h) g_double_seq_bn(h)",
    }
    assert [row["trains"] for row in plain["modules"]] == [False, False, False, True]
    large = fresh.json("explain", "lora", "--base", "xlm-roberta-large")
    assert large["base"]["parameters"] == 558_840_832  # of the published encoder without its pooler
    assert "bottleneck" not in large["formulas"]
    assert "parameters are counted with --base" in fresh("explain", "stack(lora, dora)").stdout


@pytest.mark.parametrize(("expression", "reason"), [
    ("fuse(lora, seq_bn, how=attention)", "AdapterFusion needs bottlenecks"),
    ("stack(lora, full)", "takes the place of the weights"),
    ("0.5*seq_bn", "only deltas scale"),
    ("fuse({language}, lora)", "fuse"),
])  # fmt: skip
def test_explain_refuses_what_planning_refuses(fresh: Program, expression: str, reason: str) -> None:
    assert reason in fresh("explain", expression, code=2).stderr


def test_explain_names_that_stand_for_any_module(fresh: Program) -> None:
    plain = fresh.json("explain", "stack(a, fuse(b, c))")
    assert plain["formulas"] == {
        "delta": "W x + Δ_a x + α_1(x) Δ_b x + α_2(x) Δ_c x",
        "bottleneck": "α_1(g_a(h)) g_b(g_a(h)) + α_2(g_a(h)) g_c(g_a(h))",
    }
    assert "a, b, c: not in the store" in fresh("explain", "stack(a, fuse(b, c))").stdout
    fresh("explain", "a", code=2)


@pytest.mark.parametrize(
    "kind", ["tasks", "methods", "bases", "modules", "recipes", "runs", "artifacts", "languages", "compositions"]
)
def test_ls(flow: Program, kind: str) -> None:
    entries = flow.json("ls", kind)
    assert entries and all(isinstance(entry["name"], str) for entry in entries)
    assert flow("ls", kind, "--format", "quiet").stdout.split("\n")[:-1] == [entry["name"] for entry in entries]
    assert entries[0]["name"][:9] in flow("ls", kind).stdout
    assert len(flow("--format", "jsonl", "ls", kind).stdout.splitlines()) == len(entries)


def test_ls_modules(flow: Program) -> None:
    found = {entry["name"]: entry for entry in flow.json("ls", "modules")}
    assert found["bn"]["method"] == "seq_bn" and found["a"]["tasks"] == ["t-nli/en"] and found["a"]["base"] == "lab/s0"


@pytest.mark.parametrize("name", ["t-nli", "xquad", "lora", "stack", "lab/s0", "quickstart", "a"])
def test_show(flow: Program, name: str) -> None:
    plain = flow.json("show", name)
    assert plain["name"] == name and plain["schema_version"] == 1 and plain["kind"]
    assert name in flow("show", name).stdout


def test_show_by_the_beginning_of_a_hash(flow: Program) -> None:
    hash = flow.json("show", "a")["manifest"]["hash"]
    assert flow.json("show", hash[:10])["names"] == ["a"] == flow.json("show", hash)["names"]
    assert flow("store", "show", hash[:10], "--format", "quiet").stdout.strip().endswith(hash)


def test_lab(fresh: Program) -> None:
    languages = fresh.json("lab", "languages")
    assert [entry["name"] for entry in languages][:2] == ["en", "qaa"] and languages[0]["distance"] == 0
    assert len(fresh.json("lab", "sample", "lab-nli", "qab", "-n", "2")) == 2
    assert fresh.json("lab", "sample", "lab-tatoeba", "qab", "-n", "1")[0]["source"]


def test_lab_pretrain(fresh: Program) -> None:
    assert "already holds a base" in _pretrain_twice(fresh)
    assert "bases/try" in fresh("doctor", "--quick", "--base", "bases/try").stdout


def _pretrain_twice(fresh: Program) -> str:
    (fresh.folder / "bases" / "try").mkdir(parents=True)
    import shutil

    from adapterstilts.encoder.reference import SHIPPED

    shutil.copytree(SHIPPED / "s0", fresh.folder / "bases" / "try", dirs_exist_ok=True)
    return fresh("lab", "pretrain", "--out", "bases/try", "--steps", "1", code=2).stderr


def test_doctor(fresh: Program) -> None:
    plain = fresh.json("doctor")
    assert plain["ok"] and {"python", "cores", "devices", "base lab/s0", "store"} <= {
        c["name"] for c in plain["checks"]
    }
    broken = fresh.folder / "base"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    (broken / "model.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    plain = fresh.json("doctor", "--quick", "--base", "./base", code=1)
    assert "cannot be read" in next(c["value"] for c in plain["checks"] if c["name"] == "base ./base")


def test_environment_sets_options(flow: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERSTILTS_LS_FORMAT", "json")
    assert json.loads(flow("ls", "methods").stdout)
    monkeypatch.setenv("ADAPTERSTILTS_FORMAT", "quiet")
    monkeypatch.delenv("ADAPTERSTILTS_LS_FORMAT")
    assert flow("ls", "methods").stdout.split()[0] == "lora"
    assert json.loads(flow("ls", "methods", "--format", "json").stdout)  # the command line wins


# -- Python -----------------------------------------------------------------------------------------------------------


def test_python_mirrors_the_verbs(flow: Program) -> None:
    where = {"store": flow.store, "task_files": [flow.folder / "tasks"]}
    settings = {"steps": 3}
    made = adapterstilts.train("t-nli", name="a", base="lab/s0", method="lora", settings=settings, **where)
    assert made.hash == flow.json("show", "a")["manifest"]["hash"] and made.facts["steps"] == 3
    stacked = adapterstilts.stack("a", train="t-xqa", name="a+t-xqa", settings=settings, **where)
    assert not stacked.run.result.having("done")  # all hits
    rows = adapterstilts.evaluate("a+t-xqa", "t-xqa", limit=10, **where)
    assert rows == flow.json("evaluate", "a+t-xqa", "t-xqa", "--limit", "10")
    merged = adapterstilts.merge(["a", "b"], name="sum", **where)
    fused = adapterstilts.fuse(["a", "b"], train="t-nli", name="mix", settings={"steps": 1}, **where)
    assert merged.facts["how"] == "cat" and fused.run.ok
    found = adapterstilts.retrieve("t-bucc", modules="a", languages="qaa", layers=[3], limit=20, **where)
    assert {row["arm"] for row in found} == {"base", "a"}


def test_python_runs_recipes(done: Program) -> None:
    where = {"store": done.store, "task_files": [done.folder / "tasks"]}
    run = adapterstilts.run(done.recipe, **where)
    assert run.ok and run.rows == adapterstilts.scores("small", **where) == done.json("report", "small")
    files = adapterstilts.write_report("small", done.folder / "again", ["md"], **where)
    assert files["md"].read_text().startswith("#")
    assert run.modules.keys() == {"small/nli"}


def test_load_and_encode(flow: Program) -> None:
    module = adapterstilts.load("a+t-xqa", store=flow.store)
    sentences = ["the grower heated the carrot .", "zo sailor nu solor", ""]
    vectors = module.encode(sentences)
    assert vectors.shape == (3, 96) and vectors.dtype == np.float32 and np.isfinite(vectors).all()
    one_by_one = np.concatenate([module.encode([sentence]) for sentence in sentences])
    np.testing.assert_allclose(vectors, one_by_one, atol=1e-5)
    assert not np.allclose(module.encode(sentences, layer=2), vectors)
    assert module.encode([]).shape == (0, 96)
    assert module.encode(["word " * 500]).shape == (1, 96)
    bare = adapterstilts.load("base", base="lab/s0", store=flow.store)
    np.testing.assert_allclose(bare.encode(sentences, layer=0), module.encode(sentences, layer=0), atol=1e-6)
    with pytest.raises(adapterstilts.AdapterstiltsError, match="no layer 9"):
        module.encode(sentences, layer=9)
    with pytest.raises(adapterstilts.AdapterstiltsError, match="another base"):
        adapterstilts.load("a", base="lab/s1", store=flow.store)


def test_doctor_measures_precisions(fresh: Program) -> None:
    done = fresh("doctor", "precision", "--base", "lab/s0", "--examples", "4", "--format", "json")
    rows = {row["name"]: row for row in json.loads(done.stdout)["rows"]}
    assert set(rows) == {"fp32", "bf16", "int8", "nf4", "int8-dynamic"}
    assert rows["fp32"]["hidden"] == 0 and rows["fp32"]["cosine"] == pytest.approx(1.0)
    assert 0 < rows["bf16"]["hidden"] < 0.05 and rows["bf16"]["cosine"] > 0.99
    assert rows["int8-dynamic"]["cosine"] is None and rows["int8"]["bytes"] < rows["bf16"]["bytes"]
