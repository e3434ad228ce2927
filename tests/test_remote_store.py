"""A store elsewhere: pulled and pushed whole, compared with its manifests, and nothing is made twice."""

from __future__ import annotations

import json
from pathlib import Path
from socket import socket

import pytest

from adapterstilts.api.outside import place
from adapterstilts.cli.running import TRACKERS
from adapterstilts.errors import MissingDependency, StoreError
from adapterstilts.store import Store
from adapterstilts.store.remote import Remote, pull_hits
from tests.cli.conftest import Program, program

A, B, C = "a" * 64, "b" * 64, "c" * 64


def made(store: Store, hash: str, text: str = "x") -> None:
    with store.write(hash, "train", {"parents": {}}) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text(text)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path / 'far'}"


def test_what_was_pushed_comes_back_byte_for_byte(tmp_path: Path, url: str) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    made(here, A, "ä\0b")
    assert Remote(url).push(here, A) and not Remote(url).push(here, A)
    Remote(url).pull(there, A)
    assert (there.path(A) / "deep" / "file").read_text() == "ä\0b"
    assert there.manifest(A) == here.manifest(A) and there.verify() == []


def test_only_what_is_needed_is_pulled(tmp_path: Path, url: str) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    for hash in (A, B):
        made(here, hash)
        Remote(url).push(here, hash)
    # C is nowhere, so its parent B is needed; A is B's parent and is not.
    assert pull_hits(there, Remote(url), [C], {C: [B], B: [A]}) == [B]
    assert there.has(B) and not there.has(A)


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda folder: (folder / "deep" / "file").write_text("y"), "altered"),
        (lambda folder: (folder / "deep" / "file").write_text("longer"), "bytes instead of"),
        (lambda folder: (folder / "deep" / "file").unlink(), "file"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
        (lambda folder: rewrite(folder, lambda plain: plain["files"].update({"../../x": {}})), "leaves the folder"),
        (lambda folder: rewrite(folder, lambda plain: plain["files"].update({"/etc/x": {}})), "name is absolute"),
        (lambda folder: rewrite(folder, lambda plain: plain.update(hash=B)), "not artifact"),
    ],
)
def test_a_harmed_artifact_is_refused_and_leaves_nothing(tmp_path: Path, url: str, harm, told: str) -> None:  # type: ignore[no-untyped-def]
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    made(here, A)
    Remote(url).push(here, A)
    harm(tmp_path / "far" / "artifacts" / "train" / "aa" / A)
    with pytest.raises(StoreError, match=told):
        Remote(url).pull(there, A)
    assert not there.has(A) and not [path for path in there.root.rglob("*") if path.is_file()]


def rewrite(folder: Path, change) -> None:  # type: ignore[no-untyped-def]
    plain = json.loads((folder / "manifest.json").read_text())
    change(plain)
    (folder / "manifest.json").write_text(json.dumps(plain))


def test_a_push_that_was_cut_off_is_no_artifact(tmp_path: Path, url: str) -> None:
    here = Store(tmp_path / "here")
    made(here, A)
    Remote(url).push(here, A)
    (tmp_path / "far" / "artifacts" / "train" / "aa" / A / "manifest.json").unlink()  # it is the last to arrive
    assert not Remote(url).has(A)
    assert Remote(url).push(here, A)


def test_an_unknown_protocol(tmp_path: Path) -> None:
    with pytest.raises((StoreError, MissingDependency)):
        Remote("nosuch://bucket")


def test_a_second_machine_makes_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    first, second = (program(tmp_path / name) for name in ("one", "two"))

    def outcome(machine: Program) -> dict[str, int]:
        monkeypatch.chdir(machine.folder)
        arguments = ("run", machine.recipe, "--no-report", "--remote", url, "--track", "tensorboard")
        stages: dict[str, int] = machine.json(*arguments)["stages"]
        return stages

    assert set(outcome(first)) == {"done"}
    assert "done" not in outcome(second)
    curves = list((first.store / "tracking").rglob("events.out.tfevents*"))
    trained = list((first.store / "artifacts" / "train").glob("*/*"))
    assert len({path.parent for path in curves}) >= len(trained) > 0
    assert not (second.store / "tracking").exists()


def test_a_part_of_a_plan_takes_what_it_needs_from_elsewhere_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def stages(name: str, *options: str) -> dict[str, int]:
        machine = program(tmp_path / name)
        monkeypatch.chdir(machine.folder)
        found: dict[str, int] = machine.json("run", machine.recipe, "--no-report", "--remote", url, *options)["stages"]
        return found

    made = stages("one", "--until", "nli")["done"]
    again = stages("two", "--until", "nli")
    assert again["hit"] == made and "done" not in again
    alone = stages("three", "--only", "train nli-target by stack*")  # needs the module, which only the other store has
    assert alone["done"] == 1 and 0 < alone["hit"] <= made


def test_what_an_earlier_run_could_not_push_is_pushed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    machine = program(tmp_path / "one")
    monkeypatch.chdir(machine.folder)
    arguments = ("run", machine.recipe, "--no-report", "--until", "prepare", "--remote", url)
    far = tmp_path / "far"
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "push", _unreachable)
        said = machine(*arguments, code=5).stderr
    assert said.count("error:") == 1 and "NetworkDown" in said and "run again" in said
    made_here = {path.parent.name for path in machine.store.glob("artifacts/*/*/*/manifest.json")}
    assert made_here and not far.exists()  # the run went on to its end
    assert set(machine.json(*arguments)["stages"]) == {"hit", "unneeded"}
    assert {path.parent.name for path in far.glob("artifacts/*/*/*/manifest.json")} == made_here


def _unreachable(self: Remote, store: Store, hash: str) -> bool:
    with self._reached():
        raise NetworkDown("no route")


class NetworkDown(Exception): ...


def test_a_store_that_cannot_be_reached_is_one_error_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = program(tmp_path / "one")
    monkeypatch.chdir(machine.folder)
    with socket() as closed:  # bound, so that nobody else listens there
        closed.bind(("127.0.0.1", 0))
        url = f"http://me:secret1@127.0.0.1:{closed.getsockname()[1]}/store"
        said = machine("run", machine.recipe, "--no-report", "--remote", url, code=5).stderr
    assert said.count("error:") == 1 and "secret1" not in said and "nothing here was changed" in said
    assert not (machine.store / "artifacts").exists()


def test_every_tracker_gets_the_recipe_as_project_and_the_stage_as_run() -> None:
    label = "train a lab/s0 seed 0"
    for name in TRACKERS:
        made = place(name, "small", label, "there")
        if name == "tensorboard":  # its runs are folders
            assert made == {"run_name": "small/train_a_lab/s0_seed_0", "logging_dir": "there"}
        else:  # wandb refuses a project with a slash
            project = made.get("experiment_name") or made["run_name"]
            assert project == "small" and label in made.values()
