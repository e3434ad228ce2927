"""Score against distance, with the fitted line and its band."""

from __future__ import annotations

import numpy as np

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, MUTED, SURFACE, Figure, bare, canvas, finish, labels
from adapterstilts.report.results import ArmResult, Target
from adapterstilts.report.theme import PLACEHOLDER
from adapterstilts.report.words import NONE, metric_name, number
from adapterstilts.study.distance import band, known


def scatter(target: Target, result: ArmResult, facts: Facts) -> Figure | None:
    """Score of one arm against distance from English, with the least-squares line and its 95 % band."""
    found = result.correlation
    if found is None:
        return None
    languages = known([name for name in target.zero_shot if name in result.cells], facts.distances)
    x = np.array([facts.distances[name] for name in languages], dtype=float)
    y = np.array([result.cells[name].score.mean for name in languages])
    figure, axes = canvas(290, left=0.11, right=0.97, top=12, bottom=46)
    at = np.linspace(x.min(), x.max(), 60)
    fitted, low, high = band(x, y, at)
    axes.fill_between(at, low, high, color=PLACEHOLDER["series-1"], alpha=0.14, lw=0)
    axes.plot(at, fitted, color=PLACEHOLDER["series-1"], lw=2)
    axes.plot(x, y, "o", ms=7, color=PLACEHOLDER["series-1"], mec=SURFACE, mew=1)
    if facts.english in result.cells:
        level = result.cells[facts.english].score.mean
        axes.plot([0], [level], "o", ms=7, mfc=SURFACE, color=MUTED, mew=1.5)
        name = facts.name(facts.english)
        axes.annotate(name, (0, level), (8, -4), textcoords="offset points", fontsize=11, color=MUTED)
    # Far below the scores the guesser's level would only squeeze them.
    if target.level is not None and target.level > y.min() - 0.7 * np.ptp(y):
        axes.axhline(target.level, color=MUTED, lw=1, ls=":")
        axes.text(0.995, target.level, "guessing", transform=axes.get_yaxis_transform(), ha="right", va="bottom",
                  fontsize=10, color=MUTED)  # fmt: skip
    axes.set_xlabel("distance from English", color=MUTED, fontsize=11)
    axes.grid(color=GRID, lw=0.8)
    axes.margins(x=0.1, y=0.12)
    labels(axes, [facts.name(name) for name in languages], x, y)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    bare(axes)
    ends = found.interval
    caption = (
        f"{facts.name(result.arm.name)}, {metric_name(target.metric)} in percent: r = {number(found.pearson, 2)}"
        f" (95 % {number(ends.low, 2) if ends.low is not None else NONE} to"
        f" {number(ends.high, 2) if ends.high is not None else NONE}, bootstrap over languages),"
        f" Spearman {number(found.spearman, 2)}, n = {found.n} languages. Band: 95 % of the line"
        f"{', which leaves English (hollow) out' if facts.english in result.cells else ''}."
        f" With {found.n} languages |r| below {number(found.critical, 2)} cannot be told from zero."
    )
    head = ("language", "distance", "score")
    rows = list(zip(languages, x.tolist(), y.tolist(), strict=True))
    return finish(figure, f"distance-{target.task}", "Score against distance", caption, head, rows)
