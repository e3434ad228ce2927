"""What each query finds in one pool that mixes languages: the ranked lists of LAReQA and Mewsli-X."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapterstilts.retrieval.neighbours import Vectors, center
from adapterstilts.retrieval.scoring import Variant
from adapterstilts.retrieval.search import nearest

DEPTH = 20  # candidates that count, in both published protocols


@dataclass(frozen=True)
class Texts:
    """The queries, or the candidates, of one language, with one array [texts, d] of embeddings for each layer.

    A candidate is right for a query when their ``labels`` share one.
    """

    ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    layers: Mapping[int, Vectors]

    def vectors(self, layer: int, variant: Variant) -> Vectors:
        """Of one layer; centred on the mean of these texts where asked."""
        return self.layers[layer] if variant == "raw" else center(self.layers[layer])


def right_of(pool: Sequence[Texts]) -> dict[str, set[str]]:
    """Label -> ids of the candidates, of any language, that bear it."""
    found: dict[str, set[str]] = {}
    for texts in pool:
        for name, labels in zip(texts.ids, texts.labels, strict=True):
            for label in labels:
                found.setdefault(label, set()).add(name)
    return found


def ranked(
    queries: Texts, pool: Sequence[Texts], layer: int, variant: Variant = "raw", depth: int = DEPTH
) -> Iterator[list[str]]:
    """For each query the ids of the nearest candidates of the whole pool by cosine, nearest first.

    The languages of the pool are searched one by one and merged, so only one of them is in memory at a time.
    """
    asked = queries.vectors(layer, variant)
    scores, names = [], []
    for texts in pool:
        similarities, indices = nearest(asked, texts.vectors(layer, variant), depth)
        scores.append(similarities)
        names.append(np.asarray(texts.ids, dtype=object)[indices])
    order = np.argsort(-np.concatenate(scores, axis=1), axis=1, kind="stable")[:, :depth]
    yield from np.take_along_axis(np.concatenate(names, axis=1), order, axis=1).tolist()
