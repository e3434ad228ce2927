"""The six shapes of a task. A format is a file here and a name in ``NAMES``; it is imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from adapterstilts.tasks.formats.base import Format

NAMES = ("classification", "multiple_choice", "tagging", "span", "masked_lm", "bitext")


def get_format(name: str) -> Format:
    """The format of a name."""
    if name not in NAMES:
        raise ValueError(f"no format {name!r}; there are {', '.join(NAMES)}")
    return cast("Format", import_module(f"{__name__}.{name}").FORMAT)
