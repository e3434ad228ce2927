"""The training loop, readable from top to bottom.

An update draws its examples first (schedule), runs them in micro-batches that fit the token budget, and divides the
summed loss by the number of units of the whole update: the budget changes memory, never the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from adapterstilts.encoder.batch import lengths_of
from adapterstilts.modules.attach import Adapted
from adapterstilts.settings import TrainSettings
from adapterstilts.training.course import Course, Fit, Share
from adapterstilts.training.distributed import add_up, agreed, own_parts
from adapterstilts.training.schedule import Schedule


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
    """Train the active leaves of ``adapted`` and ``heads`` in place; arguments as of `Course`.

    Raises:
        StageFailed: the loss is not a number.
    """
    from accelerate import Accelerator

    accelerator = Accelerator()
    adapted.to(accelerator.device)
    for head in heads.values():
        head.to(accelerator.device)

    def scored() -> float:
        _mode(adapted, heads, False, settings)
        value = agreed(score, accelerator)
        _mode(adapted, heads, True, settings)
        return value

    course = Course(
        adapted.trainable(),
        heads,
        shares,
        schedule,
        settings,
        learning_rate=learning_rate,
        seed=seed,
        work=work,
        score=scored,
        progress=progress,
        budget=adapted.budget(len(schedule)),
        writes=accelerator.is_main_process,
    )
    _mode(adapted, heads, True, settings)
    while course.open:
        share, indices = course.begin(accelerator.process_index)
        drawn = shares[share]
        loss = gradients(adapted, heads[drawn.head], drawn, indices, (seed, course.state.step), accelerator)
        for penalty in (adapted.penalty(), None if course.budget is None else course.budget.penalty()):
            if penalty is not None:
                penalty.backward()  # type: ignore[no-untyped-call]
        course.update(share, loss)
    _mode(adapted, heads, False, settings)
    return course.finish()


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


def _mode(adapted: Adapted, heads: Mapping[str, nn.Module], training: bool, settings: TrainSettings) -> None:
    adapted.train_mode(training, base_dropout=settings.base_dropout)
    for head in heads.values():
        head.train(training)
