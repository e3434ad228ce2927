"""The F1 of mining over its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, INK, MARKERS, MUTED, Figure, bare, canvas, finish
from adapterstilts.report.results import Retrieval
from adapterstilts.report.theme import PLACEHOLDER, SERIES


def thresholds(item: Retrieval, facts: Facts) -> Figure | None:
    """F1 on development data over the threshold, mean over languages; the dot is where each language is cut."""
    curves = {name: facts.curves[item.task][name] for name in item.modules if name in facts.curves.get(item.task, {})}
    curves = dict(list(curves.items())[:SERIES])
    if not curves:
        return None
    foot = 20 * ((len(curves) + 1) // 2)
    plot = 210
    figure, axes = canvas(plot + 62 + foot, left=0.11, right=0.98, top=10, bottom=52 + foot)
    every = [c for by_language in curves.values() for c in by_language.values() if c["thresholds"]]
    if not every:
        return None
    low, high = min(c["thresholds"][-1] for c in every), max(c["thresholds"][0] for c in every)
    grid = np.linspace(low, high, 200)
    for index, (module, by_language) in enumerate(curves.items()):
        colour = PLACEHOLDER[f"series-{index}"]
        mean = np.mean([_at(curve, grid) for curve in by_language.values()], axis=0)
        axes.plot(grid, mean, "--" if index == 0 else "-", lw=2, color=colour, label=facts.name(module))
        cuts = [curve["threshold"] for curve in by_language.values() if curve["f1"]]
        best = [max(curve["f1"]) for curve in by_language.values() if curve["f1"]]
        axes.plot(cuts, best, MARKERS[index], ms=5.5, color=colour)
    axes.set_ylim(0, None)
    axes.set_xlabel("threshold: pairs that score at least this", color=MUTED, fontsize=11)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    bare(axes)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -46 / plot)}
    axes.legend(ncols=2, frameon=False, labelcolor=INK, fontsize=11, borderpad=0, **place)
    caption = (
        "F1 of the mined pairs in percent on development data, mean over languages, raw vectors, each at its layer."
        " Marks: the threshold and F1 of each language; that threshold is applied to the test."
    )
    rows = [
        (module, language, threshold, f1)
        for module, by_language in curves.items()
        for language, curve in by_language.items()
        for threshold, f1 in zip(curve["thresholds"], curve["f1"], strict=True)
    ]
    head = ("module", "language", "threshold", "f1")
    return finish(figure, f"thresholds-{item.task}", "F1 over the threshold", caption, head, rows)


def _at(curve: Mapping[str, Any], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 of taking what scores at least each of these thresholds; 0 above the highest score."""
    cuts, f1 = np.array(curve["thresholds"], float), np.array([0.0, *curve["f1"]])
    return f1[np.searchsorted(-cuts, -grid, side="right")]
