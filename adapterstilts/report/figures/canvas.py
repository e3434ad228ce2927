"""What every figure is drawn on: one canvas, one look, and the drawing as SVG, PNG and data.

Each figure is 460 units wide, so that it is readable on a phone and two stand side by side on a desk.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterstilts.report.theme import DARK, LIGHT, PLACEHOLDER, Mode, themed

WIDTH = 460
INK, MUTED, GRID, SURFACE = (PLACEHOLDER[name] for name in ("ink", "muted", "grid", "surface"))
MARKERS = "os^DvPX*"
Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Figure:
    """A drawing with placeholder colours; ``inline`` for a page, ``alone`` and ``png`` for files, ``csv`` its data."""

    key: str
    title: str
    caption: str
    svg: str
    head: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    drawing: Any = field(default=None, compare=False, repr=False)

    @property
    def inline(self) -> str:
        """SVG for inside a page: colours are CSS variables, ids are the figure's own."""
        return themed(self.svg)

    def alone(self, mode: Mode = "light") -> str:
        """A complete SVG file with fixed colours on the mode's ground."""
        head = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        ground = f'<rect width="100%" height="100%" fill="{PLACEHOLDER["surface"]}"/>'
        return themed(self.svg.replace("<svg ", f"<svg {head} ", 1).replace(">", ">" + ground, 1), mode)

    def png(self, mode: Mode = "light") -> bytes:
        """The same drawing as pixels, twice its size in units, with fixed colours on the mode's ground."""
        import pickle

        from matplotlib.backends.backend_agg import FigureCanvasAgg

        copy = pickle.loads(pickle.dumps(self.drawing))  # the drawing itself keeps its placeholders
        _paint(copy, LIGHT if mode == "light" else DARK)
        out = io.BytesIO()
        FigureCanvasAgg(copy).print_png(out, metadata={"Software": None})
        return out.getvalue()

    @property
    def csv(self) -> str:
        """The numbers that are drawn, with a header."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows(self.rows)
        return out.getvalue()


def _paint(drawing: Any, colours: dict[str, str]) -> None:
    """Every placeholder colour of a drawing becomes the real one."""
    from matplotlib.colors import to_hex, to_rgba

    real = {placeholder: colours[name] for name, placeholder in PLACEHOLDER.items()}

    def painted(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value in ("none", "auto")):
            return value
        if isinstance(value, np.ndarray) and value.ndim == 2:
            return [painted(row) for row in value]
        found = real.get(to_hex(value))
        return value if found is None else to_rgba(found, to_rgba(value)[3])

    for artist in drawing.findobj():
        for part in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            read, write = getattr(artist, f"get_{part}", None), getattr(artist, f"set_{part}", None)
            if read is not None and write is not None:
                write(painted(read()))
    drawing.set_facecolor(colours["surface"])
    drawing.set_dpi(144)


def canvas(height: float, *, left: float, right: float, top: float, bottom: float, width: float = WIDTH) -> Any:
    """A figure of width x height units with one axes; top and bottom margins in units, left and right as shares."""
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(width / 72, height / 72), dpi=72)
    figure.patch.set_alpha(0)
    axes = figure.add_axes((left, bottom / height, right - left, (height - top - bottom) / height))
    axes.patch.set_alpha(0)
    return figure, axes


def bare(axes: Any) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.tick_params(axis="x", labelsize=11, labelcolor=MUTED)
    axes.set_axisbelow(True)


def finish(figure: Any, key: str, title: str, caption: str, head: Sequence[str], rows: Rows) -> Figure:
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
    svg = svg.replace("<svg ", f"<svg {label} ", 1)
    return Figure(key, title, caption, svg, tuple(head), tuple(map(tuple, rows)), figure)


def labels(axes: Any, names: Sequence[str], x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
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


def nice(value: float) -> float:
    """The next round bound: 1, 2, 4, 6, 8, 10, 20, 40, ..."""
    for bound in (1, 2, 4, 6, 8, 10, 20, 40, 60, 80):
        if value <= bound:
            return float(bound)
    return 100.0


def few(values: Sequence[int], most: int = 13) -> list[int]:
    return list(values[:: -(-len(values) // most)])
