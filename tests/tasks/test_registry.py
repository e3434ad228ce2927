"""The shipped tasks are whole and consistent, reading them is quick and torch-free, and mistakes are explained."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from adapterstilts.errors import AdapterstiltsError, DataError, RecipeError
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import split_task, task_hash
from tests.conftest import unit

REGISTRY = TaskRegistry()
XTREME = {
    "xnli": 15,
    "pawsx": 7,
    "udpos": 33,
    "panx": 40,
    "xquad": 11,
    "mlqa": 7,
    "tydiqa": 9,
    "bucc2018": 4,
    "tatoeba": 36,
}
XTREME_R = {"xnli": 15, "xcopa": 11, "udpos": 38, "panx": 48, "xquad": 12, "mlqa": 7, "tydiqa": 9, "tatoeba": 41}
XTREME_R |= {"mewslix": 11, "lareqa": 11}


@pytest.mark.parametrize("name", REGISTRY.names())
def test_every_shipped_task_is_whole(name: str) -> None:
    task = REGISTRY.get(name)
    assert task.sources
    assert task.licence
    assert task.title
    if not name.startswith("lab-") and name != "mlm":
        assert task.citation
        assert task.url
    for languages in task.benchmarks.values():
        assert set(languages) <= set(task.languages)
    for source in task.sources:
        assert source.note or not source.stand_in, f"{source.name} is a stand-in without a word on what it is"
        assert set(source.files) | set(source.splits) <= set(task.splits)
        assert set(source.languages or ()) | set(source.codes) <= set(task.languages)
        for member in source.tasks:
            assert REGISTRY.get(member).labels == task.labels


@pytest.mark.parametrize("name", REGISTRY.names())
def test_a_target_can_use_the_head_of_its_training_task(name: str) -> None:
    task = REGISTRY.get(name)
    trained = REGISTRY.get(task.train_task)
    assert trained.format == task.format
    assert trained.labels == task.labels
    assert trained.settings.pool == task.settings.pool
    assert "train" in trained.splits or task.searched
    assert task.head_name in REGISTRY


@pytest.mark.parametrize("name", [n for n in REGISTRY.names() if REGISTRY.get(n).format != "masked_lm"])
def test_every_metric_exists(name: str) -> None:
    from adapterstilts.evaluation.metrics import METRICS

    assert REGISTRY.get(name).metric in METRICS


@pytest.mark.parametrize(("benchmark", "languages"), [("xtreme", XTREME), ("xtreme-r", XTREME_R)])
def test_benchmarks_average_over_their_own_languages(benchmark: str, languages: dict[str, int]) -> None:
    found = {
        n: len(t.benchmarks[benchmark]) for n in REGISTRY.names() if benchmark in (t := REGISTRY.get(n)).benchmarks
    }
    assert found == languages


def test_published_sizes() -> None:
    anli = [REGISTRY.get(f"anli_r{r}").size("train", "en") for r in (1, 2, 3)]
    assert sum(filter(None, anli)) == REGISTRY.get("anli").size("train", "en") == 162_865
    parts = [REGISTRY.get(name).size("train", "en") for name in ("snli", "mnli", "anli")]
    assert sum(filter(None, parts)) == REGISTRY.get("anli_plus").size("train", "en") == 1_104_934
    tydiqa = REGISTRY.get("tydiqa")
    assert sum(tydiqa.size("train", code) or 0 for code in tydiqa.languages) == 49_881
    assert sum(tydiqa.size("test", code) or 0 for code in tydiqa.languages) == 5_077


def test_all_specs_load_fast() -> None:
    TaskRegistry().get("mnli")  # imports and compiled validators are not the point
    start = time.process_time()
    registry = TaskRegistry()
    assert len(registry.names()) > 50
    named = time.process_time() - start
    for name in registry.names():
        registry.get(name)
    read = time.process_time() - start
    assert named < unit() / 4
    assert read < 6 * unit()


@pytest.mark.parametrize(
    "module", ["adapterstilts.tasks.registry", "adapterstilts.data.sources", "adapterstilts.data.checks"]
)
def test_planning_imports_nothing_heavy(module: str) -> None:
    heavy = ["torch", "transformers", "datasets", "peft", "adapters", "faiss", "matplotlib", "tokenizers"]
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_overrides_are_merged_and_change_the_hash() -> None:
    plain = REGISTRY.get("lab-nli")
    changed = REGISTRY.get("lab-nli", {"settings": {"max_length": 64}, "sizes": {"train": 10}})
    assert changed.settings.max_length == 64
    assert changed.settings.pool == plain.settings.pool
    assert (changed.size("train", "en"), changed.size("dev", "en")) == (10, plain.size("dev", "en"))
    assert task_hash(changed) != task_hash(plain)


def test_prose_sources_and_languages_do_not_change_the_hash() -> None:
    plain = REGISTRY.get("xnli")
    for change in ({"notes": ["other"]}, {"licence": "x"}, {"source": "raw"}, {"languages": ["de"]}):
        assert task_hash(REGISTRY.get("xnli", change)) == task_hash(plain)


def test_a_task_is_one_file(tmp_path: Path) -> None:
    own = {"format": "classification", "languages": ["de"], "labels": ["yes", "no"], "metric": "accuracy"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(own))
    assert TaskRegistry([tmp_path]).get("mine").labels == ("yes", "no")
    assert TaskRegistry([tmp_path / "mine.yaml"]).get("mine").chance_level == 50


def test_labels_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "tags.txt").write_text("N\n(S\\NP)/NP\n")
    task = REGISTRY.get("ccg", {"labels": {"file": str(tmp_path / "tags.txt")}})
    assert task.labels == ("N", "(S\\NP)/NP")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [("xnli/sw", ("xnli", "sw")), ("xnli", ("xnli", None)), ("lab-nli/qaa", ("lab-nli", "qaa"))],
)
def test_split_task(reference: str, expected: tuple[str, str | None]) -> None:
    assert split_task(reference) == expected


GOOD = "format: classification\nlanguages: [de]\nlabels: [a, b]\nmetric: accuracy\n"
FILES = "  - {name: raw, layout: raw, files: {train: x}}\n"
BAD_FILES = {
    "unknown key": (GOOD + "metrik: f1\n", "task.yaml:5", "did you mean `metric`"),
    "unknown format": (GOOD.replace("classification", "parsing"), "task.yaml:1", "parsing|classification"),
    "no labels": (GOOD.replace("labels: [a, b]\n", ""), "task.yaml", "needs labels"),
    "labels twice": (GOOD.replace("[a, b]", "[a, a]"), "task.yaml", "labels repeat"),
    "no yaml": (GOOD + "a: [b\n", "task.yaml:6", "this is not YAML"),
    "no mapping": ("- a\n", "task.yaml:1", "mapping"),
    "another name": (GOOD + "name: other\n", "task.yaml", "named `other`"),
    "bare hub name": (
        GOOD + "sources:\n  - {name: h, kind: hub, repo: xnli, splits: {dev: x}}\n",
        "task.yaml:6",
        "namespace/name",
    ),
    "no layout": (GOOD + "sources:\n  - {name: raw, files: {train: x}}\n", "task.yaml:6", "needs layout and files"),
    "sources of one name": (GOOD + "sources:\n" + FILES + FILES, "task.yaml", "source names repeat"),
    "unknown reader": (GOOD + "sources:\n" + FILES.replace("raw,", "raw, reader: xml,", 1), "task.yaml:6", "reader"),
    "a bad length": (GOOD + "settings: {max_length: 3}\n", "task.yaml:5", "max_length"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_mistakes_in_a_task_file_are_explained(case: str, tmp_path: Path) -> None:
    text, where, what = BAD_FILES[case]
    (tmp_path / "task.yaml").write_text(text)
    with pytest.raises(RecipeError, match=what) as caught:
        TaskRegistry([tmp_path]).get("task")
    assert where in str(caught.value.where)


def test_mistakes_in_asking() -> None:
    with pytest.raises(RecipeError, match="did you mean `xnli`"):
        REGISTRY.get("xnil")
    with pytest.raises(RecipeError, match="overrides"):
        REGISTRY.get("xnli", {"settings": {"max_length": "long"}})
    with pytest.raises(RecipeError, match="no source `huub`"):
        REGISTRY.get("xnli", {"source": "huub"})
    with pytest.raises(DataError, match="no label file"):
        REGISTRY.get("ccg", {"labels": {"file": "nowhere.txt"}})
    with pytest.raises(DataError, match="no such task file"):
        TaskRegistry([Path("nowhere.yaml")])
    for wrong in ("xnli/", "/de", "a/b/c"):
        with pytest.raises(AdapterstiltsError, match="no task"):
            split_task(wrong)
