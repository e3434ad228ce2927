"""Every mistake gives one message with a fix, the right exit code, and changes nothing."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Program

# arguments ({recipe} is a valid one), exit code, what the message says
MISTAKES: list[tuple[list[str], int, list[str]]] = [
    (["rnu"], 2, ["No such command 'rnu'", "did you mean `run`?"]),
    (["run", "{recipe}", "--jbs", "2"], 2, ["No such option", "--jobs"]),
    (["run"], 2, ["Missing argument 'RECIPE'", "adapterstilts run --help"]),
    (["run", "{recipe}", "--jobs", "0"], 2, ["neither a number from 1 nor `auto`"]),
    (["run", "absent.yaml"], 3, ["no recipe `absent.yaml`", "fix:"]),
    (["plan", "{recipe}", "--set", "trian.epochs=2"], 2, ["--set trian.epochs=2: unknown key", "mean `train`?"]),
    (["run", "{recipe}", "--set", "train.epochs"], 2, ["cannot read this override"]),
    (["run", "{recipe}", "--only", "nothing like it"], 2, ["no stage is called `nothing like it`"]),
    (["run", "{recipe}", "--only", "evaluate*"], 2, ["needs `prepare", "--until"]),
    (["plan", "{recipe}", "--set", "base=lab/s9"], 3, ["no shipped base `lab/s9`", "did you mean `lab/s"]),
    (["plan", "{recipe}", "--set", "base=./nowhere"], 3, ["no base at `./nowhere`"]),
    (["plan", "{recipe}", "--set", "targets.nli-target.task=t-nlu"], 2, ["small.yaml", "no task `t-nlu`", "`t-nli`"]),
    (["plan", "{recipe}", "--set", "languages=[qaz]"], 2, ["no task has the language `qaz`", "did you mean `qa"]),
    (["train", "t-nly", "--base", "lab/s0"], 2, ["no task `t-nly`", "`t-nli`"]),
    (["train", "t-nli/xx", "--base", "lab/s0"], 2, ["`t-nli` has no language `xx`"]),
    (["train", "t-nli", "--base", "lab/s0", "--method", "lorra"], 2, ["unknown method `lorra`", "mean `lora`?"]),
    (["train", "t-nli", "--base", "lab/s0", "--method", "{name: lora, rank: 4}"], 2, ["no parameter `rank`"]),
    (["train", "t-nli", "--base", "lab/s0", "--method", "{name: lora"], 2, ["cannot be read"]),
    (["train", "t-nli", "--base", "lab/s0", "--set", "epoch=2"], 2, ["unknown key `epoch`", "did you mean `epochs`?"]),
    (["train", "t-nli", "--base", "lab/s0", "--set", "epochs"], 2, ["--set epochs", "cannot read"]),
    (["train", "t-own/sw", "--base", "lab/s0", "--data", "{data}"], 3, ["t-own/sw", "train"]),
    (["stack", "absent", "--train", "t-nli"], 5, ["the store has no module `absent`", "adapterstilts ls modules"]),
    (["stack", "stack(", "--train", "t-nli"], 2, ["column"]),
    (["fuse", "a", "b", "--train", "t-nli", "--how", "gates", "--name", "f"], 2, ["--how", "gate"]),
    (["merge", "a", "b", "--name", "a"], 2, ["`a` is the name of a module that is merged"]),
    (["merge", "a", "--name", "m", "--weights", "1,x"], 2, ["no list of numbers"]),
    (["evaluate", "absent", "t-nli"], 5, ["no module `absent`"]),
    (["retrieve", "t-nli", "--base", "lab/s0"], 2, ["`t-nli` is not searched"]),
    (["retrieve", "t-bucc", "--base", "lab/s0", "--layers", "top"], 2, ["neither `all` nor numbers"]),
    (["report", "absent"], 5, ["no recipe and no run `absent`"]),
    (["report", "{recipe}"], 5, ["nothing is measured for `small` yet", "adapterstilts run"]),
    (["status", "absent"], 5, ["no run and no stage `absent`"]),
    (["ls", "taks"], 2, ["no kind `taks`", "did you mean `tasks`?"]),
    (["show", "t-nlj"], 2, ["nothing is called `t-nlj`", "did you mean `t-nli`?"]),
    (["explain", "stack(lorra, dora)"], 2, ["neither a module of the store nor a method", "did you mean `lora`?"]),
    (["explain", "stak(lora)"], 2, ["unknown operator `stak`", "did you mean `stack`?"]),
    (["store", "show", "absent"], 5, ["no module `absent`"]),
    (["stage", "run", "0123456789"], 5, ["no stage `0123456789`"]),
    (["lab", "sample", "lab-nlx"], 2, ["lab-nli"]),
    (["--format", "xml", "ls", "tasks"], 2, ["--format", "json"]),
    (["--tasks", "absent-folder", "ls", "tasks"], 2, ["absent-folder"]),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "code", "parts"), MISTAKES, ids=[" ".join(case[0]) for case in MISTAKES])
def test_mistake(fresh: Program, arguments: list[str], code: int, parts: list[str]) -> None:
    places = {"{recipe}": str(fresh.recipe), "{data}": str(fresh.folder / "data")}
    result = fresh(*(places.get(argument, argument) for argument in arguments), code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr
    assert not (fresh.store / "artifacts").exists()


def test_traceback_with_vv_only(fresh: Program) -> None:
    assert "Traceback" not in fresh("ls", "taks", "-v", code=2).stderr
    assert "Traceback" in fresh("ls", "taks", "-vv", code=2).stderr


def test_all_problems_at_once_with_their_lines(fresh: Program) -> None:
    text = fresh.recipe.read_text().replace("epochs: 1", "epoch: 1").replace("on: nli", "onn: nli")
    fresh.recipe.write_text(text)
    result = fresh("validate", fresh.recipe, code=2)
    assert "2 problems" in result.stderr
    assert f"{fresh.recipe}:5" in result.stderr and f"{fresh.recipe}:10" in result.stderr
    plain = fresh.json("validate", fresh.recipe, code=2)
    assert plain["ok"] is False and len(plain["problems"]) == 2
    assert plain["problems"][0]["where"] == f"{fresh.recipe}:5" and "epochs" in plain["problems"][0]["fix"]


def test_wrong_label_names_file_and_line_and_other_stages_go_on(fresh: Program) -> None:
    bad = fresh.folder / "data" / "own" / "t-own" / "test-de.jsonl"
    bad.write_text(bad.read_text().replace("neutral", "perhaps"))
    fresh.recipe.write_text(
        "name: broken\nbase: lab/s0\ndata: data\ntrain: {steps: 1}\n"
        "modules: {nli: {train: [t-nli]}}\narms: {none: {}}\n"
        "targets: {own: {task: t-own, languages: [en, de]}}\n"
    )
    result = fresh("run", fresh.recipe, "--no-report", code=3)
    assert "test-de.jsonl:1" in result.stderr and "perhaps" in result.stderr and "Traceback" not in result.stderr
    assert [entry["name"] for entry in fresh.json("ls", "modules")] == ["broken/nli"]


def test_a_stage_that_fails_and_no_keep_going(fresh: Program) -> None:
    bad = fresh.folder / "data" / "own" / "t-own" / "train-en.jsonl"
    bad.write_text("not json\n")
    arguments = ("train", "t-own", "--base", "lab/s0", "--data", fresh.folder / "data", "--steps", "1")
    result = fresh(*arguments, code=3)
    assert "train-en.jsonl:1" in result.stderr and result.stdout == ""
