"""Suites name tasks that exist, in the languages that the benchmarks average over."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterstilts.errors import RecipeError
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.suites import get_suite, parts_of, suite_names

REGISTRY = TaskRegistry()


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_is_whole(name: str) -> None:
    suite = get_suite(name)
    assert suite.title and suite.citation and suite.url
    assert len(set(suite.tasks)) == len(suite.tasks)
    for task in suite.tasks:
        spec = REGISTRY.get(task)
        assert set(suite.languages(spec)) <= set(spec.languages)
        assert suite.benchmark is None or suite.benchmark in spec.benchmarks


@pytest.mark.parametrize("name", ["xtreme", "xtreme-r"])
def test_a_benchmark_has_all_its_tasks(name: str) -> None:
    """Every task that says it belongs to a benchmark is in its suite; what has no file there is one of them."""
    members = {task for task in REGISTRY.names() if name in REGISTRY.get(task).benchmarks}
    assert members == set(get_suite(name).tasks)
    assert set(get_suite(name).unread) <= members


def test_what_a_suite_consists_of() -> None:
    parts = list(parts_of("xtreme", REGISTRY))
    assert len(parts) == len(set(parts))
    assert {(task, language) for task, language, split in parts if split == "train"} == {
        (task, "en") for task in ("mnli", "pawsx", "udpos", "panx", "squad", "tydiqa")
    }
    assert sum(task == "tatoeba" for task, _, _ in parts) == 36
    few = list(parts_of("xtreme", REGISTRY, ("sw",)))
    assert ("xnli", "sw", "test") in few and ("mnli", "en", "train") in few and ("xnli", "de", "test") not in few
    assert ("ccg", "en", "train") in list(parts_of("phang2020-intermediate", REGISTRY))


def test_what_a_task_consists_of() -> None:
    assert list(parts_of("xnli/sw", REGISTRY)) == [("xnli", "sw", "dev"), ("xnli", "sw", "test")]
    assert len(list(parts_of("xcopa", REGISTRY))) == 22
    assert list(parts_of("xquad", REGISTRY, ("ro",))) == [("xquad", "ro", "test")]
    # One candidate set for all languages of mewslix, whatever languages are asked for; one in each of lareqa.
    parts = list(parts_of("xtreme-r", REGISTRY, ("de",)))
    assert [part for part in parts if part[0] == "mewslix"] == [
        ("mewslix", "de", "dev"),
        ("mewslix", "de", "test"),
        ("mewslix", "en", "pool"),
    ]
    assert sum(part[0] == "lareqa" and part[2] == "pool" for part in parts) == 11


def test_mistakes_are_explained(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no task `xtrem`"):
        list(parts_of("xtrem", REGISTRY))
    with pytest.raises(RecipeError, match="did you mean `xtreme`"):
        get_suite("xtrem")
    with pytest.raises(RecipeError, match="xnli does not have xx"):
        list(parts_of("xnli", REGISTRY, ("xx",)))
    path = tmp_path / "mine.yaml"
    path.write_text("group: {a: [xnli]}\n")
    with pytest.raises(RecipeError, match="groups") as caught:
        get_suite(str(path))
    assert caught.value.where == f"{path}:1"
    path.write_text("groups: {a: [xnli]}\n")
    assert len(list(parts_of(str(path), REGISTRY))) == 34
