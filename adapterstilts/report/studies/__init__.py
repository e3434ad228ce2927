"""The studies: a file each, which makes contrasts, tables and figures of a run; one page for all of them."""

from adapterstilts.report.studies.entry import FORMATS, NAMES, build, study

__all__ = ["FORMATS", "NAMES", "build", "study"]
