"""Fetching from local repositories of the Hub's schema: parquet and a README that names the configurations."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.data.fetch import HubSplit, fetch, wanted
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import resolve
from adapterstilts.errors import DataError
from adapterstilts.store.files import sha256
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.suites import parts_of

REGISTRY = TaskRegistry()
XNLI = {"premise": ["a", "b", "c"], "hypothesis": ["x", "y", "z"], "label": [0, 1, 2]}


def repository(root: Path, name: str, splits: dict[str, dict[str, list[Any]]]) -> Path:
    """``splits``: "config/split" -> columns."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    configs: dict[str, list[str]] = {}
    for place, columns in splits.items():
        config, split = place.split("/")
        path = root / name / config / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.table(columns), path)
        configs.setdefault(config, []).append(f"  - split: {split}\n    path: {config}/{split}-*\n")
    text = "".join(f"- config_name: {config}\n  data_files:\n{''.join(files)}" for config, files in configs.items())
    (root / name / "README.md").write_text(f"---\nconfigs:\n{text}---\n")
    return root


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    splits = {f"{language}/{split}": XNLI for language in ("de", "sw") for split in ("validation", "test")}
    repository(tmp_path / "mirror", "facebook/xnli", splits)
    questions = {
        "id": ["q"],
        "question": ["?"],
        "context": ["ein c"],
        "answers": [{"text": ["c"], "answer_start": [4]}],
    }
    return repository(tmp_path / "mirror", "google/xquad", {"xquad.de/validation": questions})


def xnli(*languages: str) -> list[HubSplit]:
    return wanted([part for lg in languages for part in parts_of(f"xnli/{lg}", REGISTRY)], REGISTRY)[0]


def test_what_is_fetched_is_what_tasks_read(mirror: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[str] = []
    done = fetch(xnli("de", "sw"), out, mirror=mirror, watch=lambda one: seen.append(one.split.config or ""))
    assert [(one.state, one.rows) for one in done] == [("fetched", 3)] * 4
    assert seen == ["de", "de", "sw", "sw"]
    found = resolve(REGISTRY.get("xnli"), "sw", "test", out)
    assert found.source.name == "hub" and found.fingerprint().startswith("files:")
    assert [e["label"] for e in read_examples(found)] == ["entailment", "neutral", "contradiction"]
    manifest = json.loads((out / "hub" / "manifest.json").read_text())["files"]
    assert len(manifest) == 4
    for place, entry in manifest.items():
        assert entry["sha256"] == sha256(out / "hub" / place) and entry["rows"] == 3
    fetch(wanted(parts_of("xquad/de", REGISTRY), REGISTRY)[0], out, mirror=mirror)
    (example,) = read_examples(resolve(REGISTRY.get("xquad"), "de", "test", out))
    assert example["answers"] == [{"text": "c", "start": 4}]


def test_it_goes_on_where_it_stopped(mirror: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    splits = xnli("de", "sw")
    with pytest.raises(KeyboardInterrupt):
        fetch(splits, out, mirror=mirror, watch=interrupted)
    assert len(json.loads((out / "hub" / "manifest.json").read_text())["files"]) == 1
    times = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}
    assert [one.state for one in fetch(splits, out, mirror=mirror)] == ["kept", "fetched", "fetched", "fetched"]
    assert all(p.stat().st_mtime_ns == when for p, when in times.items())
    damaged = out / "hub" / splits[2].place
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert [one.state for one in fetch(splits, out, mirror=mirror)] == ["kept", "kept", "fetched", "kept"]
    assert not [p for p in out.rglob(".*")]


def interrupted(one: object) -> None:
    raise KeyboardInterrupt


def test_one_that_fails_does_not_stop_the_others(mirror: Path, tmp_path: Path) -> None:
    splits = [*xnli("de"), *wanted(parts_of("pawsx/de", REGISTRY), REGISTRY)[0], *xnli("fr", "sw")]
    done = fetch(splits, tmp_path / "out", mirror=mirror)
    states = [one.state for one in done]
    assert states == ["fetched"] * 2 + ["failed"] * 3 + ["failed"] * 2 + ["fetched"] * 2
    assert "no such repository" in str(done[2].error) and "BuilderConfig" in str(done[5].error)


def committed(place: Path, message: str) -> str:
    """Everything in the folder as one more commit; its hash."""
    git = ["git", "-C", str(place), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", message]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_a_folder_stays_with_the_commit_it_began_with(mirror: Path, tmp_path: Path) -> None:
    out, place = tmp_path / "out", mirror / "facebook" / "xnli"
    first = committed(place, "one")
    assert [one.state for one in fetch(xnli("de"), out, mirror=mirror)] == ["fetched"] * 2
    manifest = json.loads((out / "hub" / "manifest.json").read_text())["files"]
    assert {(entry["commit"], entry["revision"]) for entry in manifest.values()} == {(first, "main")}
    second = committed(place, "two")
    # What is there is kept, and it is said that upstream went on.
    kept = fetch(xnli("de"), out, mirror=mirror)
    assert [one.state for one in kept] == ["kept"] * 2
    assert all(first in str(one.note) and second in str(one.note) for one in kept)
    # What is not there would come from another commit.
    mixed = fetch(xnli("sw"), out, mirror=mirror)
    assert [one.state for one in mixed] == ["failed"] * 2 and first in str(mixed[0].error)
    assert set(manifest) == set(json.loads((out / "hub" / "manifest.json").read_text())["files"])
    # Asked for by name it is refused where another is held, and fetched into a folder of its own.
    assert {one.state for one in fetch(xnli("de"), out, mirror=mirror, revision=second)} == {"failed"}
    assert {one.state for one in fetch(xnli("de"), tmp_path / "new", mirror=mirror, revision=second)} == {"fetched"}
    entries = json.loads((tmp_path / "new" / "hub" / "manifest.json").read_text())["files"].values()
    assert {(entry["commit"], entry["revision"]) for entry in entries} == {(second, second)}


def test_what_is_wanted() -> None:
    splits, without = wanted([("tatoeba", "de", "test"), ("tatoeba", "fr", "test")], REGISTRY)
    assert len(splits) == 1 and not without  # one file holds all languages
    splits, without = wanted([("anli", "en", "train"), ("bucc2018", "de", "test")], REGISTRY)
    assert [split.split for split in splits] == ["train_r1", "train_r2", "train_r3"]  # a group is its members
    assert without == ["bucc2018/de test"]
    whole, without = wanted(parts_of("xtreme", REGISTRY), REGISTRY)
    assert {split.repo for split in whole} >= {"facebook/xnli", "google/xtreme", "unimelb-nlp/wikiann", "nyu-mll/glue"}
    assert {place.split("/")[0] for place in without} == {"bucc2018"}


def test_a_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="manifest cannot be read"):
        fetch([], tmp_path)
