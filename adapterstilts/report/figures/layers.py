"""Retrieval by layer."""

from __future__ import annotations

from adapterstilts.report.facts import Facts
from adapterstilts.report.figures.canvas import GRID, INK, MARKERS, MUTED, Figure, bare, canvas, few, finish
from adapterstilts.report.results import Retrieval
from adapterstilts.report.theme import PLACEHOLDER, SERIES
from adapterstilts.report.words import metric_name

DEPTH, PUBLISHED = 24, (10, 14, 20)  # layers behind published figures: report of XTREME's, jiant, XTREME's BUCC


def layers(item: Retrieval, variant: str, facts: Facts) -> Figure | None:
    """Retrieval by layer, one line for each module; both variants share the scale."""
    shown = [m for m in item.modules if any((m, variant, k) in item.points for k in item.layers)][:SERIES]
    if not shown or len(item.layers) < 2:
        return None
    foot = 20 * ((len(shown) + 1) // 2)  # the legend, two names a line
    plot = 210
    figure, axes = canvas(plot + 62 + foot, left=0.11, right=0.98, top=10, bottom=52 + foot)
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
    depth = item.layers[-1]
    marked = {round(k * depth / DEPTH): k for k in PUBLISHED} if item.layers == tuple(range(depth + 1)) else {}
    for at_layer, k in marked.items():
        above = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "top"}
        axes.annotate(str(k), (at_layer, 1), fontsize=10, color=MUTED, **above)
        axes.axvline(at_layer, ymax=0.93, color=GRID, lw=2.5, zorder=0)
    axes.set_ylim(0, min(100, 1.08 * top) or 1)
    axes.set_xticks(few(item.layers))
    axes.set_xlabel("layer (0: embeddings)", color=MUTED, fontsize=11)
    axes.grid(axis="y", color=GRID, lw=0.8)
    axes.tick_params(labelcolor=MUTED, labelsize=11)
    bare(axes)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -46 / plot)}
    axes.legend(ncols=2, frameon=False, labelcolor=INK, fontsize=11, borderpad=0, **place)
    how = "as they are" if variant == "raw" else "with each language's mean vector subtracted"
    what = f"{metric_name(item.metric, True)} in percent, mean over {len(item.languages)} languages"
    caption = f"{what}, sentence vectors {how}. Shade: lowest to highest run." + (
        f" Dotted: layer {item.layer}, the one of the tables." if item.layer is not None else " Development data."
    )
    caption += " Above: the layers of 24 behind published figures, scaled to this depth." if marked else ""
    title = "Raw" if variant == "raw" else "Means subtracted"
    rows = [
        (m, variant, k, s.mean, min(s.values), max(s.values)) for (m, v, k), s in item.points.items() if v == variant
    ]
    head = ("module", "variant", "layer", "score", "lowest", "highest")
    return finish(figure, f"layers-{item.task}-{variant}", title, caption, head, rows)
