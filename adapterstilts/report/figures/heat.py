"""Languages by arms, coloured by gain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, INK, WIDTH, Figure, bare, canvas, finish, nice
from adapterstilts.report.results import ArmResult, Target
from adapterstilts.report.theme import PLACEHOLDER, STEPS, step
from adapterstilts.report.words import number, signed
from adapterstilts.study.gains import verdict


def heat(target: Target, facts: Facts) -> Figure | None:
    """Languages by arms: baselines as scores, the others as gain over theirs, coloured by size, bold where claimed."""
    base = [r for r in target.baselines if not r.gain and not r.english_gain]
    arms = base + [r for r in target.arms if r not in base]
    languages = [name for name in target.languages if any(name in r.cells for r in arms)]
    gains = [c.gain.mean for r in arms for c in r.cells.values() if c.gain]
    if not arms or not languages:
        return None
    bound = nice(max((abs(v) for v in gains), default=1.0))
    # Column names lean to the right by 38 degrees, about 6 units a letter.
    head = 14 + 4.2 * max(len(facts.name(r.arm.name)) for r in arms)
    side = 14 + 6.6 * max(len(facts.name(name)) for name in languages)
    tail = max(4.0, 5.2 * len(facts.name(arms[-1].arm.name)) - 16)
    width = max(WIDTH, side + tail + 38 * len(arms))
    height = head + 30 * len(languages) + 6
    right = min(width - tail, side + 64 * len(arms)) / width
    figure, axes = canvas(height, left=side / width, right=right, top=head, bottom=4, width=width)
    for column, result in enumerate(arms):
        for row, language in enumerate(languages):
            if language in result.cells:
                _heat_cell(axes, column, row, result, language, bound)
    axes.set_xlim(-0.5, len(arms) - 0.5)
    axes.set_ylim(len(languages) - 0.5, -0.5)
    names = [facts.name(r.arm.name) for r in arms]
    axes.set_xticks(range(len(arms)), names, rotation=38, ha="left", rotation_mode="anchor", fontsize=11, color=INK)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(languages)), [facts.name(name) for name in languages], fontsize=12, color=INK)
    bare(axes)
    axes.tick_params(axis="x", labelcolor=INK)
    columns = ("arm", "language", "score", "gain", "verdict")
    rows = [
        (r.arm.name, x, c.score.mean, c.gain.mean if c.gain else None, verdict(c.gain) if c.gain else None)
        for r in arms
        for x, c in r.cells.items()
    ]
    if not gains:
        caption = "Score in percent; by distance from English."
        return finish(
            figure, f"heat-{target.task}", f"Every language: {facts.name(target.task)}", caption, columns, rows
        )
    of = f"{listed_names(base, facts)}: score in percent. Other columns" if base else "Columns"
    caption = (
        f"{of}: gain over the baseline in points, blue up and orange down, in steps of {number(bound / STEPS)}."
        " Bold: an effect in that language after correction. Languages by distance from English."
    )
    return finish(figure, f"heat-{target.task}", f"Every language: {facts.name(target.task)}", caption, columns, rows)


def listed_names(results: Sequence[ArmResult], facts: Facts) -> str:
    return " and ".join(facts.name(r.arm.name) for r in results)


def _heat_cell(axes: Any, column: int, row: int, result: ArmResult, language: str, bound: float) -> None:
    from matplotlib.patches import Rectangle

    cell = result.cells[language]
    item = cell.gain
    colour = step(item.mean, bound) if item else "raised"
    box = Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fc=PLACEHOLDER[colour], ec=GRID, lw=0.6)
    axes.add_patch(box)
    claimed = item is not None and verdict(item) != "no gain found"
    text = signed(item.mean) if item else number(cell.score.mean)
    style = {"fontweight": "bold"} if claimed else {}
    axes.text(column, row, text, ha="center", va="center", fontsize=10.5, color=INK, **style)
