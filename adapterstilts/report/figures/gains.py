"""Gains with intervals, one row an arm."""

from __future__ import annotations

from typing import Any

import numpy as np

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, INK, MUTED, SURFACE, WIDTH, Figure, bare, canvas, finish
from adapterstilts.report.results import Target
from adapterstilts.report.theme import PLACEHOLDER
from adapterstilts.report.words import metric_name, signed
from adapterstilts.study.gains import Gain, verdict

VERDICT_COLOUR = {"gain": "gain", "loss": "loss", "no gain found": "neutral"}


def forest(target: Target, facts: Facts) -> Figure | None:
    """Zero-shot gain of every arm with its interval; each run is a small dot, a filled marker is a claimed effect."""
    gains = [r.gain for r in target.arms if r.gain]
    if not gains:
        return None
    side = min(200.0, max(100.0, 16 + 6.6 * max(len(facts.name(g.arm)) for g in gains)))
    figure, axes = canvas(58 + 34 * len(gains), left=side / WIDTH, right=0.67, top=8, bottom=42)
    reach = max(1.0, 1.35 * max(abs(v) for g in gains for v in g.values))
    axes.axvline(0, color=MUTED, lw=1)
    for row, item in enumerate(gains):
        _gain_row(axes, row, item, reach)
        ends = item.interval
        text = signed(item.mean)
        if ends.low is not None and ends.high is not None:
            text += f"  ({signed(ends.low)} to {signed(ends.high)})"
        axes.text(1.03, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=11, color=INK)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(len(gains) - 0.5, -0.5)
    axes.set_yticks(range(len(gains)), [facts.name(g.arm) for g in gains], fontsize=12, color=INK)
    axes.set_xlabel(f"points of {metric_name(target.metric)} over the baseline", color=MUTED, fontsize=11)
    axes.grid(axis="x", color=GRID, lw=0.8)
    bare(axes)
    caption = (
        "Mean gain in the zero-shot languages with its 95 % interval; small dots are single runs (base and seed)."
        " Filled: an effect after correction; hollow: no gain found."
    )
    head = ("arm", "baseline", "gain", "low", "high", "p_holm", "verdict", "values")
    rows = [
        (
            g.arm,
            g.baseline,
            g.mean,
            g.interval.low,
            g.interval.high,
            g.adjusted,
            verdict(g),
            " ".join(f"{value:.2f}" for value in g.values),
        )
        for g in gains
    ]
    return finish(
        figure, f"gains-{target.task}", f"Gain over the baseline: {facts.name(target.task)}", caption, head, rows
    )


def _gain_row(axes: Any, row: int, item: Gain, reach: float) -> None:
    said = verdict(item)
    colour = PLACEHOLDER[VERDICT_COLOUR[said]]
    low, high = item.interval.low, item.interval.high
    if low is not None and high is not None:
        ends = [max(low, -0.97 * reach), min(high, 0.97 * reach)]
        axes.plot(ends, [row, row], color=colour, lw=2.4, solid_capstyle="butt")
        for end, edge, marker in ((low, -reach, "<"), (high, reach, ">")):
            if abs(end) > reach:  # a very wide interval would squeeze all others
                axes.plot([0.96 * edge], [row], marker, color=colour, ms=7, clip_on=False)
    offsets = np.linspace(-0.12, 0.12, len(item.values)) + 0.27
    axes.plot(item.values, row + offsets, ".", color=PLACEHOLDER["neutral"], ms=4.5, alpha=0.8)
    fill = colour if said != "no gain found" else SURFACE
    axes.plot([item.mean], [row], "o", ms=9, color=colour, mfc=fill, mew=2)
