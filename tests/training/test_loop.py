"""The loop: the token budget does not change the update, and an interrupted run ends in the same bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from adapterstilts.encoder.heads import build_head
from adapterstilts.errors import StageFailed
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.settings import EngineSettings, TrainSettings
from adapterstilts.training.course import Share, has_converged
from adapterstilts.training.loop import fit, gradients
from adapterstilts.training.schedule import make_schedule
from tests.modules.conftest import fresh_base, method, tiny_directory, trained  # noqa: F401


@dataclass(frozen=True)
class Data:
    ids: Any
    rows: Any
    examples: Any
    fields: Any


def share(format: str, head: str, seed: int, count: int = 40) -> Share:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 20, count)
    rows = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(4, 97, rows[-1]).astype(np.int32)
    # Learnable: the label is what the first token says.
    label = (ids[rows[:-1]] % 3).astype(np.int64)
    fields = {"label": ("example", label) if format == "classification" else ("token", (ids % 3).astype(np.int64))}
    return Share(Data(ids, rows, np.arange(count + 1), fields), np.arange(count), head)


def run(fresh_base, work, *, name="lora", stop=None, steps=24, **changes):  # type: ignore[no-untyped-def] # noqa: F811
    settings = TrainSettings(
        **{"steps": steps, "batch": 8, "dropout": 0.2, "checkpoints": 5, "learning_rate": 3e-3, **changes}
    )
    adapted = Adapted(
        fresh_base(), {"a": LeafWeights(method(name))}, Leaf("a"), train=frozenset("a"), dropout=0.2, seed=1
    )
    torch.manual_seed(5)
    heads = {"c": build_head("classification", 32, 3, dropout=0.2), "t": build_head("tagging", 32, 3, dropout=0.2)}
    shares = [share("classification", "c", 1), share("tagging", "t", 2, 20)]
    schedule = make_schedule([40, 20], settings, seed=2)
    scores = iter(np.sin(np.arange(100)))

    def progress(fraction, text):  # type: ignore[no-untyped-def]
        if stop is not None and fraction >= stop:
            raise KeyboardInterrupt

    result = fit(
        adapted, heads, shares, schedule, settings, learning_rate=settings.learning_rate, seed=2, work=work,
        score=lambda: float(next(scores)), progress=progress,
    )  # fmt: skip
    tensors = {**adapted.tensors("a"), **{f"{n}/{k}": p for n, h in heads.items() for k, p in h.named_parameters()}}
    return result, {name: p.detach().clone() for name, p in tensors.items()}


# AdaLoRA's ranks change from step 2 to 17 of 24; checkpoints lie at 4, 8, 12, 16 and 20.
CUTS = [("lora", 0.1), ("lora", 0.4), ("lora", 0.71), ("lora", 0.99)]
CUTS += [("adalora", 0.4), ("adalora", 0.9), ("union", 0.4)]


@pytest.mark.parametrize(("name", "stop"), CUTS)
def test_interrupted_and_resumed_gives_the_same_bits(fresh_base, tmp_path, name, stop):  # type: ignore[no-untyped-def] # noqa: F811
    whole, wanted = run(fresh_base, tmp_path / "whole", name=name)
    with pytest.raises(KeyboardInterrupt):
        run(fresh_base, tmp_path / "cut", name=name, stop=stop)
    resumed, tensors = run(fresh_base, tmp_path / "cut", name=name)
    assert all(torch.equal(wanted[name], tensors[name]) for name in wanted)
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize("format", ["classification", "tagging"])
def test_the_token_budget_does_not_change_the_update(fresh_base, format):  # type: ignore[no-untyped-def] # noqa: F811
    from accelerate import Accelerator

    found = []
    for options in ({"tokens": 16}, {"tokens": 64}, {"tokens": 4096}, {"tokens": 64, "packed": False}):
        weights = {"a": trained(fresh_base(), "lora", 1)}
        engine = EngineSettings(**options)
        adapted = Adapted(fresh_base(), weights, Leaf("a"), train=frozenset("a"), engine=engine)
        torch.manual_seed(5)
        head = build_head(format, 32, 3)
        loss = gradients(adapted, head, share(format, "h", 1), np.arange(13), (0, 0), Accelerator())
        every = torch.cat([p.grad.flatten() for p in [*adapted.trainable().values(), *head.parameters()]])
        found.append((loss, every))
    for loss, every in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        assert float((every - found[0][1]).norm() / every.norm()) < 1e-5


def test_it_learns_and_keeps_the_best(fresh_base, tmp_path):  # type: ignore[no-untyped-def] # noqa: F811
    result, _ = run(fresh_base, tmp_path / "a", steps=120, dropout=0.0)
    losses = [row["loss"] for row in result.metrics if row.get("head") == "c"]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    best, tensors = run(fresh_base, tmp_path / "b", evaluate=6, select="best")
    assert best.best == pytest.approx(max(np.sin(np.arange(6))))
    # The third score is the highest of sin(0..5): the tensors are those of step 12, not the last.
    at_best = run(fresh_base, tmp_path / "c", evaluate=6)[1]
    assert any(not torch.equal(tensors[name], at_best[name]) for name in tensors)


def test_patience_stops_early(fresh_base, tmp_path):  # type: ignore[no-untyped-def] # noqa: F811
    result, _ = run(fresh_base, tmp_path, evaluate=12, patience=2, select="best")
    assert result.steps == 10  # sin(0..4): best at the third score (step 6), then two without gain


def test_a_run_that_blows_up_is_an_error(fresh_base, tmp_path):  # type: ignore[no-untyped-def] # noqa: F811
    with pytest.raises(StageFailed, match="loss became"):
        run(fresh_base, tmp_path, learning_rate=1e30, clip=1e30)


def test_convergence_is_read_from_the_losses():  # type: ignore[no-untyped-def]
    assert has_converged(list(np.exp(-np.arange(100) / 8) + 0.3))
    assert not has_converged(list(1.0 - np.arange(100) / 150))
    assert not has_converged([0.5] * 5)
