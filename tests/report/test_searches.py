"""Figures of retrieval: the F1 curve over the threshold, and the published layers on the curve over layers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from adapterstilts.cli.measuring import published_layers
from adapterstilts.report.facts import read
from adapterstilts.report.figures.thresholds import _at, thresholds

CURVE: dict[str, Any] = {
    "layer": 2,
    "threshold": 1.05,
    "thresholds": [1.3, 1.2, 1.05, 0.9],
    "f1": [10.0, 30.0, 55.0, 20.0],
}


def test_f1_at_any_threshold() -> None:
    """Taking what scores at least a threshold is taking the longest list whose own threshold is not below it."""
    asked = np.array([1.4, 1.3, 1.25, 1.05, 1.0, 0.8])
    assert _at(CURVE, asked).tolist() == [0, 10, 10, 55, 55, 20]


def test_the_curve_of_every_module_is_drawn() -> None:
    facts = read(
        {"recipe": {"name": "r"}, "curves": {"bucc": {"base": {"de": CURVE}, "nli": {"de": CURVE, "fr": CURVE}}}}
    )
    item = cast(Any, SimpleNamespace(task="bucc", modules=("base", "nli")))
    figure = thresholds(item, facts)
    assert figure is not None and "nli" in figure.svg and "development" in figure.caption
    assert thresholds(cast(Any, SimpleNamespace(task="tatoeba", modules=("base",))), facts) is None


def test_published_layers_scale_with_the_depth() -> None:
    assert published_layers(set(range(25))) == {10, 14, 20}
    assert published_layers(set(range(13))) == {5, 7, 10}
    assert published_layers({14}) == published_layers(set()) == set()  # of a few layers nobody knows the depth
