"""push and pull: what a reader gets is the module, with everything that is known of it; a stand-in plays the Hub."""

from __future__ import annotations

import json
import re
import shutil
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import adapterstilts
from adapterstilts.api.planning import plan_recipe
from adapterstilts.api.predicting import predict
from adapterstilts.errors import DataError
from tests.cli.conftest import Program

ROWS = [{"text_a": "one text", "text_b": "another"}, {"text_a": "yes", "text_b": "no"}]


class Hub:
    """What HfApi does with a folder: it keeps what the patterns allow."""

    def __init__(self, root: Path) -> None:
        self.root, self.private = root, None

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        if "nobody/" in repo_id:
            raise PermissionError(f"403 for {repo_id} with hf_Secret123\nmore")
        self.private = private

    def upload_folder(self, *, repo_id: str, folder_path: str, allow_patterns: list[str], **_: Any) -> str:
        for path in Path(folder_path).rglob("*"):
            name = path.relative_to(folder_path).as_posix()
            if path.is_file() and any(fnmatch(name, pattern) for pattern in allow_patterns):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, self.root / name)
        return f"https://hub.test/{repo_id}"


@pytest.fixture(scope="module")
def stacked(_done: Program) -> str:
    """A module with ancestors of every kind, scored in two languages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(_done.folder)
        made = ("--limit", "20", "--epochs", "1", "--set", "checkpoints=0")
        _done("train", "t-nli/qac", "--base", "lab/s0", *made, "--name", "other")
        search = "{task: t-nli, examples: 8, steps: 2}"
        _done("merge", "small/nli", "other", "--how", "search", "--parameters", search, "--name", "found")
        _done("stack", "fuse(found, small/nli)", "--train", "t-nli", *made, "--name", "mine/top")
        _done("evaluate", "mine/top", "t-nli", "--languages", "en,qaa")
    return "mine/top"


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The Hub's own cache with an empty repository someone/top at main; no network."""
    place = tmp_path / "cache" / "models--someone--top"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("c" * 40)
    for name in ("constants.HF_HUB_CACHE", "_snapshot_download.HF_HUB_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.{name}", str(tmp_path / "cache"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return place / "snapshots" / ("c" * 40)


def answers(program: Program, module: str, store: Path) -> list[Any]:
    found = predict(module, "t-nli", ROWS, store=store, task_files=[program.folder / "tasks"])
    return [list(row["probabilities"].values()) for row in found]


def test_what_is_pushed_is_pulled_and_gives_equal_answers(
    done: Program, stacked: str, cached: Path, tmp_path: Path
) -> None:
    hub = Hub(cached)
    places: Any = {"store": done.store, "task_files": [done.folder / "tasks"]}
    made = adapterstilts.push(stacked, "someone/top", private=True, hub=hub, **places)
    assert made["uploaded"] and made["url"] == "https://hub.test/someone/top" and hub.private
    there = {path.relative_to(cached).as_posix() for path in cached.rglob("*") if path.is_file()}
    assert there == {file["path"] for file in made["files"]}
    assert {Path(name).suffix for name in there} == {".json", ".safetensors", ".md"}
    taken = adapterstilts.pull("someone/top", store=tmp_path / "store")
    assert taken["name"] == "top" and taken["tasks"] == ["t-nli"] and taken["base"] == "lab/s0"
    np.testing.assert_allclose(answers(done, "top", tmp_path / "store"), answers(done, stacked, done.store), atol=1e-6)
    again = adapterstilts.pull("someone/top@main", name="again", store=tmp_path / "store")
    assert again["hash"] == taken["hash"]
    rows = adapterstilts.evaluate("top", "t-nli", languages=["en"], store=tmp_path / "store",
                                  task_files=places["task_files"])  # fmt: skip
    assert rows[0]["value"] == json.loads((cached / "adapterstilts.json").read_text())["scores"][0]["value"]
    on = adapterstilts.stack("top", "t-nli", name="over", limit=8, settings={"epochs": 1},
                             store=tmp_path / "store", task_files=places["task_files"])  # fmt: skip
    assert on.facts["trained"]


def test_the_card_says_all_and_its_recipe_is_the_same_stage(done: Program, stacked: str, tmp_path: Path) -> None:
    made = done.json("push", stacked, "--to", tmp_path / "shared")
    card = (tmp_path / "shared" / "README.md").read_text()
    assert made["card"] == card and not made["uploaded"]
    front = yaml.safe_load(card.split("---")[1])
    assert front["language"] == ["en", "qac"] and "lora" in front["tags"]
    for part in ("| found | merge of nli, other by search |", "| t-nli, test, accuracy | en | qaa |", "licence"):
        assert part in card, part
    (recipe,) = re.findall(r"```yaml\n(.*?)```", card, re.S)
    plan = plan_recipe(yaml.safe_load(recipe), store=done.store, task_files=[done.folder / "tasks"]).plan
    assert done.json("show", stacked)["manifest"]["hash"] in plan.by_hash
    assert str(done.folder) not in "".join(
        path.read_text() for path in (tmp_path / "shared").rglob("*") if path.suffix in (".json", ".md")
    )


def test_the_snippet_of_the_card_runs(
    done: Program, stacked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done("push", stacked, "--to", tmp_path / "shared")
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "shared" / "README.md").read_text(), re.S)
    assert len(code.strip().splitlines()) == 3
    monkeypatch.chdir(tmp_path / "shared")
    monkeypatch.setenv("ADAPTERSTILTS_STORE", str(tmp_path / "store"))
    # A task of one's own comes with its file; the tasks that are shipped need none.
    code = code.replace('"t-nli", [', f'"t-nli", task_files=["{done.folder / "tasks"}"], rows=[')
    exec(code, {})
    assert "probabilities" in capsys.readouterr().out


def test_a_dry_run_uploads_nothing(done: Program, stacked: str) -> None:
    shown = done("push", stacked, "--to", "someone/top", "--dry-run")
    assert "nothing was uploaded" in shown.stdout and "module.json" in shown.stdout and "# top" in shown.stdout


def test_tokens_stay_secret(done: Program, stacked: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        adapterstilts.push(stacked, "nobody/top", store=done.store, task_files=[done.folder / "tasks"],
                           hub=Hub(tmp_path))  # fmt: skip
    assert "hf_***" in str(caught.value) and "Secret" not in str(caught.value)


def test_altered_missing_and_foreign_files_are_refused(done: Program, stacked: str, tmp_path: Path) -> None:
    done("push", stacked, "--to", tmp_path / "shared")
    whole = tmp_path / "shared"
    assert "not empty" in done("push", stacked, "--to", whole, code=3).stderr

    def refused(change: Any, *parts: str) -> None:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        about = json.loads((copy / "adapterstilts.json").read_text())
        change(copy, about)
        if (copy / "adapterstilts.json").exists():
            (copy / "adapterstilts.json").write_text(json.dumps(about))
        told = done("pull", copy, "--name", "never", code=3).stderr
        assert all(part in told for part in parts), told
        assert "never" not in {entry["name"] for entry in done.json("ls", "modules")}

    refused(lambda copy, about: (copy / "golden.safetensors").write_bytes(b"x"), "golden.safetensors", "altered")
    refused(lambda copy, about: (copy / "module.json").unlink(), "module.json", "missing")
    refused(lambda copy, about: (copy / "adapterstilts.json").unlink(), "no shared module", "import peft")
    refused(lambda copy, about: about["files"].update({"../x.json": "0"}), "../x.json", "not read")
    refused(lambda copy, about: about["files"].update({"weights.pkl": "0"}), "weights.pkl", "not read")
    refused(lambda copy, about: about["base"].update(fingerprint="0"), "another base")
    refused(lambda copy, about: about["base"].update(ref=None), "--base FOLDER")
    refused(lambda copy, about: about["facts"].pop("tasks"), "facts")
