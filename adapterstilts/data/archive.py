"""Many files in one tar with their checksums; unpacking believes nothing that the archive says."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from adapterstilts.errors import DataError
from adapterstilts.inside import why_outside
from adapterstilts.store.files import sha256 as file_sha256

MANIFEST = "manifest.json"  # the first member: {schema_version, files: {name: {sha256, bytes}}, ...}
SCHEMA = 1
LARGEST_MANIFEST = 64 * 2**20
BLOCK = 1 << 20
Content = Path | bytes
Files = dict[str, dict[str, Any]]


def pack(
    files: Mapping[str, Content], out: Path, about: Mapping[str, Any], sha256: Callable[[Path], str] = file_sha256
) -> Files:
    """Write ``files`` (name in the archive -> path or bytes) into one tar, atomically; equal files give equal bytes.

    Returns:
        name -> {sha256, bytes}, as the archive's manifest has it.

    Raises:
        DataError: a file that changed while it was packed.
    """
    listed: Files = {}
    for name, content in sorted(files.items()):
        if isinstance(content, bytes):
            listed[name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        else:
            listed[name] = {"sha256": sha256(content), "bytes": content.stat().st_size}
    manifest = json.dumps({"schema_version": SCHEMA, **about, "files": listed}, indent=1, ensure_ascii=False).encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    mode: Any = "w:gz" if out.suffix in (".gz", ".tgz") else "w"
    try:
        with tarfile.open(temporary, mode) as tar:
            _add(tar, MANIFEST, len(manifest), io.BytesIO(manifest))
            for name, content in sorted(files.items()):
                if isinstance(content, bytes):
                    _add(tar, name, len(content), io.BytesIO(content))
                    continue
                with content.open("rb") as file:
                    hashed = _Hashed(file)
                    _add(tar, name, listed[name]["bytes"], hashed)
                if hashed.digest.hexdigest() != listed[name]["sha256"]:
                    raise DataError("a file changed while it was packed", where=str(content), fix="pack again")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return listed


class _Hashed(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self.file.read(size)
        self.digest.update(block)
        return block


def _add(tar: tarfile.TarFile, name: str, size: int, file: Any) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    tar.addfile(member, file)


def unpack(archive: Path, out: Path) -> dict[str, Any]:
    """Write the files of an archive into a new folder, every one checked; a bad archive leaves nothing behind.

    Returns:
        The manifest.

    Raises:
        DataError: no such archive or not one of ours; absolute names, ``..``, links and devices; names that the
            manifest does not have, or has and the archive lacks; wrong checksums; ``out`` is not empty.
    """
    if not archive.is_file():
        raise DataError("no such archive", where=str(archive), fix="adapterstilts data pack RECIPE --out FILE")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("there is something already", where=str(out), fix="--out a new folder")
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with tarfile.open(archive, "r:*") as tar:
            manifest = _extracted(tar, temporary, str(archive))
    except (tarfile.TarError, EOFError, OSError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DataError("the archive cannot be read", where=str(archive), why=str(error)) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if out.exists():
        out.rmdir()
    temporary.replace(out)
    return manifest


def _extracted(tar: tarfile.TarFile, folder: Path, where: str) -> dict[str, Any]:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > LARGEST_MANIFEST:
        raise DataError("no archive of `data pack`", where=where, why=f"it does not begin with {MANIFEST}")
    try:
        manifest: dict[str, Any] = json.loads(_stream(tar, first).read())
        listed: Files = dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("the archive's manifest cannot be read", where=where, why=str(error)) from error
    if manifest.get("schema_version") != SCHEMA:
        why = f"its schema is {manifest.get('schema_version')}, known is {SCHEMA}"
        raise DataError("an archive of another version", where=where, why=why)
    folder.mkdir(parents=True)
    while (member := tar.next()) is not None:
        _refuse_unsafe(member, where)
        entry = listed.pop(member.name, None)
        if entry is None:
            why = "it is there twice, or the manifest does not have it"
            raise DataError(f"`{member.name}` does not belong here", where=where, why=why)
        _write(_stream(tar, member), folder / member.name, entry, f"{where}: {member.name}")
    if listed:
        raise DataError(f"{len(listed)} files are missing", where=where, why=f"first {next(iter(listed))}")
    return manifest


def _refuse_unsafe(member: tarfile.TarInfo, where: str) -> None:
    why = why_outside(member.name) if member.isreg() else "it is no plain file (a link or a device)"
    if why is None and str(PurePosixPath(member.name)) != member.name:
        why = "its name leaves the folder, or may"
    if why is not None:
        raise DataError(f"`{member.name}` is refused", where=where, why=why, fix="do not trust this archive")


def _stream(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None  # a regular file
    return file


def _write(source: IO[bytes], path: Path, entry: Mapping[str, Any], where: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        while block := source.read(BLOCK):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != entry.get("sha256"):
        raise DataError("the checksum is wrong", where=where, why="the archive is damaged or was altered")
