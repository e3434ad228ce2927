"""Paired tests and what belongs to them: sign flips, correction for many tests, effect size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

# 2^16 sign patterns are enumerated at most; above that they are sampled.
EXACT_LIMIT = 16


def sign_flip(differences: ArrayLike, *, rounds: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value that paired differences are symmetric around zero.

    Approximate randomisation for paired scores (Noreen 1989): under the null each difference could as well have had
    the other sign. Up to 16 differences every sign pattern is counted (exact), beyond that ``rounds`` patterns are
    drawn and the observed one is counted in. With n differences no p-value below 2 / 2^n can occur: three seeds can
    never give less than 0.25.
    """
    x = np.asarray(differences, dtype=float)
    x = x[x != 0]  # a zero looks the same with either sign
    if x.size == 0:
        return 1.0
    observed = abs(float(x.sum()))
    slack = 1e-9 * float(np.abs(x).sum())  # sums in another order differ in the last bits
    if x.size <= EXACT_LIMIT:
        signs = 1.0 - 2.0 * ((np.arange(2**x.size)[:, None] >> np.arange(x.size)) & 1)
        return float((np.abs(signs @ x) >= observed - slack).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    left = rounds
    while left:
        size = min(left, max(1, 2_000_000 // x.size))
        signs = 1.0 - 2.0 * rng.integers(0, 2, (size, x.size))
        hits += int((np.abs(signs @ x) >= observed - slack).sum())
        left -= size
    return (hits + 1) / (rounds + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): adjusted p-values in the order given, family-wise error at their level."""
    p = np.asarray(p_values, dtype=float)
    if p.size == 0:
        return []
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    out: NDArray[np.float64] = np.empty(p.size)
    out[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in out]


def effect_size(differences: ArrayLike) -> float | None:
    """Paired standardised mean difference d_z with Hedges' small-sample factor; None without spread or with n < 2."""
    x = np.asarray(differences, dtype=float)
    if x.size < 2:
        return None
    spread = float(x.std(ddof=1))
    if spread < 1e-12:
        return None
    correction = 1 - 3 / (4 * (x.size - 1) - 1) if x.size > 2 else 1.0
    return float(x.mean()) / spread * correction
