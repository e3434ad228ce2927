"""Single runs over a size, with the line through the bases' means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adapterstilts.report.figures.canvas import GRID, MUTED, SURFACE, Figure, bare, canvas, finish
from adapterstilts.report.theme import PLACEHOLDER
from adapterstilts.study.measures import Measure


def points(key: str, title: str, along: str, up: str, measure: Measure, sizes: Mapping[str, float]) -> Figure | None:
    """Each run as a dot, each base's mean as a circle, on a logarithmic scale of size."""
    runs = [(pair.base, pair.seed, sizes[pair.base], v) for pair, v in measure.values.items() if pair.base in sizes]
    if len({size for _, _, size, _ in runs}) < 2:
        return None
    figure, axes = canvas(270, left=0.13, right=0.97, top=12, bottom=46)
    axes.set_xscale("log")
    axes.axhline(0, color=MUTED, lw=1)
    axes.plot([size for _, _, size, _ in runs], [v for *_, v in runs], ".", ms=6, color=PLACEHOLDER["neutral"])
    bases = list(dict.fromkeys(base for base, *_ in runs))
    x = np.array([sizes[base] for base in bases])
    y = np.array([np.mean([v for base, _, _, v in runs if base == name]) for name in bases])
    axes.plot(x, y, "o", ms=8, color=PLACEHOLDER["series-1"], mec=SURFACE)
    slope, start = np.polyfit(np.log(x), y, 1)
    ends = np.array([x.min(), x.max()])
    axes.plot(ends, start + slope * np.log(ends), "-", lw=2, color=PLACEHOLDER["series-1"])
    axes.set_xlabel(along, color=MUTED, fontsize=11)
    axes.set_ylabel(up, color=MUTED, fontsize=11)
    axes.set_xticks(sorted(set(x)), [f"{value / 1e6:.2g} M" for value in sorted(set(x))])
    axes.minorticks_off()
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    bare(axes)
    caption = "Dots: single runs; circles: the mean of a base; the line goes through the circles."
    return finish(figure, key, title, caption, ("base", "seed", "size", "value"), runs)
