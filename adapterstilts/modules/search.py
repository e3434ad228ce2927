"""Weights over modules found without gradients: the few-shot search of LoraHub (Huang et al. 2023, arXiv 2307.13269).

    minimise  loss(w) + penalty * mean |w_m|,   |w_m| <= bound

Each module alone, their mean and the bare base are measured first; COBYLA (scipy) goes on from the best of them, so
what is found is never worse than those on the examples that it was searched on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidate:
    """Weights that were measured: the loss itself, and with the penalty what is minimised."""

    weights: tuple[float, ...]
    loss: float
    objective: float


def search(
    loss: Callable[[tuple[float, ...]], float],
    count: int,
    *,
    steps: int,
    penalty: float,
    bound: float,
    told: Callable[[Candidate, float], None],
) -> Candidate:
    """The best weights of ``count`` modules among count + 2 starts and at most ``steps`` further evaluations.

    Fewer steps than count + 2 cannot even build COBYLA's first model; so many are taken unless ``steps`` is 0.

    Args:
        loss: of one candidate; the search asks it nothing else and draws no random numbers.
        told: called after each candidate with the share of the work that is done.
    """
    from scipy.optimize import minimize

    tried: list[Candidate] = []

    def measure(point: NDArray[np.float64]) -> float:
        weights = tuple(round(float(value), 6) for value in np.clip(point, -bound, bound))
        value = loss(weights)
        tried.append(Candidate(weights, value, value + penalty * sum(map(abs, weights)) / count))
        told(tried[-1], len(tried) / (steps + count + 2))
        return tried[-1].objective

    for start in (*np.eye(count) * min(1.0, bound), np.full(count, min(1.0, bound) / count), np.zeros(count)):
        measure(start)
    first = min(tried, key=lambda candidate: candidate.objective)
    if steps:
        options = {"maxiter": max(steps, count + 2), "rhobeg": bound / 3}
        limits = [(-bound, bound)] * count
        minimize(measure, np.array(first.weights), method="COBYLA", bounds=limits, tol=1e-3, options=options)
    return min(tried, key=lambda candidate: candidate.objective)
