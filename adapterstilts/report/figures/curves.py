"""Lines through stages of training: what is left of a task as others are learned."""

from __future__ import annotations

from collections.abc import Sequence

from adapterstilts.report.figures.canvas import GRID, INK, MARKERS, MUTED, Figure, bare, canvas, finish
from adapterstilts.report.theme import PLACEHOLDER, SERIES
from adapterstilts.study.measures import Measure


def curves(
    key: str, title: str, moments: Sequence[str], lines: Sequence[tuple[str, Sequence[Measure | None]]]
) -> Figure | None:
    """One line for each task over the moments it was scored at; thin lines are single runs."""
    shown = [(name, points) for name, points in lines if any(points)][:SERIES]
    if not shown:
        return None
    foot = 18 * len(shown)
    figure, axes = canvas(250 + foot, left=0.11, right=0.97, top=10, bottom=34 + foot)
    rows = []
    for index, (name, points) in enumerate(shown):
        colour = PLACEHOLDER[f"series-{index + 1}"] if index + 1 < SERIES else PLACEHOLDER["series-0"]
        at = [k for k, point in enumerate(points) if point is not None]
        found = [point for point in points if point is not None]
        axes.plot(at, [p.mean for p in found], "-", marker=MARKERS[index], lw=2.2, ms=6, color=colour, label=name)
        for pair in found[0].values:
            one = [p.values.get(pair) for p in found]
            if all(value is not None for value in one):
                axes.plot(at, one, "-", lw=0.8, alpha=0.45, color=colour)
        for k, point in zip(at, found, strict=True):
            rows += [(name, moments[k], pair.base, pair.seed, value) for pair, value in point.values.items()]
    axes.set_xticks(range(len(moments)), list(moments))
    axes.set_xlim(-0.25, len(moments) - 0.75)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    bare(axes)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -30 / 206), frameon=False, labelcolor=INK, fontsize=11)
    caption = "Score in percent, mean over runs (thick) and single runs (thin)."
    return finish(figure, key, title, caption, ("task", "moment", "base", "seed", "score"), rows)
