"""The seven shapes of a task. A format is a file here and a name in tasks/spec.py; it is imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from adapterstilts.tasks.spec import FORMATS

if TYPE_CHECKING:
    from adapterstilts.tasks.formats.base import Format


def get_format(name: str) -> Format:
    """The format of a name."""
    if name not in FORMATS:
        raise ValueError(f"no format {name!r}; there are {', '.join(FORMATS)}")
    return cast("Format", import_module(f"{__name__}.{name}").FORMAT)
