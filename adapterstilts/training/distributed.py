"""One update by several processes: who computes which part of it, and the sum of what they found.

All processes hold the same module, optimizer and schedule. Of every update each computes some micro-batches; gradients,
loss and units are summed over the processes, so all take the same step: that of one process on the whole batch, up to
the order in which floats are added. DistributedDataParallel averages over processes instead, which is wrong when parts
are uneven, and waits for ever when a process has no part or a head no gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from adapterstilts.encoder.batch import by_length

Parts = list[tuple[int, NDArray[np.int64]]]


def own_parts(lengths: NDArray[np.int64], tokens: int, accelerator: Any) -> Parts:
    """(number, indices) of the micro-batches of this process; every process has some when there are examples enough."""
    processes = int(accelerator.num_processes)
    if processes > 1:
        tokens = min(tokens, math.ceil(int(lengths.sum()) / processes))
    return list(enumerate(by_length(lengths, tokens)))[accelerator.process_index :: processes]


def add_up(parameters: Sequence[nn.Parameter], total: float, units: float, accelerator: Any) -> tuple[float, float]:
    """Sum gradients, in place, and the loss and its units over the processes; returns these two.

    A parameter without a gradient in every process keeps none: its head rests in this update.
    """
    if accelerator.num_processes == 1:
        return total, units
    told = torch.tensor([total, units, *(float(p.grad is not None) for p in parameters)], dtype=torch.float64)
    told = accelerator.reduce(told.to(accelerator.device), reduction="sum").cpu()
    used = [p for p, owners in zip(parameters, told[2:].tolist(), strict=True) if owners]
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in used])
    flat = accelerator.reduce(flat, reduction="sum")
    for parameter, summed in zip(used, flat.split([p.numel() for p in used]), strict=True):
        parameter.grad = summed.view_as(parameter).clone()
    return float(told[0]), float(told[1])


def agreed(value: Callable[[], float], accelerator: Any) -> float:
    """A number that the first process computes and all use, so that all decide alike."""
    if accelerator.num_processes == 1:
        return value()
    own = value() if accelerator.is_main_process else 0.0
    return float(accelerator.reduce(torch.tensor(own, dtype=torch.float64, device=accelerator.device), reduction="sum"))
