"""The training of one module around the gradients of its updates: order, optimizer, scores, checkpoints.

Every random choice depends on (seed, step) alone, so a killed run that resumes gives the bits of one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adapterstilts.encoder.batch import Batch, Level, collate
from adapterstilts.encoder.masking import Masking
from adapterstilts.errors import StageFailed
from adapterstilts.modules.budget import Budget
from adapterstilts.settings import TrainSettings
from adapterstilts.training import checkpoint
from adapterstilts.training.schedule import Schedule, checkpoints, learning_rate_factor, moments


class Tokenised(Protocol):
    """Tokenised arrays (data/arrays.py), as far as training needs them."""

    @property
    def ids(self) -> NDArray[np.int32]: ...
    @property
    def rows(self) -> NDArray[np.int64]: ...
    @property
    def examples(self) -> NDArray[np.int64]: ...
    @property
    def fields(self) -> Mapping[str, tuple[Level, NDArray[Any]]]: ...


@dataclass(frozen=True)
class Share:
    """One task and language of the mix: its arrays, the examples in use, the head it trains."""

    arrays: Tokenised
    chosen: NDArray[np.int64]
    head: str
    masking: Masking | None = None

    def batch(self, indices: NDArray[np.int64], pad_id: int, seed: Sequence[int]) -> Batch:
        """The chosen examples as a batch; masked-LM labels are drawn here, from the seed alone."""
        arrays = self.arrays
        made = collate(arrays.ids, arrays.rows, arrays.examples, arrays.fields, self.chosen[indices], pad_id=pad_id)
        return made if self.masking is None else self.masking.apply(made, np.random.default_rng(list(seed)))


@dataclass(frozen=True)
class Fit:
    """What training did. ``metrics``: one row per update and per dev score."""

    steps: int
    loss: float
    converged: bool
    best: float | None
    metrics: tuple[dict[str, Any], ...]


class Course:
    """The training of one module: what comes before and after the gradients of each update.

    Args:
        parameters: of the module, by names that are stable across processes.
        heads: on the module's device.
        shares: in the order of ``schedule.sizes``.
        work: folder for resumable checkpoints; an existing one is resumed.
        score: English dev score of the current state, higher is better; called ``settings.evaluate`` times.
        writes: whether this process writes the checkpoints.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        heads: Mapping[str, nn.Module],
        shares: Sequence[Share],
        schedule: Schedule,
        settings: TrainSettings,
        *,
        learning_rate: float,
        seed: int,
        work: Path,
        score: Callable[[], float],
        progress: Callable[[float, str], None],
        budget: Budget | None = None,
        writes: bool = True,
    ) -> None:
        self.heads, self.shares, self.schedule, self.settings = heads, shares, schedule, settings
        self.seed, self.work, self.score, self.progress = seed, work, score, progress
        self.budget, self.writes = budget, writes
        self.parameters = dict(parameters)
        for name, head in heads.items():
            self.parameters |= {f"heads/{name}/{path}": p for path, p in head.named_parameters() if p.requires_grad}
        self.optimizer = _optimizer(self.parameters, settings, learning_rate)
        self.save_at = checkpoints(len(schedule), settings.checkpoints)
        self.score_at = moments(len(schedule), settings.evaluate)
        self.state = checkpoint.resume(work, self.parameters, self.optimizer)
        if budget is not None:
            budget.restore(self.state.budget)

    @property
    def open(self) -> bool:
        """Whether an update is left."""
        return self.state.step < len(self.schedule) and not self._tired()

    def _tired(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.state.since_best >= patience

    def begin(self, process: int = 0) -> tuple[int, NDArray[np.int64]]:
        """(share, indices of its examples) of the next update, its learning rate and its random numbers set."""
        step = self.state.step
        factor = learning_rate_factor(step, len(self.schedule), self.settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        torch.manual_seed(_stream(self.seed, step) + process)
        return self.schedule.examples(step)

    def update(self, share: int, loss: float) -> None:
        """Take the step of the gradients that are there; score and write what is due.

        Raises:
            StageFailed: the loss is not a number.
        """
        state, step = self.state, self.state.step
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        if not math.isfinite(loss) or not math.isfinite(float(norm)):
            raise StageFailed(
                f"the loss became {loss} at step {step + 1}",
                why="the learning rate is too high",
                fix="lower train.learning_rate",
            )
        self.optimizer.step()
        if self.budget is not None:
            self.budget.after(step)
        self.optimizer.zero_grad(set_to_none=True)
        state.metrics.append({"step": step + 1, "loss": loss, "head": self.shares[share].head, "share": share})
        state.step = step + 1
        if state.step in self.score_at:
            _keep_best(self.parameters, state, self.score())
            if self._tired():
                return
        if state.step in self.save_at and self.writes:
            state.budget = {} if self.budget is None else self.budget.state()
            checkpoint.save(self.work, state, self.parameters, self.optimizer)
        self.progress(state.step / len(self.schedule), f"loss {loss:.3f}")

    def finish(self) -> Fit:
        """What it did; the module is that which is kept."""
        state = self.state
        if self.settings.select == "best" and state.best_tensors:
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(state.best_tensors[name])
        losses = [row["loss"] for row in state.metrics if "loss" in row]
        return Fit(state.step, _tail(losses), has_converged(losses), state.best, tuple(state.metrics))


def _optimizer(
    parameters: Mapping[str, nn.Parameter], settings: TrainSettings, learning_rate: float
) -> torch.optim.AdamW:
    """AdamW; no decay on vectors (biases, norms); heads may have their own learning rate."""
    groups = []
    for heads in (False, True):
        for decay in (False, True):
            chosen = [
                p for name, p in parameters.items() if name.startswith("heads/") == heads and (p.ndim > 1) == decay
            ]
            rate = (settings.head_learning_rate or learning_rate) if heads else learning_rate
            if chosen:
                groups.append(
                    {
                        "params": chosen,
                        "base_lr": rate,
                        "lr": rate,
                        "weight_decay": settings.weight_decay if decay else 0.0,
                    }
                )
    return torch.optim.AdamW(groups, eps=1e-8, fused=True)  # one pass over memory: a quarter of the time on a CPU


def _keep_best(parameters: Mapping[str, nn.Parameter], state: checkpoint.State, value: float) -> None:
    state.metrics.append({"step": state.step, "dev": value})
    if state.best is None or value > state.best:
        state.best, state.since_best = value, 0
        state.best_tensors = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    else:
        state.since_best += 1


def _stream(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, 4, step]).generate_state(1, np.uint64)[0] >> 1)


def _tail(losses: Sequence[float]) -> float:
    return float(np.mean(losses[-max(1, len(losses) // 10) :])) if losses else float("nan")


def has_converged(losses: Sequence[float]) -> bool:
    """Whether the last fifth of the updates still lowered the loss by more than a tenth of what the run gained.

    The schedule decays to zero, so every run flattens at its end; the last fifth against the fifth before still shows
    whether the schedule was too short.
    """
    if len(losses) < 10:
        return False
    fifth = len(losses) // 5
    first, before, last = (float(np.mean(losses[a:b])) for a, b in ((0, fifth), (-2 * fifth, -fifth), (-fifth, None)))
    return before - last <= 0.1 * max(first - last, 1e-9) or last < 0.02
