"""Two arms against distance: points, fitted lines and their bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, INK, MARKERS, MUTED, SURFACE, Figure, bare, canvas, finish
from adapterstilts.report.results import Target
from adapterstilts.report.theme import PLACEHOLDER
from adapterstilts.report.words import metric_name
from adapterstilts.study.distance import band
from adapterstilts.study.measures import mean
from adapterstilts.study.scores import Scores


def lines(
    scores: Scores,
    arms: Sequence[str],
    target: Target,
    facts: Facts,
    distances: Mapping[str, float],
    kind: str,
    along: str,
) -> Figure | None:
    """Score by distance for each arm, with the least-squares line and its 95 % band; ``along`` names the axis."""
    languages = [name for name in target.zero_shot if name in distances]
    x = np.array([distances[name] for name in languages], dtype=float)
    if len(x) < 3 or np.ptp(x) < 1e-9:
        return None
    figure, axes = canvas(310, left=0.11, right=0.97, top=12, bottom=66)
    at = np.linspace(x.min(), x.max(), 60)
    rows = []
    for index, arm in enumerate(arms):
        found = [mean(scores, arm, (language,)) for language in languages]
        if not all(found):
            continue
        y = np.array([point.mean for point in found if point])
        colour = PLACEHOLDER[f"series-{index + 1}"]
        fitted, low, high = band(x, y, at)
        axes.fill_between(at, low, high, color=colour, alpha=0.12, lw=0)
        axes.plot(at, fitted, color=colour, lw=2)
        axes.plot(x, y, MARKERS[index], ms=7, color=colour, mec=SURFACE, mew=1, label=facts.name(arm))
        rows += [(arm, language, d, v) for language, d, v in zip(languages, x.tolist(), y.tolist(), strict=True)]
    axes.set_xlabel(along, color=MUTED, fontsize=11)
    axes.grid(color=GRID, lw=0.8)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    bare(axes)
    axes.legend(
        ncols=2, loc="upper center", bbox_to_anchor=(0.5, -42 / 232), frameon=False, labelcolor=INK, fontsize=11
    )
    caption = f"{metric_name(target.metric, start=True)} in percent, mean over runs. Bands: 95 % of the line."
    return finish(figure, f"distance-{target.task}-{kind}", f"{facts.name(target.task)} by {along}", caption,
                  ("arm", "language", "distance", "score"), rows)  # fmt: skip
