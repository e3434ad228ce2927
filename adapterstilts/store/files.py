"""Files that are written whole or not at all, hashed, and measured."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapterstilts.errors import StoreError

ABANDONED = 86400.0  # seconds after which what another machine left is taken for dead
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_text(path: Path, text: str) -> None:
    """Write a small file so that readers see the old or the new text, never a part."""
    with full_disk(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = beside(path)
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """A new name beside ``path``. Machines that share a file system, and containers above all, have the same pids."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}")


def sha256(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def full_disk(place: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # Libraries wrap the OSError: safetensors gives its own error with the text, torch a chained one.
        if not _is_full(error):
            raise
        fix = "adapterstilts store gc, then run again"
        raise StoreError("the disk is full", where=str(place), why="nothing was written", fix=fix) from error


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def seal(path: Path) -> dict[str, Any]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def files_in(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def difference(path: Path, recorded: Mapping[str, Any]) -> str | None:
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size != recorded["bytes"]:
        return f"{size} bytes instead of {recorded['bytes']}"
    return None if sha256(path) == recorded["sha256"] else "altered: same size, other sha256"


def size_of(path: Path) -> int:
    return sum(p.stat().st_size for p in files_in(path)) if path.is_dir() else path.stat().st_size


def temporary_name(hash: str) -> str:
    """Of a directory that becomes an artifact: it says whose it is, as `owner_lives` asks."""
    return f".tmp-{hash[:16]}-{os.getpid()}-{uuid.uuid4().hex[:8]}-{socket.gethostname()}"


def owner_lives(leftover: Path) -> bool:
    """Whether the process that fills a temporary directory may still run; another machine's is given a day."""
    if not leftover.name.startswith(".tmp-"):
        return False
    try:
        pid, _, host = leftover.name.split("-", 4)[2:]
        if host != socket.gethostname():
            return time.time() - leftover.stat().st_mtime < ABANDONED
        os.kill(int(pid), 0)
    except (ProcessLookupError, FileNotFoundError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent, sort_keys=True)
