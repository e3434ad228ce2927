"""Module names: what a user calls an artifact."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from adapterstilts.errors import StoreError
from adapterstilts.store.files import to_json, write_text


class Names(Mapping[str, str]):
    """Module name -> hash, one small file a name, each written atomically."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _file(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='+')}.json"

    def __getitem__(self, name: str) -> str:
        try:
            return str(json.loads(self._file(name).read_text())["hash"])
        except FileNotFoundError:
            raise KeyError(name) from None
        except (ValueError, KeyError) as error:
            raise StoreError(f"the name `{name}` is unreadable", where=str(self._file(name)), why=str(error)) from None

    def __iter__(self) -> Iterator[str]:
        files = sorted(self.folder.glob("*.json")) if self.folder.is_dir() else []
        return (unquote(path.name.removesuffix(".json")) for path in files)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def set(self, name: str, hash: str) -> None:
        """Let ``name`` stand for ``hash`` from now on."""
        if self.get(name) != hash:
            write_text(self._file(name), to_json({"name": name, "hash": hash, "made": round(time.time(), 3)}))

    def drop(self, name: str) -> None:
        """Forget a name; the artifact stays until ``gc``."""
        self._file(name).unlink(missing_ok=True)
