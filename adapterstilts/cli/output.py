"""The one way to stdout: people get tables, programs JSON, scripts bare names. Hints and warnings go to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from adapterstilts.cli.group import Session

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 120  # columns where nobody looks at a terminal
STYLES = {"hit": "green", "done": "green", "stale": "yellow", "running": "cyan", "started": "cyan", "failed": "red"}


class Output:
    """Writes one result in the format of the session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    @property
    def human(self) -> bool:
        return self.session.format == "human"

    def emit(
        self, plain: Any, show: Callable[[Console], None] | None = None, quiet: Iterable[str] | None = None
    ) -> None:
        """The result: ``plain`` for programs, ``show`` for people, ``quiet`` as bare lines (default: the names)."""
        form = self.session.format
        if form == "human" and show is not None:
            show(self.console())
        elif form == "quiet":
            for line in _names(plain) if quiet is None else quiet:
                click.echo(line)
        elif form == "jsonl":
            for item in plain if isinstance(plain, list) else [plain]:
                click.echo(_json(item))
        else:
            click.echo(_json(plain, indent=1))

    def console(self) -> Console:
        """A console on stdout."""
        return self._console(sys.stdout)

    def errors(self) -> Console:
        """A console on stderr."""
        return self._console(sys.stderr)

    def _console(self, stream: Any) -> Console:
        from rich.console import Console

        narrow = stream.isatty() or "COLUMNS" in os.environ
        return Console(
            file=stream,
            width=None if narrow else WIDE,
            no_color=True if self.session.no_color else None,
            highlight=False,
            markup=False,
        )

    def say(self, text: str) -> None:
        """A hint on stderr, for people only."""
        if self.session.format != "quiet":
            click.echo(text, err=True)

    def warn(self, warnings: Iterable[str]) -> None:
        """Warnings on stderr; more than a few only with -v."""
        found = list(warnings)
        most = len(found) if self.session.verbose else 5
        for text in found[:most]:
            self.say(f"warning: {text}")
        if len(found) > most:
            self.say(f"warning: and {len(found) - most} more (-v shows them)")


def table(
    console: Console,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    right: str = "",
) -> None:
    """Print a table; ``right`` names the columns of numbers, separated by spaces."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if title:
        console.print(title, style="bold", soft_wrap=True)
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in right.split() else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(words(cell)) for cell in row))
    console.print(made)


def words(value: Any) -> str:
    """A value as a person writes it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(words, value))
    return str(value)


def size(number: float | None) -> str:
    """Bytes for people."""
    if number is None:
        return "–"
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def duration(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _names(plain: Any) -> Iterable[str]:
    if isinstance(plain, list):
        return [str(item["name"]) if "name" in item else _json(item) for item in plain]
    return [str(plain["name"])] if isinstance(plain, Mapping) and "name" in plain else []


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, default=str)
