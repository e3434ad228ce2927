"""The invariants of composition once more, on modules that were really trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adapterstilts.encoder.base import load_base
from adapterstilts.encoder.batch import collate
from adapterstilts.modules.artifact import load_adapted, read_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Fuse, Leaf, Stack
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.merge import merge
from adapterstilts.modules.methods import resolve
from adapterstilts.settings import MethodSettings
from tests.stages.test_stages import artifacts, finished  # noqa: F401


def outputs(adapted: Adapted) -> torch.Tensor:
    lengths = np.array([9, 4, 13])
    rows = np.concatenate([[0], np.cumsum(lengths)])
    ids = (np.arange(rows[-1]) * 37 % 3900 + 5).astype(np.int32)
    batch = collate(ids, rows, np.arange(4), {}, range(3), pad_id=adapted.base.pad_id)
    adapted.train_mode(False)
    with torch.no_grad():
        return adapted.encode(batch)


def near(a: torch.Tensor, b: torch.Tensor) -> bool:
    return float((a - b).norm() / b.norm()) < 1e-5


@pytest.fixture(scope="module")
def modules(finished):  # type: ignore[no-untyped-def] # noqa: F811
    plan, store = finished
    trained = artifacts(plan, store, "train")
    return {name: read_module(trained[f"train {name} lab/s0 seed 0"]) for name in "ab"}


def fresh(weights, tree) -> torch.Tensor:  # type: ignore[no-untyped-def]
    return outputs(Adapted(load_base("lab/s0"), weights, tree))


def test_on_trained_modules(modules, finished):  # type: ignore[no-untyped-def] # noqa: F811
    a, b = modules["a"], modules["b"]
    both = {**a.weights(), **b.weights()}
    alone, base = fresh(a.weights(), a.tree), fresh({}, None)
    assert not near(alone, base)
    assert near(fresh(a.weights(), Stack((a.tree,))), alone)
    new = LeafWeights(resolve(MethodSettings(name="lora")))
    assert near(fresh({**a.weights(), "new": new}, Stack((a.tree, Leaf("new")))), alone)
    summed = fresh(both, Stack((a.tree, b.tree)))
    assert near(fresh(both, Stack((b.tree, a.tree))), summed)
    assert near(fresh(a.weights(), Fuse((a.tree,))), alone)
    for how in ("cat", "svd"):
        merged = merge([a, b], [1.0, 1.0], how, {"rank": 8}, 0)
        assert near(fresh({"m": merged.weights}, Leaf("m")), summed), how
        first = merge([a, b], [1.0, 0.0], how, {"rank": 4}, 0)
        assert near(fresh({"m": first.weights}, Leaf("m")), alone), how
    plan, store = finished
    (stored,) = artifacts(plan, store, "merge").values()
    half = fresh(both, parse(f"stack(0.5*{a.trained}, 0.5*{b.trained})"))
    assert near(outputs(load_adapted(load_base("lab/s0"), read_module(stored))), half)


def test_a_trained_fusion_stands_on_untouched_parents(modules, finished):  # type: ignore[no-untyped-def] # noqa: F811
    plan, store = finished
    fused = read_module(artifacts(plan, store, "train")["train copa by fuse lab/s0 seed 0"])
    for parent in modules.values():
        mine, theirs = fused.weights()[parent.trained].tensors, parent.weights()[parent.trained].tensors
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    gates = fused.fusion()
    assert gates and any(float(tensor.abs().max()) > 0 for tensor in gates.values())
