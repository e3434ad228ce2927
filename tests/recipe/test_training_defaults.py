"""What a task says of its training is the lowest layer of the settings, and what is planned is what they resolve to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from adapterstilts.errors import RecipeError
from adapterstilts.plan import make_plan
from adapterstilts.recipe import from_plain
from adapterstilts.settings import TrainSettings
from adapterstilts.stages.specs import TrainSpec
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import task_hash
from tests.small_tasks import small_base, small_registry

SAID = {"t-nli": {"epochs": 7, "batch": 8}, "t-qa": {"epochs": 5, "batch": 8}, "t-xqa": {"epochs": 3, "warmup": 0.06}}


@pytest.fixture
def tasks(tmp_path: Path) -> TaskRegistry:
    small_registry(tmp_path / "tasks")
    for name, training in SAID.items():
        path = tmp_path / "tasks" / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "training": training}))
    return TaskRegistry([tmp_path / "tasks"])


def planned(tasks: TaskRegistry, tmp_path: Path, **recipe: Any) -> dict[str, TrainSettings]:
    plain = {"name": "r", "bases": [str(small_base(tmp_path / "base"))], **recipe}
    stages = make_plan(from_plain(plain), tasks, Store(tmp_path / "store")).stages
    return {stage.label.split()[1]: stage.spec.settings for stage in stages if isinstance(stage.spec, TrainSpec)}


def test_the_task_speaks_where_the_recipe_is_silent(tasks: TaskRegistry, tmp_path: Path) -> None:
    modules = {"nli": {"train": "t-nli"}, "own": {"train": "t-nli", "settings": {"epochs": 1}}}
    found = planned(tasks, tmp_path, modules=modules)
    assert (found["nli"].epochs, found["nli"].batch) == (7, 8)
    assert (found["own"].epochs, found["own"].batch) == (1, 8)
    over = planned(tasks, tmp_path, modules=modules, train={"epochs": 2, "warmup": 0.2})
    assert (over["nli"].epochs, over["nli"].batch, over["nli"].warmup) == (2, 8, 0.2)
    assert over["own"].epochs == 1


def test_a_target_has_its_own_and_a_mix_what_all_say(tasks: TaskRegistry, tmp_path: Path) -> None:
    found = planned(
        tasks,
        tmp_path,
        modules={"both": {"train": ["t-nli", "t-qa"]}},
        targets={"qa": {"task": "t-xqa"}},
        arms={"none": {}, "slow": {"settings": {"epochs": 9}}},
    )
    assert (found["both"].epochs, found["both"].batch) == (None, 8)
    plan = make_plan(
        from_plain(
            {
                "name": "r",
                "bases": [str(tmp_path / "base")],
                "targets": {"qa": {"task": "t-xqa"}},
                "arms": {"none": {}, "slow": {"settings": {"epochs": 9}}},
            }
        ),
        tasks,
        Store(tmp_path / "store"),
    )
    trained = [stage.spec.settings for stage in plan.stages if isinstance(stage.spec, TrainSpec)]
    # t-xqa is trained on t-qa by the settings of t-xqa.
    assert sorted((s.epochs, s.warmup, s.batch) for s in trained) == [(3, 0.06, 32), (9, 0.06, 32)]


def test_defaults_are_no_part_of_the_data(tasks: TaskRegistry) -> None:
    spec = tasks.get("t-nli")
    assert task_hash(spec) == task_hash(spec.model_copy(update={"training": {}}))


def test_mistakes_are_refused(tasks: TaskRegistry) -> None:
    with pytest.raises(RecipeError, match="epoch: Extra inputs"):
        tasks.get("t-nli", {"training": {"epoch": 3}})


def test_the_published_schedules_are_in_the_tasks_and_the_lab_has_none() -> None:
    registry = TaskRegistry()
    epochs = {name: registry.get(name).training.get("epochs") for name in registry.names()}
    assert {name: epochs[name] for name in ("xnli", "pawsx", "panx", "udpos", "squad", "xquad", "mlqa", "tydiqa")} == {
        "xnli": 5, "pawsx": 5, "panx": 10, "udpos": 10, "squad": 3, "xquad": 3, "mlqa": 3, "tydiqa": 3,
    }  # fmt: skip
    assert epochs["siqa"] == epochs["copa"] == epochs["xcopa"] == 5
    assert all(epochs[name] is None for name in epochs if name.startswith("lab-"))
    # Learning rates belong to methods: those of the scripts are for training all weights.
    assert not any("learning_rate" in registry.get(name).training for name in registry.names())
