"""Figures as SVG text, PNG and data; matplotlib is imported when one is drawn."""

from adapterstilts.report.figures.canvas import Figure
from adapterstilts.report.figures.gains import forest
from adapterstilts.report.figures.heat import heat
from adapterstilts.report.figures.layers import layers
from adapterstilts.report.figures.scatter import scatter

__all__ = ["Figure", "forest", "heat", "layers", "scatter"]
