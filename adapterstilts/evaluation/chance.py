"""What a score is worth that needs no learning: guessing, and always saying the most frequent label."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any


def chance(labels: Sequence[Any] | None = None, *, choices: int | Iterable[int] | None = None) -> float | None:
    """Accuracy of uniform guessing, in percent: over a label set, or over the numbers of choices of the examples.

    One number of choices stands for all examples (the candidates of a retrieval task, say). None where neither is
    given: a task with open answers has no chance level.
    """
    if labels:
        return 100.0 / len(labels)
    if choices is None:
        return None
    counts = [choices] if isinstance(choices, int) else list(choices)
    return 100.0 * sum(1 / count for count in counts) / len(counts) if counts else None


def majority(golds: Iterable[Any]) -> float:
    """Share of the most frequent gold label, in percent; of the most frequent tag where golds are tag lists."""
    counts: Counter[Any] = Counter()
    for gold in golds:
        counts.update(gold if isinstance(gold, (list, tuple)) else (gold,))
    return 100.0 * max(counts.values()) / counts.total() if counts else 0.0


def at_chance(accuracy: float, n: int, baseline: float, *, z: float = 1.96) -> bool:
    """Whether an accuracy over ``n`` examples does not stand out from a baseline (both in percent).

    The bound is the baseline plus ``z`` binomial standard errors, so small test sets are flagged more readily.
    """
    share = min(max(baseline / 100, 0.0), 1.0)
    return accuracy <= baseline + 100 * z * math.sqrt(share * (1 - share) / max(n, 1))
