"""Retrieval scores: Tatoeba accuracy, and BUCC mining with the threshold and layer of the development set.

Everything is given for each layer, raw and centred (``center``). Published numbers are raw; which layer they used is
part of the number (14 in jiant and XTREME's Tatoeba script, 20 in XTREME's BUCC script as executed).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from adapterstilts.errors import DataError
from adapterstilts.retrieval.mining import Duplicates, Margin, Pair, Retrieval, candidates, mine, unify
from adapterstilts.retrieval.neighbours import Indices, Vectors, center
from adapterstilts.retrieval.search import How, search
from adapterstilts.retrieval.threshold import Curve, above, f1_curve, pair_f1

Variant = Literal["raw", "centred"]
Layers = Mapping[int, Vectors]
ScoreRow = dict[str, Any]

VARIANTS: tuple[Variant, ...] = ("raw", "centred")


@dataclass(frozen=True)
class Bitext:
    """Two sets of (id, text) sentences with their embeddings, one array [sentences, d] for each layer.

    ``source`` is the foreign language, ``target`` English (or the pivot). ``gold`` None = not published.
    """

    source: Sequence[Pair]
    target: Sequence[Pair]
    gold: Collection[Pair] | None
    source_layers: Layers
    target_layers: Layers

    def __post_init__(self) -> None:
        for side, lines, layers in (
            ("source", self.source, self.source_layers),
            ("target", self.target, self.target_layers),
        ):
            for layer, vectors in layers.items():
                if len(vectors) != len(lines):
                    raise DataError(
                        f"{len(vectors)} embeddings of layer {layer} for {len(lines)} {side} sentences",
                        why="the embeddings belong to other data, or a limit was applied to one of them only",
                        fix="embed again with the sentences of this split",
                    )

    def vectors(self, layer: int, variant: Variant) -> tuple[Vectors, Vectors]:
        """Source and target embeddings of one layer; centred on the mean of their own sentences where asked."""
        source, target = self.source_layers[layer], self.target_layers[layer]
        return (source, target) if variant == "raw" else (center(source), center(target))


@dataclass(frozen=True)
class MiningSettings:
    """How pairs are mined; the defaults are the published protocol."""

    neighbours: int = 4
    margin: Margin = "ratio"
    retrieval: Retrieval = "max"
    duplicates: Duplicates = "drop"
    how: How = "auto"
    device: str = "cpu"


@dataclass(frozen=True)
class BuccResult:
    """Score rows, and of the headline variant: the layer, the threshold, the dev curve and the mined pairs."""

    rows: list[ScoreRow]
    layer: int
    threshold: float
    curve: Curve
    pairs: list[Pair]  # of the test split at the dev threshold (the submission file); of dev where no test is given


def tatoeba_scores(
    language: str,
    bitext: Bitext,
    *,
    layer: int,
    split: str = "test",
    variants: Sequence[Variant] = VARIANTS,
    device: str = "cpu",
) -> list[ScoreRow]:
    """Accuracy of the nearest neighbour for every layer and variant.

    ``accuracy`` is XTREME's: for each English sentence the nearest foreign one; ``accuracy_to_english`` the other way
    round. ``headline`` marks the official figure: ``accuracy``, raw, at ``layer``. Raises DataError without gold.
    """
    _require(bitext, layer, f"tatoeba/{language} {split}")
    gold = set(bitext.gold or ())
    sources, targets = [name for name, _ in bitext.source], [name for name, _ in bitext.target]
    rows: list[ScoreRow] = []
    for number in sorted(bitext.target_layers):
        for variant in variants:
            found = search(*bitext.vectors(number, variant), 1, device=device)
            official = {(sources[i], name) for i, name in zip(found.back_indices[:, 0], targets, strict=True)}
            reverse = {(name, targets[j]) for name, j in zip(sources, found.indices[:, 0], strict=True)}
            for metric, pairs, side in (("accuracy", official, 1), ("accuracy_to_english", reverse, 0)):
                n = len({pair[side] for pair in gold})
                row = _row(language, split, metric, 100 * len(pairs & gold) / n, n, number, variant)
                rows.append(row | {"headline": (metric, number, variant) == ("accuracy", layer, "raw")})
    return rows


def tatoeba_predictions(bitext: Bitext, layer: int, variant: Variant = "raw", *, device: str = "cpu") -> Indices:
    """For each target (English) sentence the row of the nearest source sentence: the lines of XTREME's file."""
    source, target = bitext.vectors(layer, variant)
    return search(source, target, 1, device=device).back_indices[:, 0]


def bucc_scores(
    language: str,
    dev: Bitext,
    test: Bitext | None = None,
    *,
    layer: int | None = None,
    settings: MiningSettings | None = None,
    variants: Sequence[Variant] = VARIANTS,
    headline: Variant = "raw",
) -> BuccResult:
    """F1, precision and recall of mined pairs: every layer on dev, the chosen layer on test.

    The threshold of each layer and variant is the best on dev. ``layer`` None chooses, for each variant, the layer of
    the highest dev F1 (the lowest such layer among equals); the test never takes part. Rows hold ``threshold`` and
    ``layer_from`` ("dev" or "given"); ``n`` is the number of gold pairs. A test without gold gives pairs, no rows.
    """
    _require(dev, layer, f"bucc/{language} dev")
    settings = settings or MiningSettings()
    results = {
        variant: _bucc_variant(language, dev, test, layer, settings, variant, variant == headline)
        for variant in dict.fromkeys((*variants, headline))
    }
    return replace(results[headline], rows=[row for result in results.values() for row in result.rows])


def _bucc_variant(
    language: str,
    dev: Bitext,
    test: Bitext | None,
    layer: int | None,
    settings: MiningSettings,
    variant: Variant,
    headline: bool,
) -> BuccResult:
    gold = set(dev.gold or ())
    found = {number: mine_pairs(dev, number, variant, settings) for number in sorted(dev.target_layers)}
    curves = {number: f1_curve(pairs, gold) for number, pairs in found.items()}
    taken = {number: above(pairs, curves[number].threshold) for number, pairs in found.items()}
    scores = {number: pair_f1(pairs, gold) for number, pairs in taken.items()}
    chosen = layer if layer is not None else max(scores, key=lambda number: scores[number]["f1"])
    threshold = curves[chosen].threshold
    pairs = taken[chosen] if test is None else above(mine_pairs(test, chosen, variant, settings), threshold)
    reported = [("dev", number, scores[number], len(gold)) for number in scores]
    if test is not None and test.gold:
        reported.append(("test", chosen, pair_f1(pairs, test.gold), len(set(test.gold))))
    rows = [
        _row(language, split, metric, value, n, number, variant)
        | {
            "threshold": curves[number].threshold,
            "layer_from": "dev" if layer is None else "given",
            "headline": headline and number == chosen and metric == "f1",
        }
        for split, number, values, n in reported
        for metric, value in values.items()
    ]
    return BuccResult(rows, chosen, threshold, curves[chosen], pairs)


def mine_pairs(bitext: Bitext, layer: int, variant: Variant, settings: MiningSettings) -> dict[Pair, float]:
    """All mined pairs of one layer with their scores, by (source id, target id), before any threshold."""
    source, target = unify(bitext.source, settings.duplicates), unify(bitext.target, settings.duplicates)
    x, y = bitext.vectors(layer, variant)
    neighbours = search(
        _rows(x, source.rows), _rows(y, target.rows), settings.neighbours, settings.how, device=settings.device
    )
    mined = mine(neighbours, margin=settings.margin, retrieval=settings.retrieval)
    return candidates(mined, source, target)


def _rows(vectors: Vectors, rows: Indices) -> Vectors:
    # Nothing repeated: no copy, so that memory-mapped embeddings stay on disk.
    return vectors if len(rows) == len(vectors) else np.asarray(vectors[rows])


def _row(language: str, split: str, metric: str, value: float, n: int, layer: int, variant: Variant) -> ScoreRow:
    return {
        "language": language,
        "split": split,
        "metric": metric,
        "value": value,
        "n": n,
        "layer": layer,
        "variant": variant,
    }


def _require(bitext: Bitext, layer: int | None, where: str) -> None:
    if not bitext.gold:
        raise DataError(
            "no gold pairs",
            where=where,
            why="accuracy is counted, and the mining threshold chosen, on known pairs",
            fix="give a data root with the gold file of this language and split",
        )
    if layer is not None and layer not in bitext.target_layers:
        raise DataError(
            f"layer {layer} was not embedded",
            where=where,
            why=f"layers at hand: {', '.join(map(str, sorted(bitext.target_layers)))}",
            fix="name one of them, or add it to the layers of the recipe",
        )
