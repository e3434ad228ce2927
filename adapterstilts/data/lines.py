"""Lines of text files, and where in a file a piece of its text stands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapterstilts.errors import DataError

UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line number, text without its line end). Only \\n ends a line: texts hold U+2028 and U+0085.

    Raises:
        DataError: a line that is not UTF-8, with file:line.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                if raw.startswith(UTF16_MARKS):
                    raise DataError(
                        "the file is UTF-16", where=f"{path}:1", fix=f"iconv -f UTF-16 -t UTF-8 {path.name}"
                    )
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                raise DataError(
                    "not UTF-8",
                    where=f"{path}:{number}",
                    why=f"byte 0x{raw[error.start]:02x} at column {error.start + 1}; maybe the file mixes encodings",
                    fix=f"iconv -f LATIN1 -t UTF-8 {path.name}, or repair the line",
                ) from error


def json_of(text: str, path: Path, line: int = 1) -> Any:
    """What JSON text says that begins at a line of a file.

    Raises:
        DataError: it is no JSON, or holds what Python refuses: numbers of thousands of digits, lists in lists in lists.
    """
    what = "not readable as JSON"
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(what, where=f"{path}:{line + error.lineno - 1}", why=error.msg) from error
    except (ValueError, RecursionError) as error:
        raise DataError(what, where=f"{path}:{line}", why=str(error)) from error


class Lines:
    """The line of one piece of a text after another, in one pass."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.text = path, text
        self.place, self.line = 0, 1

    def find(self, pattern: re.Pattern[str], value: Any = None) -> str:
        """file:line of the next match; with a ``value``, of the next whose group is that value as JSON."""
        while found := pattern.search(self.text, self.place):
            self.skip(found.start())
            if value is None:
                break
            self.skip(found.end())
            if json.loads(found[1]) == value:
                break
        return f"{self.path}:{self.line}"

    def skip(self, end: int) -> None:
        """Go on at a place."""
        self.line += self.text.count("\n", self.place, end)
        self.place = end
