"""Figures as SVG text, PNG and data; matplotlib is imported when one is drawn."""

from adapterstilts.report.figures.canvas import Figure
from adapterstilts.report.figures.curves import curves
from adapterstilts.report.figures.gains import forest
from adapterstilts.report.figures.heat import heat
from adapterstilts.report.figures.layers import layers
from adapterstilts.report.figures.lines import lines
from adapterstilts.report.figures.matrix import matrix
from adapterstilts.report.figures.points import points
from adapterstilts.report.figures.scatter import scatter
from adapterstilts.report.figures.slopes import slopes
from adapterstilts.report.figures.thresholds import thresholds
from adapterstilts.report.figures.usage import fused, usage

__all__ = [
    "Figure",
    "curves",
    "forest",
    "fused",
    "heat",
    "layers",
    "lines",
    "matrix",
    "points",
    "scatter",
    "slopes",
    "thresholds",
    "usage",
]
