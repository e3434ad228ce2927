"""Several modules in one loop: one pass over the frozen base for the rows of all, and each module's own update.

Each keeps its order, optimizer, clipping, scores and checkpoints, and ends in what it would be alone, up to the order
in which floats are added: the base's products run over all rows at once, the modules' over their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapterstilts.encoder.batch import by_length, lengths_of
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Tree
from adapterstilts.training.course import Course, Fit, Share

Drawn = tuple[int, NDArray[np.int64]]  # a share and its examples


@dataclass(frozen=True)
class Member:
    """One of the modules: what is active for its rows, the leaf of it that trains, and its course."""

    tree: Tree
    leaf: str
    course: Course


def fit_together(adapted: Adapted, members: Sequence[Member]) -> list[Fit]:
    """Train all, in place; those that have fewer updates leave earlier.

    Nothing drops out: base and modules run in evaluation mode.

    Raises:
        StageFailed: a loss is not a number.
    """
    adapted.train_mode(False)
    while left := [member for member in members if member.course.open]:
        trees = tuple(member.tree for member in left)
        if adapted.apart != trees:  # at first, when one has left, and after a score
            adapted.activate_apart(trees, train=frozenset(member.leaf for member in left))
            adapted.train_mode(False)
        drawn = [member.course.begin() for member in left]
        for member, (share, _), loss in zip(left, drawn, _gradients(adapted, left, drawn), strict=True):
            member.course.update(share, loss)
    return [member.course.finish() for member in members]


def _gradients(adapted: Adapted, members: Sequence[Member], drawn: Sequence[Drawn]) -> list[float]:
    """Accumulate, for each module, the gradient of the mean loss of its update; returns these means."""
    budget = max(1, adapted.engine.tokens // len(members))
    shares = [member.course.shares[share] for member, (share, _) in zip(members, drawn, strict=True)]
    heads: list[Any] = [member.course.heads[share.head] for member, share in zip(members, shares, strict=True)]
    totals, units = np.zeros(len(members)), np.zeros(len(members))
    parts = [_parts(share, indices, budget) for share, (_, indices) in zip(shares, drawn, strict=True)]
    for number, joint in enumerate(zip_longest(*parts)):
        batches = [
            None
            if part is None
            else share.batch(part, adapted.base.pad_id, (m.course.seed, m.course.state.step, number)).to(
                adapted.model.device
            )
            for m, share, part in zip(members, shares, joint, strict=True)
        ]
        losses = []
        for place, logits in adapted.logits_apart(heads, batches):
            loss, count = heads[place].loss(logits, batches[place])
            losses.append(loss)
            totals[place] += float(loss.detach())
            units[place] += count
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
    for member, count in zip(members, units, strict=True):
        for parameter in member.course.parameters.values():
            if parameter.grad is not None:
                parameter.grad.div_(max(count, 1))
    return [float(total) / max(count, 1) for total, count in zip(totals, units, strict=True)]


def _parts(share: Share, indices: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    """The examples of an update in micro-batches."""
    lengths = lengths_of(share.arrays.rows, share.arrays.examples)[share.chosen[indices]]
    return [indices[part] for part in by_length(lengths, budget)]
