from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from adapterstilts.errors import DataError
from adapterstilts.retrieval.scoring import Bitext, MiningSettings, bucc_scores, tatoeba_predictions, tatoeba_scores


def _angles(*degrees: float) -> NDArray[np.float32]:
    radians = np.deg2rad(degrees)
    return np.stack((np.cos(radians), np.sin(radians)), axis=1).astype(np.float32)


def _lines(prefix: str, n: int) -> list[tuple[str, str]]:
    return [(f"{prefix}{i}", f"{prefix} sentence {i}") for i in range(n)]


def _bitext(seed: int, noise: dict[int, float], *, shared: int = 40, alone: int = 30) -> Bitext:
    """``shared`` translation pairs and ``alone`` other sentences a side; each layer adds its own noise."""
    rng = np.random.default_rng(seed)
    n = shared + alone
    meanings = rng.normal(size=(n + alone, 16)).astype(np.float32)
    order = rng.permutation(n)
    target = np.concatenate((meanings[:shared], meanings[n:]))[order]
    layers = {
        layer: (
            meanings[:n] + scale * rng.normal(size=(n, 16)).astype(np.float32),
            target + scale * rng.normal(size=(n, 16)).astype(np.float32),
        )
        for layer, scale in noise.items()
    }
    place = {int(old): new for new, old in enumerate(order)}
    return Bitext(
        _lines("de", n),
        _lines("en", n),
        {(f"de{i}", f"en{place[i]}") for i in range(shared)},
        {layer: x for layer, (x, _) in layers.items()},
        {layer: y for layer, (_, y) in layers.items()},
    )


def test_tatoeba_goes_from_english_to_the_foreign_side() -> None:
    # The first English sentence is the nearest to both foreign ones; each English one finds its own.
    bitext = Bitext(
        _lines("sw", 2),
        _lines("en", 2),
        [("sw0", "en0"), ("sw1", "en1")],
        {3: _angles(0, 25)},
        {3: _angles(10, 60)},
    )
    rows = tatoeba_scores("sw", bitext, layer=3, variants=["raw"])
    assert rows == [
        {"language": "sw", "split": "test", "metric": "accuracy", "value": 100.0, "n": 2, "layer": 3}
        | {"variant": "raw", "headline": True},
        {"language": "sw", "split": "test", "metric": "accuracy_to_english", "value": 50.0, "n": 2, "layer": 3}
        | {"variant": "raw", "headline": False},
    ]
    assert tatoeba_predictions(bitext, 3).tolist() == [0, 1]


def test_tatoeba_reports_all_layers_and_marks_one() -> None:
    bitext = _bitext(0, {0: 5.0, 1: 0.01, 2: 1.0}, alone=0)
    rows = tatoeba_scores("de", bitext, layer=1)
    assert len(rows) == 3 * 2 * 2
    assert [(r["layer"], r["variant"], r["value"]) for r in rows if r["headline"]] == [(1, "raw", 100.0)]
    assert next(r for r in rows if r["layer"] == 0)["value"] < 50
    predictions = tatoeba_predictions(bitext, 1)
    assert {(f"de{i}", f"en{j}") for j, i in enumerate(predictions)} == bitext.gold


def test_centring_is_a_variant_of_its_own() -> None:
    plain = _bitext(1, {1: 0.01}, alone=0)
    offset = 30 * np.random.default_rng(5).normal(size=16).astype(np.float32)
    shifted = replace(plain, target_layers={1: plain.target_layers[1] + offset})
    values = {(r["metric"], r["variant"]): r["value"] for r in tatoeba_scores("de", shifted, layer=1)}
    assert values["accuracy", "centred"] == 100.0
    assert values["accuracy", "raw"] < 50


def test_collapsed_embeddings_score_no_more_than_one_hit() -> None:
    bitext = _bitext(2, {1: 0.1}, alone=0)
    flat = np.ones((40, 16), np.float32)
    collapsed = replace(bitext, source_layers={1: flat}, target_layers={1: flat})
    assert all(row["value"] <= 100 / 40 for row in tatoeba_scores("de", collapsed, layer=1))


@pytest.mark.parametrize("duplicates", ["drop", "expand"])
def test_bucc_chooses_layer_and_threshold_on_dev(duplicates: str) -> None:
    settings = MiningSettings(duplicates=duplicates)  # type: ignore[arg-type]
    dev = _bitext(1, {7: 2.0, 8: 0.2, 9: 0.6})
    test = _bitext(2, {7: 0.01, 8: 0.4, 9: 0.01})  # here layer 8 is the worst; it is taken nevertheless
    result = bucc_scores("de", dev, test, settings=settings)
    assert result.layer == 8
    assert [row["layer"] for row in result.rows if row["split"] == "test"] == [8] * 6
    assert {row["layer"] for row in result.rows if row["split"] == "dev"} == {7, 8, 9}
    head = [row for row in result.rows if row["headline"]]
    assert [(row["split"], row["metric"], row["variant"]) for row in head] == [
        ("dev", "f1", "raw"),
        ("test", "f1", "raw"),
    ]
    assert {row["threshold"] for row in head} == {result.threshold}
    assert {row["layer_from"] for row in result.rows} == {"dev"}
    assert head[1]["n"] == 40
    assert 60 < head[1]["value"] < 100
    assert result.curve.f1.max() == pytest.approx(head[0]["value"])


def test_bucc_takes_a_given_layer_and_a_test_without_gold() -> None:
    dev, test = _bitext(1, {7: 2.0, 8: 0.2}), replace(_bitext(2, {7: 0.5, 8: 0.3}), gold=None)
    result = bucc_scores("de", dev, test, layer=7, variants=["raw"])
    assert result.layer == 7 and result.pairs
    assert {row["split"] for row in result.rows} == {"dev"}
    assert {row["layer_from"] for row in result.rows} == {"given"}
    assert bucc_scores("de", dev, variants=["raw"]).layer == 8


def test_test_labels_never_change_what_is_mined() -> None:
    dev, test = _bitext(1, {7: 0.5, 8: 0.4}), _bitext(2, {7: 0.5, 8: 0.4})
    other = replace(test, gold={("de0", "en0")})
    first, second = bucc_scores("de", dev, test), bucc_scores("de", dev, other)
    assert (first.pairs, first.layer, first.threshold) == (second.pairs, second.layer, second.threshold)


def test_repeated_sentences_cost_pairs_only_when_dropped() -> None:
    bitext = _bitext(3, {1: 0.01}, alone=0)
    target = [*bitext.target[:-1], (bitext.target[-1][0], bitext.target[0][1])]  # two equal English sentences
    vectors = bitext.target_layers[1].copy()
    repeated = replace(bitext, target=target, target_layers={1: vectors})
    recall = {
        duplicates: next(
            row["value"]
            for row in bucc_scores("de", repeated, settings=MiningSettings(duplicates=duplicates)).rows
            if row["metric"] == "recall" and row["variant"] == "raw"
        )
        for duplicates in ("drop", "expand")
    }
    assert recall == {"drop": 95.0, "expand": 97.5}


def test_what_cannot_be_scored_is_refused() -> None:
    bitext = _bitext(1, {7: 0.1})
    with pytest.raises(DataError, match="bucc/de dev: no gold pairs"):
        bucc_scores("de", replace(bitext, gold=None))
    with pytest.raises(DataError, match="layer 14 was not embedded"):
        tatoeba_scores("de", bitext, layer=14)
    with pytest.raises(DataError, match="70 embeddings of layer 7 for 69 source sentences"):
        replace(bitext, source=bitext.source[1:])
