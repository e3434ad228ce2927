"""Several compositions over one batch: what each alone gives, and shared layers run once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from adapterstilts.encoder.base import Base
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.branches import Branch, beneath, branched, common_level
from adapterstilts.modules.expressions import parse
from tests.modules.conftest import random_batch, trained

# Compositions, the highest layer whose output they share, and how often the two layers of the base run.
CASES = {
    "the base and a high module": (["base", "high"], 1, [1, 2]),
    "two high modules": (["high", "other"], 1, [1, 2]),
    "a low module and what stands on it": (["low", "stack(low, high)"], 1, [1, 2]),
    "the same twice": (["low", "low"], 2, [1, 1]),
    "modules in every layer": (["low", "everywhere"], 0, [2, 2]),
    "a map of the embeddings": (["base", "inverse"], -1, [2, 2]),
    "a weight": (["low", "0.5*low"], 0, [2, 2]),
    "a fusion above": (["base", "fuse(high, other)"], 1, [1, 2]),
}


@pytest.fixture
def adapted(fresh_base: Callable[[], Base]) -> Adapted:
    weights = {
        "low": trained(fresh_base(), "lora", 1, layers=[0]),
        "high": trained(fresh_base(), "lora", 2, layers=[1]),
        "other": trained(fresh_base(), "lora", 3, layers=[1]),
        "everywhere": trained(fresh_base(), "lora", 4),
        "inverse": trained(fresh_base(), "seq_bn_inv", 5),
        "prefix": trained(fresh_base(), "prefix_tuning", 6),
    }
    return Adapted(fresh_base(), weights, None)


def branches(adapted: Adapted, texts: list[str]) -> list[Branch]:
    made = []
    for text in texts:
        tree = parse(text)
        adapted.activate(tree)
        made.append(Branch(tree, {name: p.detach().clone() for name, p in adapted.fusion_tensors().items()}))
    return made


@torch.no_grad()
@pytest.mark.parametrize("case", CASES)
def test_branches_give_what_each_alone_gives(case: str, adapted: Adapted) -> None:
    texts, level, expected_runs = CASES[case]
    several, batch = branches(adapted, texts), random_batch()
    assert common_level(adapted, several) == level
    runs: Counter[int] = Counter()
    hooks = [
        layer.register_forward_hook(lambda *_, number=number: runs.update([number]))
        for number, layer in enumerate(adapted.model.encoder.layer)
    ]
    found = {(index, layer): states for index, layer, states in branched(adapted, several, batch, 2)}
    assert [runs[0], runs[1]] == expected_runs
    for hook in hooks:
        hook.remove()
    for index, branch in enumerate(several):
        adapted.activate(branch.tree, fusion=branch.fusion)
        for layer, states in enumerate(adapted.layers(batch)):
            assert torch.equal(found.pop((index, layer)), states)
    assert not found


@torch.no_grad()
def test_what_runs_padded_shares_nothing(adapted: Adapted) -> None:
    several, batch = branches(adapted, ["base", "prefix"]), random_batch()
    assert common_level(adapted, several) == -1
    found = {(index, layer): states for index, layer, states in branched(adapted, several, batch, 2)}
    adapted.activate(several[1].tree)
    for layer, states in enumerate(adapted.layers(batch)):
        assert torch.equal(found[1, layer], states)


@torch.no_grad()
def test_nothing_above_the_highest_layer_asked_for_runs(adapted: Adapted) -> None:
    several = branches(adapted, ["base", "low"])
    ran: list[int] = []
    for number, layer in enumerate(adapted.model.encoder.layer):
        layer.register_forward_hook(lambda *_, number=number: ran.append(number))
    assert {layer for _, layer, _ in branched(adapted, several, random_batch(), 1)} == {0, 1} and set(ran) == {0}


# Compositions, and how many layers lie below the last of their modules to begin.
BENEATH = {
    "high": 1,
    "low": 0,
    "stack(low, high)": 1,
    "stack(high, other)": 1,
    "fuse(high, other)": 1,
    "stack(low, fuse(high, other))": 0,  # the lower layer is the same, but what stands in it is not plain any more
    "0.5*low": 0,
    "stack(0.5*low, high)": 0,
    "inverse": 0,
    "stack(inverse, high)": 1,
    "stack(prefix, high)": 0,
}


@pytest.mark.parametrize("text", BENEATH)
def test_layers_beneath_the_last_module_to_begin(text: str, adapted: Adapted) -> None:
    adapted.activate(parse(text))
    layers, does = beneath(adapted)
    assert layers == BENEATH[text]
    assert not layers or does == [
        "inverse" if "inverse" in text else "",
        " ".join(name for name in ("inverse", "low") if name in text),
    ]
