"""The training loop, readable from top to bottom.

An update draws its examples first (schedule), runs them in micro-batches that fit the token budget, and divides the
summed loss by the number of units of the whole update: the budget changes memory, never the result. Every random
choice depends on (seed, step) alone, so a killed run that resumes gives the bits of one that was not.
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

from adapterstilts.encoder.batch import Batch, Level, collate, lengths_of
from adapterstilts.encoder.masking import Masking
from adapterstilts.errors import StageFailed
from adapterstilts.modules.attach import Adapted
from adapterstilts.settings import TrainSettings
from adapterstilts.training import checkpoint
from adapterstilts.training.distributed import add_up, agreed, own_parts
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


def fit(
    adapted: Adapted,
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
) -> Fit:
    """Train the active leaves of ``adapted`` and ``heads`` in place.

    Args:
        shares: in the order of ``schedule.sizes``.
        work: folder for resumable checkpoints; an existing one is resumed.
        score: English dev score of the current state, higher is better; called ``settings.evaluate`` times.

    Raises:
        StageFailed: the loss is not a number.
    """
    from accelerate import Accelerator

    accelerator = Accelerator()
    device = accelerator.device
    adapted.to(device)
    parameters: dict[str, nn.Parameter] = adapted.trainable()
    for name, head in heads.items():
        head.to(device)
        parameters |= {f"heads/{name}/{path}": p for path, p in head.named_parameters() if p.requires_grad}
    optimizer = _optimizer(parameters, settings, learning_rate)
    save_at, score_at = checkpoints(len(schedule), settings.checkpoints), moments(len(schedule), settings.evaluate)
    state = checkpoint.resume(work, parameters, optimizer)
    budget = adapted.budget(len(schedule))
    if budget is not None:
        budget.restore(state.budget)
    _mode(adapted, heads, True, settings)

    for step in range(state.step, len(schedule)):
        factor = learning_rate_factor(step, len(schedule), settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        torch.manual_seed(_stream(seed, step) + accelerator.process_index)
        share, indices = schedule.examples(step)
        loss = gradients(adapted, heads[shares[share].head], shares[share], indices, (seed, step), accelerator)
        for penalty in (adapted.penalty(), None if budget is None else budget.penalty()):
            if penalty is not None:
                penalty.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(list(parameters.values()), settings.clip)
        if not math.isfinite(loss) or not math.isfinite(float(norm)):
            raise StageFailed(
                f"the loss became {loss} at step {step + 1}",
                why="the learning rate is too high",
                fix="lower train.learning_rate",
            )
        optimizer.step()
        if budget is not None:
            budget.after(step)
        optimizer.zero_grad(set_to_none=True)
        state.metrics.append({"step": step + 1, "loss": loss, "head": shares[share].head, "share": share})
        state.step = step + 1
        if state.step in score_at:
            _mode(adapted, heads, False, settings)
            _keep_best(parameters, state, agreed(score, accelerator))
            _mode(adapted, heads, True, settings)
            if settings.patience and state.since_best >= settings.patience:
                break
        if state.step in save_at and accelerator.is_main_process:
            state.budget = {} if budget is None else budget.state()
            checkpoint.save(work, state, parameters, optimizer)
        progress(state.step / len(schedule), f"loss {loss:.3f}")

    if settings.select == "best" and state.best_tensors:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(state.best_tensors[name])
    losses = [row["loss"] for row in state.metrics if "loss" in row]
    _mode(adapted, heads, False, settings)
    return Fit(state.step, _tail(losses), has_converged(losses), state.best, tuple(state.metrics))


def gradients(
    adapted: Adapted,
    head: Any,
    share: Share,
    indices: NDArray[np.int64],
    seed: tuple[int, int],
    accelerator: Any,
) -> float:
    """Accumulate the gradient of the mean loss over all units of one update; returns that mean."""
    lengths = lengths_of(share.arrays.rows, share.arrays.examples)[share.chosen[indices]]
    total, units = 0.0, 0.0
    for number, part in own_parts(lengths, adapted.engine.tokens, accelerator):
        batch = share.batch(indices[part], adapted.base.pad_id, (*seed, number)).to(accelerator.device)
        loss, count = head.loss(adapted.logits(head, batch), batch)
        # The number of units is known only when all parts are seen, so gradients are divided afterwards.
        loss.backward()
        total, units = total + float(loss.detach()), units + count
    parameters = [*adapted.trainable().values(), *(p for p in head.parameters() if p.requires_grad)]
    total, units = add_up(parameters, total, units, accelerator)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.div_(max(units, 1))
    return total / max(units, 1)


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


def _mode(adapted: Adapted, heads: Mapping[str, nn.Module], training: bool, settings: TrainSettings) -> None:
    adapted.train_mode(training, base_dropout=settings.base_dropout)
    for head in heads.values():
        head.train(training)


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
