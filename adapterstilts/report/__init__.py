"""Reports from score rows: terminal tables, one-file HTML, Markdown, CSV, JSON.

``build(rows, facts, out)`` writes files, ``terminal(rows, facts, console)`` prints. They see score rows and facts
only, never a model; matplotlib and jinja2 are imported when a page is made.
"""

from adapterstilts.report.entry import build, terminal

__all__ = ["build", "terminal"]
