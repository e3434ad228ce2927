"""How much of each module a fusion used: layers by modules, one panel a language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, INK, MUTED, WIDTH, Figure, bare, canvas, finish
from adapterstilts.report.theme import PLACEHOLDER, step

PANELS = 5  # languages in one figure; the data below it hold all
APART = 0.6  # between two panels, in cells

Row = Mapping[str, Any]


def fused(facts: Facts, task: str) -> list[tuple[str, list[Row]]]:
    """(arm, its usage rows on a task), once for each fusion of the arm's tree."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in facts.usage:
        if row["task"] == task:
            found.setdefault((str(row["arm"]), *row["parts"]), []).append(row)
    return [(key[0], rows) for key, rows in found.items()]


def usage(rows: Sequence[Row], arm: str, task: str, facts: Facts) -> Figure:
    """Mean weight of each module by layer, in percent; blue above the even share, orange below it."""
    parts = [str(part) for part in rows[0]["parts"]]
    spoken = list(facts.ordered(dict.fromkeys(str(row["language"]) for row in rows)))
    languages, depths = spoken[:PANELS], sorted({int(row["layer"]) for row in rows})
    shares: dict[tuple[str, int], list[list[float]]] = {}
    for row in rows:
        shares.setdefault((str(row["language"]), int(row["layer"])), []).append(list(row["share"]))
    lefts = [panel * (len(parts) + APART) for panel in range(len(languages))]
    columns = len(languages) * (len(parts) + APART)
    tail = max(6.0, 4.8 * len(parts[-1]) - 12)  # the last name leans out of its column
    width = max(WIDTH, 60 + 38 * columns + tail)
    head = 30 + 4.4 * max(map(len, parts))
    height, right = head + 21 * (len(depths) + 1), (width - tail) / width
    figure, axes = canvas(height, left=46 / width, right=right, top=head, bottom=4, width=width)
    for left, language in zip(lefts, languages, strict=True):
        for row_number, depth in enumerate(depths):
            found = shares.get((language, depth), [])
            for column, values in enumerate(zip(*found, strict=True)):
                _cell(axes, left + column, row_number, sum(values) / len(values), 1 / len(parts))
        middle = left + (len(parts) - 1) / 2
        axes.text(middle, -1, facts.name(language), ha="center", va="center", fontsize=11, color=MUTED)
    axes.set_xlim(-0.6, columns - 0.9)
    axes.set_ylim(len(depths) - 0.4, -1.5)
    ticks = [left + column for left in lefts for column in range(len(parts))]
    names = [facts.name(part) for part in parts] * len(languages)
    axes.set_xticks(ticks, names, rotation=38, ha="left", rotation_mode="anchor", fontsize=10)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(depths)), [str(depth) for depth in depths], fontsize=10, color=MUTED)
    axes.set_ylabel("layer", color=MUTED, fontsize=11)
    bare(axes)
    more = len(spoken) - len(languages)
    caption = (
        f"{facts.name(arm)}: mean weight of each module in percent, over all tokens, places of a layer and seeds."
        f" Blue: above the even share of {100 / len(parts):.0f}; orange: below."
        + (f" {more} more languages are in the data." if more else "")
    )
    data = [(arm, row["language"], row["layer"], *row["share"]) for row in rows]
    key = f"usage-{task}-{arm}-{'-'.join(parts)}"
    return finish(figure, key, "Which module was used where", caption, ("arm", "language", "layer", *parts), data)


def _cell(axes: Any, column: float, row: int, value: float, even: float) -> None:
    from matplotlib.patches import Rectangle

    colour = PLACEHOLDER[step(value - even, max(even, 1 - even))]
    axes.add_patch(Rectangle((column - 0.48, row - 0.47), 0.96, 0.94, fc=colour, ec=GRID, lw=0.6))
    axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=9, color=INK)
