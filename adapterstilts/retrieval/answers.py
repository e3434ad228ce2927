"""Mean average precision of answer retrieval (LAReQA)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

DEPTH = 20


def average_precision(found: Sequence[int], right: Collection[int], depth: int = DEPTH) -> float:
    """Average precision at ``depth`` of a ranked list, 0..1: the mean over the right ones of precision at their rank.

    A right one that is not found counts 0; of more than ``depth`` right ones only so many can be found.
    """
    wanted, hits, total = set(right), 0, 0.0
    for rank, row in enumerate(found[:depth], start=1):
        if row in wanted:
            hits += 1
            total += hits / rank
    return total / min(len(wanted), depth)
