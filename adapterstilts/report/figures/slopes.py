"""Slope charts: two arms side by side, a line for each language."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, INK, MUTED, Figure, bare, canvas, finish
from adapterstilts.report.results import Target
from adapterstilts.report.theme import PLACEHOLDER, SERIES
from adapterstilts.report.words import metric_name
from adapterstilts.study.measures import mean
from adapterstilts.study.scores import Scores

APART = 0.045  # of the height: labels nearer than this are moved apart


def slopes(scores: Scores, arms: Sequence[str], target: Target, facts: Facts) -> Figure | None:
    """How every language moves from one arm to the next, in the order given."""
    found = {
        language: [m.mean if (m := mean(scores, arm, (language,))) else None for arm in arms]
        for language in target.languages
    }
    whole = {language: [v for v in values if v is not None] for language, values in found.items()}
    whole = {language: values for language, values in whole.items() if len(values) == len(arms)}
    if len(arms) < 2 or not whole:
        return None
    figure, axes = canvas(300, left=0.09, right=0.8, top=10, bottom=34)
    for index, values in enumerate(whole.values()):
        colour = PLACEHOLDER[f"series-{index % SERIES}"]
        axes.plot(range(len(arms)), values, "-o", lw=2, ms=6, color=colour)
    low, high = axes.get_ylim()
    order = sorted(whole, key=lambda language: whole[language][-1])
    places = np.array([whole[language][-1] for language in order])
    for k in range(1, len(places)):
        places[k] = max(places[k], places[k - 1] + APART * (high - low))
    for place, language in zip(places, order, strict=True):
        axes.text(len(arms) - 0.94, place, facts.name(language), va="center", fontsize=11, color=INK)
    axes.set_xticks(range(len(arms)), [facts.name(arm) for arm in arms])
    axes.set_xlim(-0.25, len(arms) - 0.95)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    bare(axes)
    caption = f"Every language, {metric_name(target.metric)} in percent, mean over runs."
    rows = [
        (language, arm, value) for language, values in whole.items() for arm, value in zip(arms, values, strict=True)
    ]
    return finish(
        figure, f"order-{target.task}", f"Order: {facts.name(target.task)}", caption, ("language", "arm", "score"), rows
    )
