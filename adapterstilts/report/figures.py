"""Figures as SVG text: gains with intervals, arm by language, retrieval by layer, score against distance.

Each figure is 460 units wide, so that it is readable on a phone and two stand side by side on a desk.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterstilts.report.facts import Facts
from adapterstilts.report.results import ArmResult, Retrieval, Target
from adapterstilts.report.theme import PLACEHOLDER, SERIES, STEPS, Mode, step, themed
from adapterstilts.report.words import NONE, metric_name, number, signed
from adapterstilts.study.distance import band, known
from adapterstilts.study.gains import Gain, verdict

WIDTH = 460
INK, MUTED, GRID, SURFACE = (PLACEHOLDER[name] for name in ("ink", "muted", "grid", "surface"))
VERDICT_COLOUR = {"gain": "gain", "loss": "loss", "no gain found": "neutral"}
MARKERS = "os^DvPX*"


@dataclass(frozen=True)
class Figure:
    """A drawing with placeholder colours; ``inline`` for a page, ``alone`` for a file."""

    key: str
    title: str
    caption: str
    svg: str

    @property
    def inline(self) -> str:
        """SVG for inside a page: colours are CSS variables, ids are the figure's own."""
        return themed(self.svg)

    def alone(self, mode: Mode = "light") -> str:
        """A complete SVG file with fixed colours on the mode's ground."""
        head = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        ground = f'<rect width="100%" height="100%" fill="{PLACEHOLDER["surface"]}"/>'
        return themed(self.svg.replace("<svg ", f"<svg {head} ", 1).replace(">", ">" + ground, 1), mode)


def forest(target: Target, facts: Facts) -> Figure | None:
    """Zero-shot gain of every arm with its interval; each run is a small dot, a filled marker is a claimed effect."""
    gains = [r.gain for r in target.arms if r.gain]
    if not gains:
        return None
    side = min(200.0, max(100.0, 16 + 6.6 * max(len(facts.name(g.arm)) for g in gains)))
    figure, axes = _canvas(58 + 34 * len(gains), left=side / WIDTH, right=0.67, top=8, bottom=42)
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
    _bare(axes)
    caption = (
        "Mean gain in the zero-shot languages with its 95 % interval; small dots are single runs (base and seed)."
        " Filled: an effect after correction; hollow: no gain found."
    )
    return _finish(figure, f"gains-{target.task}", "Gain over the baseline", caption)


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


def heat(target: Target, facts: Facts) -> Figure | None:
    """Languages by arms: baselines as scores, the others as gain over theirs, coloured by size, bold where claimed."""
    base = [r for r in target.baselines if not r.gain and not r.english_gain]
    arms = base + [r for r in target.arms if r not in base]
    languages = [name for name in target.languages if any(name in r.cells for r in arms)]
    gains = [c.gain.mean for r in arms for c in r.cells.values() if c.gain]
    if not arms or not languages:
        return None
    bound = _nice(max((abs(v) for v in gains), default=1.0))
    # Column names lean to the right by 38 degrees, about 6 units a letter.
    head = 14 + 4.2 * max(len(facts.name(r.arm.name)) for r in arms)
    side = 14 + 6.6 * max(len(facts.name(name)) for name in languages)
    tail = max(4.0, 5.2 * len(facts.name(arms[-1].arm.name)) - 16)
    width = max(WIDTH, side + tail + 38 * len(arms))
    height = head + 30 * len(languages) + 6
    right = min(width - tail, side + 64 * len(arms)) / width
    figure, axes = _canvas(height, left=side / width, right=right, top=head, bottom=4, width=width)
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
    _bare(axes)
    axes.tick_params(axis="x", labelcolor=INK)
    if not gains:
        return _finish(figure, f"heat-{target.task}", "Every language", "Score in percent; by distance from English.")
    of = f"{listed_names(base, facts)}: score in percent. Other columns" if base else "Columns"
    caption = (
        f"{of}: gain over the baseline in points, blue up and orange down, in steps of {number(bound / STEPS)}."
        " Bold: an effect in that language after correction. Languages by distance from English."
    )
    return _finish(figure, f"heat-{target.task}", "Every language", caption)


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


def layers(item: Retrieval, variant: str, facts: Facts) -> Figure | None:
    """Retrieval by layer, one line for each module; both variants share the scale."""
    shown = [m for m in item.modules if any((m, variant, k) in item.points for k in item.layers)][:SERIES]
    if not shown or len(item.layers) < 2:
        return None
    foot = 20 * ((len(shown) + 1) // 2)  # the legend, two names a line
    plot = 210
    figure, axes = _canvas(plot + 62 + foot, left=0.11, right=0.98, top=10, bottom=52 + foot)
    for index, module in enumerate(shown):
        at = [k for k in item.layers if (module, variant, k) in item.points]
        found = [item.points[module, variant, k] for k in at]
        colour = PLACEHOLDER[f"series-{index}"]
        line = "--" if index == 0 else "-"
        values = [s.mean for s in found]
        axes.plot(at, values, line, marker=MARKERS[index], ms=5.5, lw=2, color=colour, label=facts.name(module))
        spread = [(min(s.values), max(s.values)) for s in found]
        axes.fill_between(at, [a for a, _ in spread], [b for _, b in spread], color=colour, alpha=0.13, lw=0)
    top = max(max(s.values) for s in item.points.values())
    if item.layer is not None:
        axes.axvline(item.layer, color=MUTED, lw=1, ls=":")
    axes.set_ylim(0, min(100, 1.08 * top) or 1)
    axes.set_xticks(_few(item.layers))
    axes.set_xlabel("layer (0: embeddings)", color=MUTED, fontsize=11)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    _bare(axes)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -46 / plot)}
    axes.legend(ncols=2, frameon=False, labelcolor=INK, fontsize=11, borderpad=0, **place)
    how = "as they are" if variant == "raw" else "with each language's mean vector subtracted"
    what = f"{metric_name(item.metric, True)} in percent, mean over {len(item.languages)} languages"
    caption = (
        f"{what}, sentence vectors {how}."
        " Shade: lowest to highest run."
        + (f" Dotted: layer {item.layer}, the one of the tables." if item.layer is not None else " Development data.")
    )
    return _finish(figure, f"layers-{item.task}-{variant}", "Raw" if variant == "raw" else "Means subtracted", caption)


def scatter(target: Target, result: ArmResult, facts: Facts) -> Figure | None:
    """Score of one arm against distance from English, with the least-squares line and its 95 % band."""
    found = result.correlation
    if found is None:
        return None
    languages = known([name for name in target.zero_shot if name in result.cells], facts.distances)
    x = np.array([facts.distances[name] for name in languages], dtype=float)
    y = np.array([result.cells[name].score.mean for name in languages])
    figure, axes = _canvas(290, left=0.11, right=0.97, top=12, bottom=46)
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
    _labels(axes, [facts.name(name) for name in languages], x, y)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    _bare(axes)
    ends = found.interval
    caption = (
        f"{facts.name(result.arm.name)}, {metric_name(target.metric)} in percent: r = {number(found.pearson, 2)}"
        f" (95 % {number(ends.low, 2) if ends.low is not None else NONE} to"
        f" {number(ends.high, 2) if ends.high is not None else NONE}, bootstrap over languages),"
        f" Spearman {number(found.spearman, 2)}, n = {found.n} languages. Band: 95 % of the line"
        f"{', which leaves English (hollow) out' if facts.english in result.cells else ''}."
        f" With {found.n} languages |r| below {number(found.critical, 2)} cannot be told from zero."
    )
    return _finish(figure, f"distance-{target.task}", "Score against distance", caption)


def _labels(axes: Any, names: Sequence[str], x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
    """Write the name beside each point, on the side where it covers the fewest points and other names."""
    axes.autoscale_view()
    points = axes.transData.transform(np.stack([x, y], axis=1))
    taken = [(a - 4, b - 4, a + 4, b + 4) for a, b in points]
    for name, (a, b) in zip(names, points, strict=True):
        wide = 6.6 * len(name)
        sides = [(6, 4, "left"), (-6, 4, "right"), (6, -13, "left"), (-6, -13, "right"), (0, 10, "center")]
        sides += [(0, -19, "center"), (0, 20, "center"), (0, -29, "center")]
        boxes = []
        for dx, dy, align in sides:
            left = a + dx - {"left": 0.0, "right": wide, "center": wide / 2}[align]
            boxes.append((left, b + dy, left + wide, b + dy + 10))
        hits = [sum(_overlap(box, other) for other in taken) for box in boxes]
        best = hits.index(min(hits))
        dx, dy, align = sides[best]
        taken.append(boxes[best])
        place = {"xytext": (dx, dy), "textcoords": "offset points", "ha": align}
        axes.annotate(name, axes.transData.inverted().transform((a, b)), fontsize=11, color=INK, **place)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Common area of two boxes (left, bottom, right, top)."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _canvas(height: float, *, left: float, right: float, top: float, bottom: float, width: float = WIDTH) -> Any:
    """A figure of width x height units with one axes; top and bottom margins in units, left and right as shares."""
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((left, bottom / height, right - left, (height - top - bottom) / height))
    axes.patch.set_alpha(0)
    return figure, axes


def _bare(axes: Any) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelsize=11, labelcolor=MUTED)
    axes.set_axisbelow(True)


def _finish(figure: Any, key: str, title: str, caption: str) -> Figure:
    """The drawing as a bare <svg>: text stays text, no metadata, ids prefixed so that many fit on one page."""
    import matplotlib

    key = re.sub(r"[^A-Za-z0-9]+", "-", key).strip("-")
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "adapterstilts", "font.size": 11}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"| version="1.1"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", svg, count=1)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{key}-", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", svg)
    label = f'role="img" aria-label="{title}. {caption}"'.replace("&", "&amp;").replace("<", "&lt;")
    return Figure(key, title, caption, svg.replace("<svg ", f"<svg {label} ", 1))


def _nice(value: float) -> float:
    """The next round bound: 1, 2, 4, 6, 8, 10, 20, 40, ..."""
    for bound in (1, 2, 4, 6, 8, 10, 20, 40, 60, 80):
        if value <= bound:
            return float(bound)
    return 100.0


def _few(values: Sequence[int], most: int = 13) -> list[int]:
    return list(values[:: -(-len(values) // most)])
