"""Evaluations of modules that begin above the same layers: these run once in a run, and every bit stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from torch.nn.modules.module import register_module_forward_hook

from adapterstilts.data.prepared import read_prepared
from adapterstilts.executors.local import run
from adapterstilts.stages.run import run_stage
from adapterstilts.store import SHARED, Store
from tests.stages.test_stages import plan_of

TOP = {"name": "lora", "r": 4, "sites": ["value"], "layers": [2, 3]}
SIZES = {"sizes": {"train": 16, "dev": 8, "test": 40}}
LANGUAGES = ["en", "qac"]
# module -> layers that it finds, or computes and leaves; None: it begins at the bottom
LAYERS = {"every": None, "first": 2, "second": 2, "over": 2, "above": 2, "last": 3}
RECIPE: dict[str, Any] = {
    "name": "shared",
    "base": "lab/s0",
    "train": {"batch": 8, "learning_rate": 2e-3, "epochs": 1, "evaluate": 0},
    "tasks": {"lab-siqa": SIZES},
    "modules": {
        "every": {"train": "lab-siqa", "method": {"name": "seq_bn", "reduction": 4}},
        "first": {"train": "lab-siqa", "method": TOP},
        "second": {"train": "lab-siqa", "method": {**TOP, "r": 2}},
        "over": {"train": "lab-siqa", "on": "every", "method": TOP},
        "above": {"train": "lab-siqa", "on": "every", "method": {**TOP, "r": 2}},
        "last": {"train": "lab-siqa", "on": "first", "method": {**TOP, "layers": [3]}},
    },
    "evaluate": [{"tasks": ["lab-siqa"], "modules": list(LAYERS), "languages": LANGUAGES}],
}


@pytest.fixture
def ran() -> Iterator[list[int]]:
    """Tokens of every layer that ran, summed."""
    found = [0]

    def count(module: Any, args: Any, output: Any) -> None:
        if type(module).__name__.startswith("XLMRobertaLayer"):
            found[0] += args[0].shape[1]

    handle = register_module_forward_hook(count)
    yield found
    handle.remove()


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def trained(request, tmp_path_factory):  # type: ignore[no-untyped-def]
    """A recipe and a store with its modules."""
    recipe = {**RECIPE, "train": {**RECIPE["train"], "precision": request.param}}
    store = Store(tmp_path_factory.mktemp("store"))
    evaluated({**recipe, "evaluate": []}, store)
    return recipe, store


def evaluated(recipe: dict[str, Any], store: Store) -> dict[str, tuple[dict[str, Any], list[str]]]:
    """module -> (facts, its scores and predictions); they are removed, so that the next run makes them again."""
    plan = plan_of(recipe, store)
    result = run(plan, store)
    assert result.ok, [str(stage.error) for stage in result.having("failed")]
    names = {hash: name.removeprefix("shared/") for name, hash in plan.names.items()}
    found = {}
    for stage in plan.stages:
        if stage.kind == "evaluate":
            path = store.path(stage.hash)
            texts = [file.read_text() for file in sorted(path.iterdir()) if file.name != "manifest.json"]
            found[names[stage.parents["module"]]] = json.loads((path / "manifest.json").read_text())["facts"], texts
            store.remove(stage.hash)
    return found


def tokens(recipe: dict[str, Any], store: Store) -> int:
    """Of the examples that are measured."""
    plan = plan_of(recipe, store)
    stage = next(stage for stage in plan.stages if stage.kind == "evaluate")
    parents = {hash for role, hash in stage.parents.items() if role.startswith("data:")}
    return sum(len(read_prepared(store.path(hash)).arrays.ids) for hash in parents)


def test_layers_below_run_once_for_all_modules_and_every_bit_stays(trained, ran) -> None:  # type: ignore[no-untyped-def]
    recipe, store = trained
    wanted = evaluated({**recipe, "engine": {"cache": 0}}, store)
    alone, ran[0] = ran[0], 0
    found = evaluated(recipe, store)
    assert {name: texts for name, (_, texts) in found.items()} == {name: texts for name, (_, texts) in wanted.items()}
    held = {name: facts["engine"]["held"] for name, (facts, _) in found.items()}
    assert {name: one and one["layers"] for name, one in held.items()} == LAYERS
    # Two of the six go on from what another one left, each over two layers.
    assert sum(one["found"] == LANGUAGES for one in held.values() if one) == 2
    assert alone - ran[0] == 2 * 2 * tokens(recipe, store)
    assert not any(facts["engine"]["held"] for facts, _ in wanted.values())
    assert not list((store.root / "work").rglob("states-*"))  # nothing outlives the run


def test_a_full_folder_and_one_that_is_removed_change_nothing(trained) -> None:  # type: ignore[no-untyped-def]
    recipe, store = trained
    wanted = evaluated({**recipe, "engine": {"cache": 0}}, store)
    found = evaluated({**recipe, "engine": {"cache": 10}}, store)
    assert all("engine.cache leaves" in text for text in found["first"][0]["engine"]["held"]["unused"].values())
    plan = plan_of(recipe, store)
    stages = {stage.parents["module"]: stage for stage in plan.stages if stage.kind == "evaluate"}
    first, second = (stages[plan.names[f"shared/{name}"]] for name in ("first", "second"))
    run_stage(first, store)
    assert len(list((store.root / "work" / SHARED).iterdir())) == len(LANGUAGES)

    def progress(fraction: float, text: str) -> None:
        store.drop_shared()  # as the end of another run does

    run_stage(second, store, progress)
    for name, stage in (("first", first), ("second", second)):
        path = store.path(stage.hash)
        texts = [file.read_text() for file in sorted(path.iterdir()) if file.name != "manifest.json"]
        assert found[name][1] == wanted[name][1] == texts
        store.remove(stage.hash)


def test_collecting_garbage_removes_what_a_killed_run_left(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = Store(tmp_path)
    left = store.work(SHARED) / "states-0.bin"
    left.write_bytes(b"0" * 100)
    assert store.gc(dry_run=True).bytes == 100 and left.exists()
    store.gc()
    assert not left.exists()
