"""AdaLoRA: its ranks go where those of plain peft go, and it is kept as a plain LoRA."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from adapterstilts.errors import RecipeError, StageFailed
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.leaf import LeafWeights

from .conftest import hidden, method, random_batch
from .test_artifact import _padded

BATCH = random_batch(3)
IDS, MASK = _padded(BATCH)
STEPS = 10


def objective(states: torch.Tensor) -> torch.Tensor:
    """Of (tokens, d)."""
    return (states * torch.linspace(-1, 1, 32)).square().mean()


def train(adapted: Adapted, steps: int = STEPS):  # type: ignore[no-untyped-def]
    budget = adapted.budget(steps)
    optimizer = torch.optim.SGD(adapted.trainable().values(), lr=0.3)
    kept = []
    for step in range(steps):
        (objective(adapted.encode(BATCH)) + budget.penalty()).backward()
        optimizer.step()
        budget.after(step)
        optimizer.zero_grad()
        kept.append(sum(int((p != 0).sum()) for name, p in adapted.tensors("a").items() if name.endswith("lora_E")))
    return kept


def test_ranks_and_weights_are_those_of_plain_peft_after_every_step(fresh_base):  # type: ignore[no-untyped-def]
    from peft import AdaLoraConfig, get_peft_model

    names = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
    config = AdaLoraConfig(init_r=6, target_r=3, tinit=1, tfinal=3, deltaT=1, total_step=STEPS, lora_alpha=16,
                           target_modules=names, orth_reg_weight=0.5)  # fmt: skip
    theirs = get_peft_model(fresh_base().model, config)
    chosen = method("adalora", r=3, init_r=6)
    ours = Adapted(fresh_base(), {"a": LeafWeights(chosen)}, Leaf("a"), train=frozenset({"a"}))
    pairs = {path: theirs.get_parameter(f"base_model.model.{path}.default") for path in ours.tensors("a")}
    with torch.no_grad():
        for path, parameter in ours.tensors("a").items():
            pairs[path].copy_(parameter)
    encoder = theirs.base_model.model
    forward = encoder.forward
    # peft adds its regulariser to a loss that the model returns.
    encoder.forward = lambda: SimpleNamespace(
        loss=objective(forward(input_ids=IDS, attention_mask=MASK).last_hidden_state[MASK.bool()])
    )
    optimizer = torch.optim.SGD(pairs.values(), lr=0.3)
    counts = []
    for step in range(STEPS):
        theirs.base_model().loss.backward()
        optimizer.step()
        theirs.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        counts.append(sum(int((p != 0).sum()) for path, p in pairs.items() if path.endswith("lora_E")))
    assert train(ours) == counts and counts[0] == 12 * 6 and counts[-1] == 12 * 3
    for path, parameter in ours.tensors("a").items():
        torch.testing.assert_close(parameter, pairs[path], atol=1e-5, rtol=1e-4)


def test_it_is_kept_as_a_lora_of_its_largest_rank(fresh_base):  # type: ignore[no-untyped-def]
    chosen = method("adalora", r=3, init_r=6)
    adapted = Adapted(fresh_base(), {"a": LeafWeights(chosen)}, Leaf("a"), train=frozenset({"a"}))
    train(adapted)
    kept = adapted.stored("a")
    ranks = [int((p != 0).sum()) for name, p in adapted.tensors("a").items() if name.endswith("lora_E")]
    assert kept.method.name == "lora" and kept.method.parameters["r"] == max(ranks) and len(set(ranks)) > 1
    again = hidden(Adapted(fresh_base(), {"a": kept}, Leaf("a")), BATCH)
    torch.testing.assert_close(again, hidden(adapted, BATCH), atol=1e-5, rtol=1e-4)


def test_budgets_that_cannot_be(fresh_base):  # type: ignore[no-untyped-def]
    with pytest.raises(RecipeError, match="init_r"):
        method("adalora", r=12)
    adapted = Adapted(fresh_base(), {"a": LeafWeights(method("adalora"))}, Leaf("a"), train=frozenset({"a"}))
    with pytest.raises(StageFailed, match="1 updates"):
        adapted.budget(1)
