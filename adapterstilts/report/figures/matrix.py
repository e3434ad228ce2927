"""A matrix of gains as a heat map."""

from __future__ import annotations

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, INK, WIDTH, Figure, bare, canvas, finish, nice
from adapterstilts.report.theme import PLACEHOLDER, step
from adapterstilts.report.words import signed
from adapterstilts.study.transfer import Matrix


def matrix(
    found: Matrix, facts: Facts, key: str = "matrix", title: str = "Gain by intermediate and target"
) -> Figure | None:
    """Intermediate tasks by targets; bold where an effect is claimed."""
    from matplotlib.patches import Rectangle

    if not found.cells:
        return None
    bound = nice(max(abs(cell.mean) for cell in found.cells.values()))
    head = 14 + 4.2 * max(len(facts.name(name)) for name in found.targets)
    side = 14 + 6.6 * max(len(facts.name(name)) for name in found.sources)
    width = max(WIDTH, side + 90 + 44 * len(found.targets))
    height = head + 32 * len(found.sources) + 6
    right = min(width - 80, side + 84 * len(found.targets)) / width
    figure, axes = canvas(height, left=side / width, right=right, top=head, bottom=4, width=width)
    rows = []
    for (source, target), cell in found.cells.items():
        row, column = found.sources.index(source), found.targets.index(target)
        colour = PLACEHOLDER[step(cell.mean, bound)]
        axes.add_patch(Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, fc=colour, ec=GRID, lw=0.6))
        style = {"fontweight": "bold"} if cell.found != "no difference found" else {}
        axes.text(column, row, signed(cell.mean), ha="center", va="center", fontsize=10.5, color=INK, **style)
        rows.append((source, target, cell.mean, cell.interval.low, cell.interval.high, cell.adjusted, cell.found))
    axes.set_xlim(-0.5, len(found.targets) - 0.5)
    axes.set_ylim(len(found.sources) - 0.5, -0.5)
    names = [facts.name(name) for name in found.targets]
    axes.set_xticks(range(len(names)), names, rotation=38, ha="left", rotation_mode="anchor", fontsize=11, color=INK)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(found.sources)), [facts.name(name) for name in found.sources], fontsize=12, color=INK)
    bare(axes)
    axes.tick_params(axis="x", labelcolor=INK)
    caption = (
        "Gain over no intermediate task in points, zero-shot; rows: intermediate. Bold: an effect after correction."
    )
    columns = ("intermediate", "target", "gain", "low", "high", "p_holm", "said")
    return finish(figure, key, title, caption, columns, rows)
