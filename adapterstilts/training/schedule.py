"""Which examples make which update: a pure function of (seed, step), so a resumed run sees what an unbroken one saw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapterstilts.settings import MixSettings, TrainSettings


@dataclass(frozen=True)
class Schedule:
    """The order of a training run.

    Attributes:
        sizes: examples per share (task and language) of the mix.
        shares: (steps,) the share of each update; every update holds examples of one share.
        offsets: (steps,) how many updates of the same share came before.
    """

    sizes: tuple[int, ...]
    shares: NDArray[np.int64]
    offsets: NDArray[np.int64]
    batch: int
    seed: int

    def __len__(self) -> int:
        return len(self.shares)

    def examples(self, step: int) -> tuple[int, NDArray[np.int64]]:
        """(share, indices of the examples in it) of one update. Each pass over a share is a fresh permutation."""
        share = int(self.shares[step])
        size = self.sizes[share]
        batch = min(self.batch, size)  # a share smaller than a batch is drawn whole, not twice
        positions = int(self.offsets[step]) * batch + np.arange(batch)
        parts = [
            _permutation(self.seed, share, int(epoch), size)[positions[positions // size == epoch] % size]
            for epoch in np.unique(positions // size)
        ]
        return share, np.concatenate(parts)


def make_schedule(sizes: Sequence[int], settings: TrainSettings, seed: int) -> Schedule:
    """Plan a run over shares of the given sizes; ``steps`` wins over ``epochs`` (default 3)."""
    per_epoch = sum(math.ceil(size / settings.batch) for size in sizes)
    steps = settings.steps or math.ceil((settings.epochs or 3.0) * per_epoch)
    probabilities = mixing(sizes, settings.mix)
    if len(sizes) == 1:
        shares = np.zeros(steps, dtype=np.int64)
    else:
        # Largest remainder at every step: the realised mix never strays more than one update from the intended one;
        # a random phase per share keeps the order from being the same for every seed.
        phase = np.random.default_rng([seed, 1]).random(len(sizes))
        shares = np.empty(steps, dtype=np.int64)
        done = np.zeros(len(sizes))
        for step in range(steps):
            shares[step] = np.argmax(probabilities * (step + 1) + phase - done)
            done[shares[step]] += 1
    offsets = np.empty(steps, dtype=np.int64)
    for share in range(len(sizes)):
        mine = shares == share
        offsets[mine] = np.arange(mine.sum())
    return Schedule(tuple(sizes), shares, offsets, settings.batch, seed)


def mixing(sizes: Sequence[int], mix: MixSettings) -> NDArray[np.float64]:
    """Share of the updates of each task: min(n, cap)^(1/T) normalised, or uniform (Raffel et al. 2020, 3.5.2)."""
    if mix.how == "uniform":
        return np.full(len(sizes), 1 / len(sizes))
    capped = np.minimum(np.asarray(sizes, dtype=np.float64), mix.cap or math.inf) ** (1 / mix.temperature)
    return np.asarray(capped / capped.sum())


def subset(size: int, limit: int | None, seed: int) -> NDArray[np.int64]:
    """The examples a limited share trains on: a random choice that depends on the seed; smaller limits are prefixes."""
    order = np.random.default_rng([seed, 2]).permutation(size)
    return np.asarray(order[: limit or size])


def _permutation(seed: int, share: int, epoch: int, size: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, 3, share, epoch]).permutation(size)


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up over ``warmup * steps`` updates, then linear decay to 0 (transformers' linear schedule)."""
    warm = round(warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    return max(0.0, (steps - step) / max(1, steps - warm))


def checkpoints(steps: int, count: int) -> frozenset[int]:
    """After which updates a resumable state is written."""
    return frozenset(round(steps * (index + 1) / (count + 1)) for index in range(count)) - {0, steps}


def moments(steps: int, count: int) -> frozenset[int]:
    """After which updates English dev is scored: ``count`` times, the last at the end."""
    return frozenset(round(steps * (index + 1) / count) for index in range(count)) if count else frozenset()
