"""Hidden states below all that trains, kept on disk: the trained module has the same bits as without them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from adapterstilts.errors import RecipeError
from adapterstilts.executors.local import run
from adapterstilts.stages.run import run_stage
from adapterstilts.store import Store
from tests.stages.test_stages import plan_of

TOP = {"name": "lora", "r": 4, "sites": ["value"], "layers": [2, 3]}
EVERY = {"name": "seq_bn", "reduction": 4}
RECIPE: dict[str, Any] = {
    "name": "held",
    "base": "lab/s0",
    "train": {"batch": 8, "learning_rate": 2e-3, "checkpoints": 3},
    "tasks": {"lab-siqa": {"sizes": {"train": 60, "dev": 20, "test": 10}}},
    "modules": {
        "under": {"train": "lab-siqa/qac", "method": EVERY, "limit": 16, "settings": {"epochs": 1}},
        "top": {
            "train": "lab-siqa",
            "method": TOP,
            "limit": 30,
            "settings": {"epochs": 2, "evaluate": 2, "select": "best", "dropout": 0.1},
        },
        "over": {
            "train": ["lab-siqa", "lab-siqa/qaa"],
            "on": "stack(under, top)",
            "method": {"name": "union", "of": [{**EVERY, "layers": [3]}, {**TOP, "layers": [2]}]},
            "limit": 20,
            "settings": {"epochs": 2},
        },
        "half": {"train": "lab-siqa", "on": "under", "method": TOP, "limit": 20, "settings": {"epochs": 2}},
    },
}
RECIPE["modules"]["half"]["settings"]["precision"] = "bf16"


def finished(recipe: dict[str, Any], store: Store) -> dict[str, tuple[dict[str, Any], str]]:
    """module -> (facts, its metrics)."""
    plan = plan_of(recipe, store)
    result = run(plan, store)
    assert result.ok, [str(stage.error) for stage in result.having("failed")]
    return {name.removeprefix("held/"): read(store, hash) for name, hash in plan.names.items()}


def read(store: Store, hash: str) -> tuple[dict[str, Any], str]:
    path = store.path(hash)
    return json.loads((path / "manifest.json").read_text())["facts"], (path / "metrics.jsonl").read_text()


@pytest.fixture(scope="module")
def without(tmp_path_factory):  # type: ignore[no-untyped-def]
    return finished({**RECIPE, "engine": {"cache": 0}}, Store(tmp_path_factory.mktemp("without")))


@pytest.mark.parametrize("engine", [{}, {"recompute": 1, "cache": "20 MB"}])
def test_modules_have_the_same_bits_with_held_states(without, tmp_path, engine):  # type: ignore[no-untyped-def]
    found = finished({**RECIPE, "engine": engine}, Store(tmp_path))
    for name, (facts, metrics) in without.items():
        assert (found[name][0]["trained"], found[name][1]) == (facts["trained"], metrics), name
        assert (facts["engine"]["held"] or {}).get("bytes", 0) == 0
    held = {name: facts["engine"]["held"] for name, (facts, _) in found.items()}
    assert held["under"] is None  # nothing lies below it
    assert [held[name]["layers"] for name in ("top", "over", "half")] == [2, 2, 2]
    assert all(held[name]["bytes"] > 0 and not held[name]["unused"] for name in ("top", "over", "half"))


def test_a_run_killed_while_states_are_written_or_read_ends_in_the_same_bits(without, tmp_path):  # type: ignore[no-untyped-def]
    store = Store(tmp_path)
    plan = plan_of(RECIPE, store)
    stage = plan.by_hash[plan.names["held/top"]]
    for hash in stage.parents.values():
        run_stage(plan.by_hash[hash], store)

    def cut(where: str) -> None:
        def progress(fraction: float, text: str) -> None:
            if where in text:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_stage(stage, store, progress)

    cut("once over lab-siqa/en")
    (half,) = store.work(stage.hash).glob("states-*")
    assert half.suffix == ".new"  # no name, so it is not believed
    half.write_bytes(b"\x7f" * half.stat().st_size)
    cut("dev of lab-siqa")
    whole = next(store.work(stage.hash).glob("states-*.bin"))
    assert np.isfinite(np.memmap(whole, np.float32)).all()
    cut("loss")
    run_stage(stage, store)
    facts, metrics = read(store, stage.hash)
    assert (facts["trained"], metrics) == (without["top"][0]["trained"], without["top"][1])


def test_what_cannot_be_held_runs_in_every_pass_and_says_why(tmp_path):  # type: ignore[no-untyped-def]
    settings = {"epochs": 2, "evaluate": 0}
    recipe = {
        **RECIPE,
        "tasks": {**RECIPE["tasks"], "lab-mlm": {"sizes": {"train": 16, "dev": 8, "test": 8}}},
        "engine": {"cache": "200KB"},
        "method": TOP,
        "modules": {
            "large": {"train": "lab-siqa", "limit": 60, "settings": settings},
            "drops": {"train": "lab-siqa", "limit": 8, "settings": {**settings, "base_dropout": True}},
            "words": {"train": "lab-mlm", "limit": 8, "settings": settings},
            "once": {"train": "lab-siqa", "limit": 16, "settings": {"epochs": 1}},
        },
    }
    found = finished(recipe, Store(tmp_path))
    held = {name: facts["engine"]["held"] for name, (facts, _) in found.items()}
    assert all(one["bytes"] == 0 for one in held.values())
    said = {name: list(one["unused"].values()) for name, one in held.items()}
    assert "engine.cache leaves" in said["large"][0] and "base_dropout" in said["drops"][0]
    assert "other words" in said["words"][0] and said["once"] == []


def test_a_size_that_is_none_is_refused(tmp_path):  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match="no amount of memory"):
        plan_of({**RECIPE, "engine": {"cache": "much"}}, Store(tmp_path))
