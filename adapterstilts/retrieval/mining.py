"""Mining translation pairs with a margin over the neighbourhood (Artetxe and Schwenk 2019; BUCC in LASER and XTREME).

score(x, y) = margin(cos(x, y), (mean of the k nearest cosines of x + mean of those of y) / 2), for the k candidates of
each side only. Source followed step by step: XTREME ``third_party/utils_retrieve.py`` (= LASER ``mine_bitexts``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapterstilts.retrieval.neighbours import Indices, Neighbours, Similarities

Margin = Literal["ratio", "distance", "absolute"]
Retrieval = Literal["max", "forward", "backward", "intersection"]
Duplicates = Literal["drop", "expand"]
Pair = tuple[str, str]
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Lines:
    """The different sentences of a file: the row that stands for each in the embeddings, and the ids it maps to."""

    rows: Indices
    ids: tuple[tuple[str, ...], ...]

    @cached_property
    def names(self) -> tuple[str, ...] | None:
        """The id of each sentence, where every one has exactly one."""
        single = all(map((1).__eq__, map(len, self.ids)))
        return tuple(chain.from_iterable(self.ids)) if single else None


@dataclass(frozen=True)
class Mined:
    """Pairs of positions among the different sentences, with their scores; in ``max`` mode the best first."""

    source: Indices
    target: Indices
    scores: Scores


def unify(lines: Sequence[Pair], duplicates: Duplicates = "drop") -> Lines:
    """Collapse equal sentences of (id, text) lines; the embedding of the last occurrence stands for all.

    ``drop`` (LASER, XTREME): lines are equal as they stand, and a sentence that occurs twice after strip() maps to no
    id, so its pairs are lost. ``expand`` (jiant): lines are equal after strip(), and stand for all ids.
    """
    last: dict[str, int] = {}
    ids: dict[str, list[str]] = {}
    for row, (name, text) in enumerate(lines):
        key = text.strip() if duplicates == "expand" else text
        last[key] = row  # keeps the place of the first occurrence in the order
        ids.setdefault(key, []).append(name)
    rows = np.fromiter(last.values(), np.int64, len(last))
    if duplicates == "expand":
        return Lines(rows, tuple(map(tuple, ids.values())))
    repeats = Counter(text.strip() for _, text in lines)
    return Lines(rows, tuple(tuple(names) if repeats[text.strip()] == 1 else () for text, names in ids.items()))


def margin_scores(neighbours: Neighbours, margin: Margin = "ratio") -> tuple[Scores, Scores]:
    """The margin scores of the candidates: [n, k] for sources and [m, k'] for targets, beside their indices.

    Where a ratio is undefined (0/0: vectors without length) the score is -inf, so the pair is never mined.
    """
    source_means, target_means = _means(neighbours.similarities), _means(neighbours.back_similarities)

    def score(similarities: Similarities, own: Scores, others: Scores) -> Scores:
        cosines = similarities.astype(np.float64)
        around = (own[:, None] + others) / 2
        if margin == "absolute":
            return cosines
        if margin == "distance":
            return cosines - around
        with np.errstate(divide="ignore", invalid="ignore"):
            np.divide(cosines, around, out=cosines)
        cosines[np.isnan(cosines)] = -np.inf
        return cosines

    forward = score(neighbours.similarities, source_means, target_means[neighbours.indices])
    backward = score(neighbours.back_similarities, target_means, source_means[neighbours.back_indices])
    return forward, backward


def _means(similarities: Similarities) -> Scores:
    # Column by column: rows are short, and NumPy's sum along them takes several times as long.
    total: Scores = np.zeros(len(similarities))
    for column in similarities.T:
        total += column
    total /= similarities.shape[1]
    return total


def mine(
    neighbours: Neighbours, *, margin: Margin = "ratio", retrieval: Retrieval = "max", minimum: float = 0.0
) -> Mined:
    """The best candidate of each side, joined as ``retrieval`` says.

    ``forward``: the best target of each source; ``backward``: the best source of each target; ``intersection``: where
    both agree; ``max``: both lists together, best score first, each sentence used once (greedy one-to-one), scores
    above ``minimum`` only. Equal scores: forward before backward, then by position.
    """
    forward, backward = margin_scores(neighbours, margin)
    sources, targets = np.arange(len(forward)), np.arange(len(backward))
    first, last = forward.argmax(axis=1), backward.argmax(axis=1)
    best_targets, best_scores = neighbours.indices[sources, first], forward[sources, first]
    best_sources, back_scores = neighbours.back_indices[targets, last], backward[targets, last]
    if retrieval == "forward":
        return Mined(sources, best_targets, best_scores)
    if retrieval == "backward":
        return Mined(best_sources, targets, back_scores)
    if retrieval == "intersection":
        both = best_sources[best_targets] == sources
        return Mined(sources[both], best_targets[both], best_scores[both])
    source = np.concatenate((sources, best_sources))
    target = np.concatenate((best_targets, targets))
    scores = np.concatenate((best_scores, back_scores))
    order = _falling(scores)
    order = order[_one_to_one(source[order], target[order], len(sources), len(targets))]
    order = order[scores[order] > minimum]
    return Mined(source[order], target[order], scores[order])


def _falling(scores: Scores) -> Indices:
    """The stable order of falling scores: a fast unstable one, then the places of equal scores put in order."""
    order = np.argsort(-scores)
    ranked = scores[order]
    rank = np.cumsum(np.concatenate(([False], ranked[1:] != ranked[:-1]))[: len(order)])
    keys = rank * len(order) + order
    keys.sort()
    return np.asarray(keys % max(1, len(order)))


def _one_to_one(source: Indices, target: Indices, n: int, m: int) -> NDArray[np.bool_]:
    """Which pairs of a ranked list are kept when each sentence is used once, walking down the list.

    A pair that is the first of both its sentences is kept whatever stands around it. A few rounds of taking all such
    pairs at once leave little to walk through.
    """
    kept = np.zeros(len(source), np.bool_)
    source_used, target_used = np.zeros(n, np.bool_), np.zeros(m, np.bool_)
    left = np.arange(len(source))
    for _ in range(3):
        i, j, place = source[left], target[left], np.arange(len(left))
        first_i, first_j = np.empty(n, np.int64), np.empty(m, np.int64)
        first_i[i[::-1]] = first_j[j[::-1]] = place[::-1]  # of equal indices the last write stays: the first place
        good = (first_i[i] == place) & (first_j[j] == place)
        kept[left[good]] = source_used[i[good]] = target_used[j[good]] = True
        left = left[~(source_used[i] | target_used[j])]
    source_free, target_free = bytearray(~source_used), bytearray(~target_used)
    for place, i, j in zip(left.tolist(), source[left].tolist(), target[left].tolist(), strict=True):
        if source_free[i] and target_free[j]:
            source_free[i] = target_free[j] = 0
            kept[place] = True
    return kept


def candidates(mined: Mined, source: Lines, target: Lines) -> dict[Pair, float]:
    """Scores of the mined pairs by (source id, target id); pairs of sentences without an id are left out."""
    scores = mined.scores.tolist()
    rows = mined.source.tolist(), mined.target.tolist()
    # No sentence has the id of another, so no pair of ids comes twice.
    if source.names is not None and target.names is not None:
        first, second = map(source.names.__getitem__, rows[0]), map(target.names.__getitem__, rows[1])
        return dict(zip(zip(first, second, strict=True), scores, strict=True))
    sources, targets = map(source.ids.__getitem__, rows[0]), map(target.ids.__getitem__, rows[1])
    return {pair: score for one, two, score in zip(sources, targets, scores, strict=True) for pair in product(one, two)}
