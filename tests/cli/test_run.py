"""run, plan, validate, report, status and store on one small recipe."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tests.cli.conftest import Program
from tests.conftest import unit

ROW = {"base", "arm", "seed", "task", "language", "split", "metric", "value", "n", "stage"}


def test_second_run_finds_all_hits(done: Program) -> None:
    began = time.process_time()
    plain = done.json("run", done.recipe, "--report", done.folder / "out")
    assert time.process_time() - began < 40 * unit()
    assert plain["ok"] and plain["exit_code"] == 0 and plain["failed"] == [] and plain["schema_version"] == 1
    assert set(plain["stages"]) == {"hit"}
    assert set(plain["report"]) == {"html", "md", "csv", "json", "svg"}
    assert plain["modules"]["small/nli"] == done.json("show", "small/nli")["manifest"]["hash"]


def test_run_prints_the_table_and_names_the_report(done: Program) -> None:
    result = done("run", done.recipe, "--report", done.folder / "out")
    assert result.stdout.rstrip().endswith(f"report: {done.folder / 'out' / 'report.html'}")
    assert "stack" in result.stdout and "t-nli" in result.stdout
    assert "hit in" in result.stderr
    assert "<html" in (done.folder / "out" / "report.html").read_text().lower()


def test_report_rows(done: Program) -> None:
    rows = done.json("report", "small")
    assert rows and all(set(row) >= ROW for row in rows)
    assert rows == done.json("report", done.recipe)
    cells = {(row["arm"], row["task"]) for row in rows}
    assert cells == {("none", "t-nli"), ("stack", "t-nli"), ("base", "t-bucc"), ("nli", "t-bucc")}
    assert {row["seed"] for row in rows if row["arm"] == "base"} == {None}
    assert all(0 <= row["value"] <= 100 for row in rows)
    assert {row["variant"] for row in rows if row["task"] == "t-bucc"} == {"raw", "centred"}
    lines = done("report", "small", "--format", "jsonl").stdout.splitlines()
    assert list(map(json.loads, lines)) == rows
    assert len(done("report", "small", "--format", "quiet").stdout.splitlines()) == len(rows)


def test_report_files(done: Program, tmp_path: Path) -> None:
    html, md, csv = (tmp_path / "deep" / f"r.{form}" for form in ("html", "md", "csv"))
    drawn = tmp_path / "deep" / "figures"
    result = done("report", "small", "--html", html, "--md", md, "--csv", csv, "--figures", drawn)
    assert result.stdout == ""
    names = {path.stem for path in drawn.glob("*.csv")}
    assert names and all((drawn / f"{name}.{form}").is_file() for name in names for form in ("svg", "png"))
    assert "http" not in html.read_text().split("<body")[0].replace("http-equiv", "") or html.stat().st_size
    assert md.read_text().startswith("#") and csv.read_text().startswith("base,arm,seed")
    assert "verdict" in done("report", "small").stdout


def test_plan(done: Program, fresh: Program) -> None:
    plain = done.json("plan", done.recipe)
    assert {stage["state"] for stage in plain["stages"]} == {"hit"} and not any(s["runs"] for s in plain["stages"])
    assert {stage["state"] for stage in fresh.json("plan", fresh.recipe)["stages"]} == {"missing"}
    assert "0 to run" in done("plan", done.recipe).stdout
    changed = done.json("plan", done.recipe, "--set", "train.epochs=2")
    assert {s["state"] for s in changed["stages"] if s["kind"] == "train"} == {"stale"}
    assert {s["state"] for s in changed["stages"] if s["kind"] == "prepare"} == {"hit"}


def test_graphs(done: Program) -> None:
    dot = done("plan", done.recipe, "--graph", "dot").stdout
    assert dot.startswith('digraph "small" {') and dot.rstrip().endswith("}") and "->" in dot
    mermaid = done("plan", done.recipe, "--graph", "mermaid").stdout
    assert mermaid.startswith("flowchart LR") and "-->" in mermaid


def test_dry_run_changes_nothing(fresh: Program) -> None:
    result = fresh("run", fresh.recipe, "--dry-run")
    assert "to run" in result.stdout
    assert not (fresh.store / "artifacts").exists() and not (fresh.store / "runs").exists()


def test_validate(fresh: Program) -> None:
    assert "is valid" in fresh("validate", fresh.recipe).stdout
    plain = fresh.json("validate", fresh.recipe)
    assert plain["ok"] and plain["problems"] == [] and plain["stages"] > 5


def test_status(done: Program) -> None:
    runs = done.json("status")
    assert runs[0]["recipe"] == "small" and runs[0]["done"] == runs[0]["stages"]
    plain = done.json("status", "small")
    assert {stage["state"] for stage in plain["stages"]} == {"done"} and plain["id"] == runs[0]["id"]
    assert "done" in done("status", f"small/{plain['id']}").stdout
    every = [run["name"] for run in done.json("ls", "runs")]
    assert [run["name"] for run in runs] == every[: len(runs)] and len(runs) >= min(len(every), 10)  # the newest


def test_choices_of_stages(fresh: Program) -> None:
    fresh("run", fresh.recipe, "--until", "train nli lab*", "--no-report")
    kinds = {entry["kind"] for entry in fresh.json("ls", "artifacts")}
    assert kinds == {"prepare", "train"}
    assert len(fresh.json("status")) == 1  # part of a plan is the same run
    fresh("run", fresh.recipe, "--only", "prepare*", "--no-report")
    before = {entry["name"]: entry["made"] for entry in fresh.json("ls", "artifacts")}
    states = fresh.json("status", "small")["stages"]
    assert {s["state"] for s in states if s["kind"] == "prepare"} == {"done"}
    assert {s["state"] for s in states if s["kind"] == "evaluate"} == {"open"}
    module = fresh.json("show", "small/nli")["manifest"]
    plain = fresh.json("run", fresh.recipe, "--force", "train nli lab*", "--until", "train nli lab*", "--no-report")
    assert plain["stages"]["done"] == 1 and plain["ok"]
    again = fresh.json("show", "small/nli")["manifest"]
    assert again["hash"] == module["hash"] and again["created"] > module["created"]
    assert again["files"] == module["files"]  # the same bits, for the same spec
    assert set(before) == {entry["name"] for entry in fresh.json("ls", "artifacts")}


def test_stage_by_hash(fresh: Program) -> None:
    fresh("run", fresh.recipe, "--only", "prepare t-nli/en train", "--no-report")
    stages = {stage["name"]: stage["hash"] for stage in fresh.json("status", "small")["stages"]}
    other = stages["prepare t-nli/en dev"]
    assert fresh.json("stage", "run", other[:10]) | {"path": ""} == {
        "schema_version": 1, "name": "prepare t-nli/en dev", "kind": "prepare", "hash": other, "made": True, "path": "",
    }  # fmt: skip
    assert fresh.json("stage", "run", other)["made"] is False
    result = fresh("stage", "run", stages["evaluate nli-target by none lab/s0 seed 0"], code=5)
    assert "its parents are not done" in result.stderr


def test_damage_is_found_and_repaired(fresh: Program) -> None:
    fresh("run", fresh.recipe, "--until", "train nli lab*", "--no-report")
    module = fresh.json("show", "small/nli")
    assert fresh.json("store", "verify")["ok"]
    weights = next(Path(module["path"]).glob("leaves/*/*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    plain = fresh.json("store", "verify", code=5)
    assert [item["file"] for item in plain["damaged"]] == [str(weights.relative_to(module["path"]))]
    doctor = fresh.json("doctor", "--quick", code=1)
    assert [check["name"] for check in doctor["checks"] if check["state"] == "error"] == ["store"]
    assert fresh.json("store", "gc", "--damaged", "--dry-run")["artifacts"] == [module["manifest"]["hash"]]
    fresh("store", "gc", "--damaged")
    fresh("run", fresh.recipe, "--until", "train nli lab*", "--no-report")
    assert fresh.json("store", "verify")["ok"]


def test_gc_keeps_named_modules_and_the_last_run(fresh: Program) -> None:
    fresh("run", fresh.recipe, "--until", "train nli lab*", "--no-report")
    kept = {entry["name"] for entry in fresh.json("ls", "artifacts")}
    fresh("run", fresh.recipe, "--until", "train nli lab*", "--set", "train.steps=1", "--no-report")
    gone = fresh.json("store", "gc")["artifacts"]
    assert len(gone) == 1 and gone[0][:12] in kept
    assert fresh.json("store", "du")[0]["name"] == "prepare"


def test_jobs_in_a_pool(fresh: Program) -> None:
    plain = fresh.json("run", fresh.recipe, "--jobs", "2", "--until", "prepare", "--no-report")
    assert plain["ok"] and plain["stages"]["done"] >= 5


def test_interrupt_keeps_what_is_done_and_says_how_to_go_on(fresh: Program) -> None:
    arguments = (
        "train",
        "t-nli",
        "--base",
        "lab/s0",
        "--steps",
        "100000",
        "--set",
        "checkpoints=5000",
        "--name",
        "long",
    )
    process = fresh.start(*arguments)
    deadline = time.monotonic() + 600
    while not list((fresh.store / "work").glob("*/*")) and time.monotonic() < deadline:
        time.sleep(0.1)  # until the first checkpoint is there
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert out == "" and "Traceback" not in err
    assert "adapterstilts train t-nli --base lab/s0 --steps 100000 --set checkpoints=5000 --name long" in err
    states = {stage["kind"]: stage["state"] for stage in fresh.json("status", "long")["stages"]}
    assert states == {"prepare": "done", "train": "started"}
