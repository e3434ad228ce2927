"""Training, scoring and searching with only the embedding rows that occur is the same, to the bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from adapterstilts.api.module import load
from adapterstilts.executors.local import run
from adapterstilts.store import Store
from tests.stages.test_stages import artifacts, plan_of

TASKS = ("lab-copa", "lab-tatoeba")
RECIPE: dict[str, Any] = {
    "name": "compact",
    "base": "lab/s0",
    "method": {"name": "lora", "r": 4, "sites": ["value"]},
    "train": {"batch": 8, "learning_rate": 2e-3, "checkpoints": 0, "steps": 3},
    "tasks": {name: {"sizes": {"train": 40, "dev": 10, "test": 20}} for name in TASKS},
    "modules": {"a": {"train": "lab-copa", "limit": 24}},
    "evaluate": [{"tasks": ["lab-copa"], "modules": ["a"], "languages": ["qaa"]}],
    "retrieve": [{"tasks": ["lab-tatoeba"], "modules": ["a"], "languages": ["qaa"], "layers": [2]}],
}


def test_compact_and_whole_runs_give_the_same_bits(tmp_path):  # type: ignore[no-untyped-def]
    found = {}
    for name, engine in (("compact", {"embeddings": "cpu"}), ("whole", {"compact": False})):
        store = Store(tmp_path / name)
        plan = plan_of({**RECIPE, "engine": engine}, store)
        result = run(plan, store)
        assert result.ok, [str(stage.error) for stage in result.having("failed")]
        (module,) = artifacts(plan, store, "train").values()
        scored = [*artifacts(plan, store, "evaluate").values(), *artifacts(plan, store, "retrieve").values()]
        facts = json.loads((module / "manifest.json").read_text())["facts"]
        rows = [(path / "scores.json").read_text() for path in scored]
        answers = [file.read_text() for path in scored for file in sorted(path.glob("predictions*"))]
        found[name] = facts["trained"], facts["loss"], rows, answers, [s.hash for s in plan.stages], facts["engine"]
    compact, whole = found.values()
    # A leaf is called by the hash of its weights.
    assert compact[:5] == whole[:5]
    assert compact[5]["embedding_rows"] < whole[5]["embedding_rows"] / 2
    stores = [load("compact/a", base="lab/s0", store=tmp_path / name).encode(["a text"]) for name in found]
    assert np.array_equal(*stores)  # both load into the whole base and give their golden outputs
