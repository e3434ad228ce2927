"""What is kept in the store beside its artifacts: measured, checked, and removed with its module."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import adapterstilts
from adapterstilts.api.care import collect
from adapterstilts.api.encoding import Encoder
from adapterstilts.api.kept import check_kept
from adapterstilts.api.places import open_store
from adapterstilts.api.tuning import tune_layer

TEXTS = ["wamo tesi", "lu kanopi", "tesi"]


def test_embeddings_are_measured_checked_and_go_with_their_module(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    adapterstilts.train("lab-nli", name="nli", base="lab/s0", limit=32, settings={"epochs": 1}, store=store)
    for module in (None, "nli"):
        adapterstilts.embed(TEXTS, base="lab/s0", module=module, store=store, layer=1)
        tune_layer(pairs=(TEXTS, TEXTS), base="lab/s0", module=module, store=store, poolings=["mean"])
    folders = {path.parent.name: path.parent for path in tmp_path.glob("embeddings/*/manifest.json")}
    sizes = store.du()
    assert sizes["embeddings"][0] == len(folders) and sizes["tuned"][0] == 2
    assert sizes["embeddings"][1] >= sum(path.stat().st_size for path in tmp_path.glob("embeddings/*/*.npy"))
    assert check_kept(store) == []
    assert collect(store)["embeddings"] == []  # the module is named, so it lives

    own = Encoder.of("lab/s0", "nli", store).identity["module"]
    of_module = {
        name
        for name, path in folders.items()
        if json.loads((path / "manifest.json").read_text())["identity"]["module"] == own
    }
    assert 0 < len(of_module) < len(folders)
    store.names.drop("nli")
    would = collect(store, runs=0, dry_run=True)
    assert of_module <= set(would["embeddings"]) and all(path.is_dir() for path in folders.values())
    gone = collect(store, runs=0)
    assert set(gone["embeddings"]) == set(would["embeddings"]) and len(gone["embeddings"]) == len(of_module) + 1
    assert {path.name for path in tmp_path.glob("embeddings/*")} == set(folders) - of_module
    assert len(list(tmp_path.glob("tuned/*.json"))) == 1

    # Of the rest one array is cut short and one has the shape of something else.
    first, *_ = sorted(set(folders) - of_module)
    array = next(folders[first].glob("*.npy"))
    np.save(array, np.zeros((2, 5), np.float32))
    damage = check_kept(store)
    assert [(item.hash, item.kind, item.file) for item in damage] == [(first, "embeddings", array.name)]
    assert "(2, 5)" in damage[0].why
    assert first in collect(store, damaged=True)["embeddings"] and check_kept(store) == []
