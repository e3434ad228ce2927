"""A malformed input: what lies in the folder, what is typed, and what the one error must say."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = str | bytes | Mapping[str, Any]
Files = Mapping[str, Content]


@dataclass(frozen=True)
class Bad:
    """``arguments`` is the command line in the folder; ``told`` are parts of the error: its place, reason or fix.

    ``prepare`` changes the folder further (links, archives, damage); ``environment`` is laid over the test's own.
    """

    arguments: tuple[str, ...]
    code: int
    told: tuple[str, ...]
    files: Files = field(default_factory=dict)
    prepare: Callable[[Path], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Put the input into a folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Mapping):
                content = json.dumps(content)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        if self.prepare is not None:
            self.prepare(folder)
