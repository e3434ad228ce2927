"""SHA-256 of files, remembered by path, size and time of change."""

from __future__ import annotations

import json
from pathlib import Path

from adapterstilts.store.files import sha256, write_text


class FileHashes:
    """``hashes(path)`` is the file's SHA-256; results are kept in a small JSON file, so planning reads data once."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache
        self._known: dict[str, list[object]] = {}
        self._changed = False
        if cache is not None and cache.is_file():
            try:
                self._known = json.loads(cache.read_text(encoding="utf-8"))
            except ValueError:
                self._known = {}  # a cache is rebuilt, never an error

    def __call__(self, path: Path) -> str:
        state = path.stat()
        key = str(path.resolve())
        known = self._known.get(key)
        if known is not None and known[:2] == [state.st_size, state.st_mtime_ns]:
            return str(known[2])
        digest = sha256(path)
        self._known[key] = [state.st_size, state.st_mtime_ns, digest]
        self._changed = True
        return digest

    def save(self) -> None:
        """Write the cache, atomically; nothing happens when nothing is new."""
        if self.cache is None or not self._changed:
            return
        write_text(self.cache, json.dumps(self._known))
        self._changed = False
