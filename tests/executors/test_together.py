"""Training stages that share a loop: each module is what it is alone, and what goes wrong costs one of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapterstilts.api.planning import Planned
from adapterstilts.api.together import sharing
from adapterstilts.errors import RecipeError
from adapterstilts.executors import drive
from adapterstilts.executors.crew import Setup
from adapterstilts.modules.artifact import read_module
from adapterstilts.plan.build import make_plan
from adapterstilts.plan.together import companions
from adapterstilts.recipe.load import from_plain
from adapterstilts.stages.run import run_group, run_stage
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

LORA = {"name": "lora", "r": 4, "sites": ["value", "output"]}
BOTTLENECK = {"name": "seq_bn", "reduction": 4}
SETTINGS = {"epochs": 2}
RECIPE: dict[str, Any] = {
    "name": "shared",
    "base": "lab/s0",
    "seeds": [0, 1],
    "method": LORA,
    "train": {"batch": 8, "learning_rate": 2e-3, "checkpoints": 3},
    "tasks": {name: {"sizes": {"train": 60, "dev": 20, "test": 10}} for name in ("lab-siqa", "lab-ner")},
    "modules": {
        "a": {"train": "lab-siqa", "limit": 24, "settings": {"epochs": 2, "evaluate": 2, "select": "best"}},
        "b": {"train": "lab-ner", "method": BOTTLENECK, "limit": 20, "settings": {"epochs": 2, "learning_rate": 1e-3}},
        "c": {"train": ["lab-siqa", "lab-siqa/qaa"], "on": "b", "limit": 16, "settings": SETTINGS},
        "d": {"train": "lab-siqa", "limit": 16, "settings": {**SETTINGS, "dropout": 0.1}},
    },
}


def planned(store: Store, recipe: dict[str, Any] = RECIPE) -> Planned:
    tasks = TaskRegistry()
    read = from_plain(recipe)
    return Planned(read, make_plan(read, tasks, store), store, tasks)


def finished(store: Store, together: Any, jobs: int = 1, recipe: dict[str, Any] = RECIPE) -> dict[str, Any]:
    """label -> (facts, tensors) of the modules."""
    made = planned(store, recipe)
    events: list[tuple[str, str]] = []
    result = drive.run(
        made.plan,
        Setup(store, jobs),
        companions=sharing(made, together, jobs),
        on_event=lambda event: events.append((event.kind, event.stage.hash)),
    )
    assert result.ok, [str(stage.error) for stage in result.having("failed")]
    kinds = {stage.hash: [kind for kind, hash in events if hash == stage.hash] for stage in made.plan.stages}
    assert all([kind for kind in told if kind != "progress"] == ["started", "done"] for told in kinds.values())
    return results(made)


def results(made: Planned) -> dict[str, Any]:
    """label -> (facts, tensors) of the modules that are there."""
    found = {}
    for stage in made.plan.stages:
        if stage.kind == "train" and made.store.has(stage.hash):
            path = made.store.path(stage.hash)
            module = read_module(path)
            tensors = {**(module.weights()[module.trained].tensors or {}), **module.head(next(iter(module.heads)))}
            found[stage.label] = json.loads((path / "manifest.json").read_text())["facts"], tensors
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return finished(Store(tmp_path_factory.mktemp("alone")), "never")


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for label, (facts, tensors) in wanted.items():
        own_facts, own = found[label]
        assert own.keys() == tensors.keys()
        far = max(float((own[name] - t).norm() / t.norm().clamp(min=1e-3)) for name, t in tensors.items())
        assert far < 1e-5, label
        assert own_facts["dev"] == facts["dev"] and own_facts["steps"] == facts["steps"]


def test_modules_trained_together_are_what_they_are_alone(alone: dict[str, Any], tmp_path: Any) -> None:
    found = finished(Store(tmp_path), "always")
    same(found, alone)
    counts = {label: facts["engine"].get("together", 1) for label, (facts, _) in found.items()}
    assert sorted(counts.values()) == [1, 1, 2, 2, 4, 4, 4, 4]


def test_what_a_kill_leaves_goes_on_alone_or_together(alone: dict[str, Any], tmp_path: Any) -> None:
    store = Store(tmp_path)
    made = planned(store)
    stages = {stage.label: stage for stage in made.plan.stages}
    for stage in made.plan.stages:
        if stage.kind == "prepare":
            run_stage(stage, store)
    group = [stages[f"train {name} lab/s0 seed 0"] for name in "ab"]
    fractions: list[float] = []

    def cut(fraction: float, text: str) -> None:
        fractions.append(fraction)
        if fraction > 0.6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_group(group, store, cut)
    assert not any(store.has(stage.hash) for stage in group)
    assert all(list(store.work(stage.hash).glob("checkpoint*")) for stage in group)
    run_stage(group[0], store)  # this one alone, the other in company
    result = drive.run(made.plan, Setup(store), companions=sharing(made, "always"))
    assert result.ok
    same(results(made), alone)


def test_one_that_fails_costs_the_others_nothing(alone: dict[str, Any], tmp_path: Any) -> None:
    wild = {**RECIPE["modules"]["a"], "settings": {"epochs": 2, "learning_rate": 1e30, "clip": 1e30}}
    recipe = {**RECIPE, "modules": {"wild": wild, "a": RECIPE["modules"]["a"], "b": RECIPE["modules"]["b"]}}
    store = Store(tmp_path)
    made = planned(store, {**recipe, "seeds": [0]})
    result = drive.run(made.plan, Setup(store), companions=sharing(made, "always"))
    (failed,) = result.having("failed")
    assert failed.stage.label.startswith("train wild") and "loss became" in str(failed.error)
    found = results(made)
    same(found, {label: alone[label] for label in found})
    assert len(found) == 2


@pytest.mark.slow
def test_workers_share_out_what_is_ready(alone: dict[str, Any], tmp_path: Any) -> None:
    store = Store(tmp_path)
    found = finished(store, "always", jobs=2)
    same(found, alone)
    assert max(facts["engine"].get("together", 1) for facts, _ in found.values()) == 2


def test_the_table_decides_and_a_limit_of_memory_refuses(tmp_path: Any) -> None:
    store = Store(tmp_path)
    made = planned(store)
    trains = {stage.label.split()[1]: stage for stage in made.plan.stages if stage.kind == "train"}
    b, others = trains.pop("b"), [stage for stage in made.plan.stages if stage.label == "train b lab/s0 seed 0"]
    auto, always = sharing(made, "auto"), sharing(made, "always")
    assert auto is not None and always is not None and sharing(made, "never") is None
    assert auto(b, others) == []  # its data are not tokenised: nothing is known
    for stage in made.plan.stages:
        if stage.kind == "prepare":
            run_stage(stage, store)
    auto = sharing(made, "auto")  # what was looked up is kept
    assert auto is not None and auto(b, [*others, trains["a"]]) == others
    assert auto(trains["a"], others) == []  # eight examples of three rows, 427 tokens: too many
    assert always(trains["a"], others) == others
    with pytest.raises(RecipeError, match="amount of memory"):
        sharing(made, "always", max_memory="4GB")


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"dropout": 0.1}},
        {"settings": {"base_dropout": True}},
        {"settings": {"precision": "bf16"}},
        {"method": {**LORA, "layers": [2, 3]}},
        {"method": "adalora"},
        {"method": "prefix_tuning"},
        {"on": "fuse(a, b)"},
        {"continue": "a"},
    ],
)
def test_what_cannot_share_is_trained_alone(tmp_path: Any, change: dict[str, Any]) -> None:
    modules = {name: RECIPE["modules"][name] for name in "ab"}
    modules["x"] = {"train": "lab-siqa", "limit": 16, **change}
    made = planned(Store(tmp_path), {**RECIPE, "seeds": [0], "modules": modules})
    (x,) = [stage for stage in made.plan.stages if stage.label.startswith("train x")]
    others = [stage for stage in made.plan.stages if stage.kind == "train" and stage != x]
    assert companions(x, others) == []
    assert len(companions(others[0], [x, *others[1:]])) == 1
