"""The recipes of the paper and of the studies on XTREME, planned with stand-ins of the files that cannot be shared."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from adapterstilts.api.places import OURS
from adapterstilts.api.planning import Planned, plan_recipe

PAPER = sorted(path.relative_to(OURS) for path in (OURS / "phang2020").rglob("*.yaml"))
XTREME = sorted(path.relative_to(OURS) for path in (OURS / "studies").glob("*.xtreme.yaml"))
NINE = {"anli_plus", "mnli", "qqp", "squad", "squad_v2", "hellaswag", "ccg", "cosmosqa", "commonsenseqa"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CCGbank, BUCC and plain text where they would lie."""
    root = tmp_path_factory.mktemp("data")
    files = {f"own/ccg/{split}.tsv": "the\tNP/N\n" for split in ("train", "dev", "test")}
    for language in ("de", "fr", "ru", "zh"):
        for part, end in itertools.product(("sample", "training"), (language, "en", "gold")):
            files[f"raw/bucc2018/{language}-en/{language}-en.{part}.{end}"] = "x-1\ty-1\n"
    files |= {f"text/mono/{x}.txt": "one\n" * 600 for x in ("en", "ar", "de", "hi", "ru", "sw", "th", "tr", "vi", "zh")}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning counts on the Hub and asks it nothing."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def planned(path: Path, data: Path, *sets: str) -> Planned:
    precision = ["train.precision=int8"] if "4gb" in path.name else []  # nf4 needs an extra
    return plan_recipe(OURS / path, [f"data={{root: {data}, hub: true}}", *precision, *sets], store=data / "store")


def test_the_paper_has_its_recipes_in_four_sizes() -> None:
    kinds = ("single", "multitask", "with-mlm", "translated")
    assert {path.stem for path in PAPER} == {
        "single-adapters", *kinds, *(f"{kind}-{size}gb" for kind in kinds for size in (4, 8, 12, 16))
    }  # fmt: skip


@pytest.mark.parametrize("path", [*PAPER, *XTREME], ids=str)
def test_every_recipe_is_planned(path: Path, data: Path) -> None:
    made = planned(path, data)
    assert {stage.kind for stage in made.plan.stages} >= {"prepare", "train", "evaluate"}


def test_schedules_are_those_of_the_paper(data: Path) -> None:
    """reference: jiant's guide, with the recalled mixing of T5."""
    recipe = planned(Path("phang2020/multitask.yaml"), data).recipe
    asked = {"learning_rate": 1e-5, "warmup": 0.1, "weight_decay": 0.01, "clip": 1.0, "batch": 32}
    assert recipe.train.items() >= asked.items()
    epochs = {name: target.train["epochs"] for name, target in recipe.targets.items()}
    assert epochs == {"xnli": 2, "pawsx": 5, "udpos": 10, "panx": 10, "xquad": 2, "mlqa": 2, "tydiqa": 2}
    assert {target.train["batch"] for name, target in recipe.targets.items() if "qa" in name or "quad" in name} == {16}
    assert set(recipe.modules) == {*NINE, "multitask9"}
    assert recipe.retrieve[0].layers == (14,) and set(recipe.retrieve[0].tasks) == {"bucc2018", "tatoeba"}


def test_tasks_without_files_can_be_left_out(tmp_path: Path) -> None:
    few = ["intermediate=[mnli,squad]", "encoders=[base,mnli,squad]", "searched=[tatoeba]"]
    made = plan_recipe(OURS / "phang2020" / "single.yaml", [f"vars.{text}" for text in few], store=tmp_path)
    assert set(made.recipe.arms) == {"none", "to-mnli", "to-squad"}
