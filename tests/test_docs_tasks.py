"""docs/tasks.md: its five-line task works as it is printed there; the tables of all pages are those of the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from adapterstilts.evaluation.metrics import METRICS
from adapterstilts.tasks.spec import READERS
from tests.cli.conftest import Program

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "tasks.md").read_text(encoding="utf-8")


def blocks(language: str, title: str) -> list[str]:
    """The code blocks of a section."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_a_task_of_your_own_in_five_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task,) = blocks("yaml", "A task of your own in five lines")
    data, (commands,) = (
        blocks("", "A task of your own in five lines")[0],
        blocks("sh", "A task of your own in five lines"),
    )
    assert len(task.splitlines()) == 5
    monkeypatch.chdir(tmp_path)
    Path("reviews.yaml").write_text(task)
    Path("mine/reviews").mkdir(parents=True)
    for name in ("train.en", "dev.en", "test.en", "test.de"):
        Path(f"mine/reviews/{name}.tsv").write_text(data * 4)
    program = Program(tmp_path)
    (tmp_path / "tasks").mkdir()
    check, train, evaluate = (shlex.split(line)[1:] for line in commands.splitlines())
    found = program.json(*check)
    assert {(e["language"], e["split"], e["count"]) for e in found if not e["missing"]} == {
        ("en", "train", 8),
        ("en", "dev", 8),
        ("en", "test", 8),
        ("de", "test", 8),
    }
    assert program.json(*train)["name"] == "reviews"
    assert {row["language"] for row in program.json(*evaluate)} == {"en", "de"}


def test_own_files_need_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (task,) = blocks("yaml", "A task of your own in five lines")
    Path("reviews.yaml").write_text("\n".join(task.splitlines()[:4]))
    Path("mine/own/reviews").mkdir(parents=True)
    Path("mine/own/reviews/train-en.jsonl").write_text('{"text_a": "a", "text_b": null, "label": "positive"}\n')
    (tmp_path / "tasks").mkdir()
    found = Program(tmp_path).json("data", "check", "reviews/en", "--tasks", "reviews.yaml", "--data", "mine")
    assert [e["count"] for e in found if not e["missing"]] == [1]


def test_the_tables_are_those_of_the_code() -> None:
    done = subprocess.run([sys.executable, DOCS / "tables.py", "--check"], check=False)
    assert done.returncode == 0, "run: python docs/tables.py"


def test_what_the_page_names_exists() -> None:
    readers = re.search(r"Readers: (.*?), one for each", PAGE, re.DOTALL)
    metrics = re.search(r"Metrics: (.*?)\. A task", PAGE, re.DOTALL)
    assert readers and metrics
    assert re.findall(r"`(\w+)`", readers[1]) == list(READERS)
    assert set(re.findall(r"`([\w@]+)`", metrics[1])) <= set(METRICS) | {"bucc", "tatoeba"}
