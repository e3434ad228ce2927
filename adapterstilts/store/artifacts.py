"""Artifacts: atomic, locked, verified, garbage-collected."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adapterstilts.errors import StoreError
from adapterstilts.store.files import (
    difference,
    files_in,
    full_disk,
    owner_lives,
    seal,
    size_of,
    sync_directory,
    temporary_name,
    to_json,
    write_synced,
)
from adapterstilts.store.names import Names

SCHEMA = 1
MANIFEST = "manifest.json"
SHARED = "shared"  # beside the checkpoints of stages: what stages of a run leave for each other
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Damage:
    """One file that is not what its manifest says."""

    hash: str
    kind: str
    file: str
    why: str


@dataclass(frozen=True)
class Removed:
    """What ``gc`` removed, or would remove."""

    artifacts: tuple[str, ...] = ()
    leftovers: int = 0
    bytes: int = 0


@dataclass
class Store:
    """Artifacts under one root. Safe for several processes on one file system."""

    root: Path
    _kinds: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.root = Path(self.root).expanduser().absolute()

    # -- reading ------------------------------------------------------------------------------------------------------

    def _find(self, hash: str) -> Path | None:
        kind = self._kinds.get(hash)
        kinds = [kind] if kind else self.kinds()
        for kind in kinds:
            directory = self._place(hash, kind)
            if (directory / MANIFEST).exists():
                self._kinds[hash] = kind
                return directory
        return None

    def _place(self, hash: str, kind: str) -> Path:
        return self.root / "artifacts" / kind / hash[:2] / hash

    def kinds(self) -> list[str]:
        """The kinds of artifacts that are there."""
        folder = self.root / "artifacts"
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []

    def has(self, hash: str) -> bool:
        """Whether the artifact is there, whole."""
        return self._find(hash) is not None

    def path(self, hash: str) -> Path:
        """The artifact's directory.

        Raises:
            StoreError: it is not there.
        """
        found = self._find(hash)
        if found is None:
            raise StoreError(f"no artifact {hash[:12]}", where=str(self.root), fix="adapterstilts ls artifacts")
        return found

    def manifest(self, hash: str) -> dict[str, Any]:
        """The artifact's manifest.

        Raises:
            StoreError: not there, or no longer readable.
        """
        return _read_manifest(self.path(hash))

    def hashes(self) -> Iterator[tuple[str, str]]:
        """(kind, hash) of every artifact."""
        for kind in self.kinds():
            for path in sorted((self.root / "artifacts" / kind).glob(f"??/*/{MANIFEST}")):
                if _HASH.fullmatch(path.parent.name):
                    yield kind, path.parent.name

    def resolve(self, name: str) -> str:
        """The hash that a name, a hash or the beginning of one (at least 6 digits) stands for.

        Raises:
            StoreError: nothing, or several artifacts.
        """
        known = self.names.get(name)
        if known is not None:
            return known
        if _HASH.fullmatch(name) and self.has(name):
            return name
        found = []
        if re.fullmatch(r"[0-9a-f]{6,63}", name):
            found = [hash for _, hash in self.hashes() if hash.startswith(name)]
        if len(found) == 1:
            return found[0]
        near = difflib.get_close_matches(name, list(self.names), n=1)
        raise StoreError(
            f"{len(found)} artifacts begin with `{name}`" if found else f"the store has no module `{name}`",
            where=str(self.root),
            fix=f"did you mean `{near[0]}`?" if near else "adapterstilts ls modules",
        )

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def write(self, hash: str, kind: str, manifest: dict[str, Any]) -> Iterator[Path]:
        """A directory to fill; it becomes the artifact when the block ends, and is removed when the block raises.

        ``manifest`` may be added to inside the block. The schema version, kind, hash, time and every file with its
        sha256 and size are filled in here. When another process wrote the same artifact meanwhile, that one stays.

        Raises:
            StoreError: the disk is full; nothing half-written stays.
        """
        with self._published(hash, kind) as temporary:
            yield temporary
            own = {"schema": SCHEMA, "kind": kind, "hash": hash, "created": round(time.time(), 3)}
            files = {str(path.relative_to(temporary)): seal(path) for path in files_in(temporary)}
            write_synced(temporary / MANIFEST, to_json({**own, **manifest, "files": files}, indent=1))

    @contextmanager
    def adopt(self, hash: str, kind: str) -> Iterator[Path]:
        """A directory to fill with an artifact that was made elsewhere, manifest included; it is compared with that.

        Raises:
            StoreError: another artifact, a file that the manifest does not have or describes otherwise.
        """
        with self._published(hash, kind) as temporary:
            yield temporary
            manifest = _read_manifest(temporary)
            if manifest.get("hash") != hash or manifest.get("kind") != kind:
                raise StoreError(f"this is not artifact {hash[:12]}", where=str(temporary), why="its manifest differs")
            for path in files_in(temporary):
                name = str(path.relative_to(temporary))
                why = "the manifest does not have it" if name not in manifest["files"] else None
                if name != MANIFEST and (why := why or difference(path, manifest["files"][name])):
                    raise StoreError(
                        f"`{name}` of artifact {hash[:12]} is refused", why=why, fix="do not trust its store"
                    )
                seal(path)
            if missing := [name for name in manifest["files"] if not (temporary / name).is_file()]:
                raise StoreError(f"`{missing[0]}` of artifact {hash[:12]} is missing", where=str(temporary))

    @contextmanager
    def _published(self, hash: str, kind: str) -> Iterator[Path]:
        """A temporary directory that becomes the artifact, durably, unless the block raises."""
        place = self._place(hash, kind)
        temporary = place.parent / temporary_name(hash)
        try:
            with full_disk(self.root):
                temporary.mkdir(parents=True)
                yield temporary
                for folder in {path.parent for path in files_in(temporary)}:
                    sync_directory(folder)
                self._publish(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._kinds[hash] = kind

    def _publish(self, temporary: Path, place: Path) -> None:
        if place.exists() and not (place / MANIFEST).exists():
            shutil.rmtree(place)  # someone removed files by hand
        try:
            os.rename(temporary, place)
        except OSError:
            if not (place / MANIFEST).exists():
                raise
        sync_directory(place.parent)

    @contextmanager
    def lock(self, hash: str, timeout: float = -1) -> Iterator[None]:
        """Hold the right to make this artifact. The kernel frees it when the process dies, however it dies.

        Raises:
            StoreError: another process still holds it after ``timeout`` seconds (negative: wait for ever).
        """
        path = self.root / "locks" / f"{hash}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=timeout)
        try:
            lock.acquire(poll_interval=0.05)
        except Timeout:
            raise StoreError(
                f"artifact {hash[:12]} is being made by another process", where=str(path), fix="wait for that run"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def held(self, hash: str) -> bool:
        """Whether some process is making this artifact."""
        if not (self.root / "locks" / f"{hash}.lock").exists():
            return False
        try:
            with self.lock(hash, timeout=0):
                return False
        except StoreError:
            return True

    def work(self, hash: str) -> Path:
        """The directory for checkpoints of a stage that is not done; made when absent."""
        path = self.root / "work" / hash
        path.mkdir(parents=True, exist_ok=True)
        return path

    def drop_work(self, hash: str) -> None:
        """Remove the checkpoints of a stage that is done."""
        shutil.rmtree(self.root / "work" / hash, ignore_errors=True)

    def drop_shared(self) -> None:
        """Remove what stages left for each other; one that still uses it has links of its own."""
        self.drop_work(SHARED)

    def log(self, hash: str) -> Path:
        """The log file of a stage, there or not."""
        return self.root / "logs" / f"{hash}.log"

    # -- names, runs, fingerprints ------------------------------------------------------------------------------------

    @property
    def names(self) -> Names:
        """The names of modules."""
        return Names(self.root / "names")

    @property
    def runs(self) -> Path:
        """The folder of run folders, runs/<recipe>/<id>/."""
        return self.root / "runs"

    @property
    def fingerprints(self) -> Path:
        """The JSON file in which sha256 of data files is remembered by (path, size, mtime)."""
        return self.root / "cache" / "files.json"

    # -- care ---------------------------------------------------------------------------------------------------------

    def verify(self, hashes: Iterable[str] | None = None) -> list[Damage]:
        """Re-read every file of the artifacts (all, or the given ones) and compare it with its manifest."""
        found: list[Damage] = []
        wanted = self.hashes() if hashes is None else ((self.path(h).parent.parent.name, h) for h in hashes)
        for kind, hash in wanted:
            directory = self._place(hash, kind)
            try:
                files = _read_manifest(directory)["files"]
            except StoreError as error:
                found.append(Damage(hash, kind, MANIFEST, error.why or error.what))
                continue
            for name, recorded in files.items():
                why = difference(directory / name, recorded)
                if why:
                    found.append(Damage(hash, kind, name, why))
        return found

    def gc(self, keep: Iterable[str] = (), *, dry_run: bool = False) -> Removed:
        """Remove artifacts that neither ``keep`` nor a name reaches through parents, and leftovers of dead processes.

        Artifacts that another process holds the lock of stay.
        """
        reached: set[str] = set()
        front = [*keep, *self.names.values()]
        while front:
            hash = front.pop()
            if hash not in reached and self.has(hash):
                reached.add(hash)
                front.extend(self.manifest(hash).get("parents", {}).values())
        size, removed = 0, []
        for kind, hash in list(self.hashes()):
            if hash in reached:
                continue
            try:
                with self.lock(hash, timeout=0):
                    size += size_of(self._place(hash, kind))
                    removed.append(hash)
                    if not dry_run:
                        self._remove(hash, kind)
            except StoreError:
                continue
        leftovers = [path for path in self._leftovers() if not owner_lives(path)]
        size += sum(map(size_of, leftovers))
        for path in () if dry_run else leftovers:
            shutil.rmtree(path, ignore_errors=True)
        return Removed(tuple(removed), len(leftovers), size)

    def remove(self, hash: str) -> None:
        """Remove one artifact, its log and nothing else.

        Raises:
            StoreError: it is not there.
        """
        self._remove(hash, self.path(hash).parent.parent.name)

    def _remove(self, hash: str, kind: str) -> None:
        # The manifest goes first: a directory without one is no artifact, whenever this is interrupted.
        (self._place(hash, kind) / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(self._place(hash, kind), ignore_errors=True)
        self.log(hash).unlink(missing_ok=True)
        self._kinds.pop(hash, None)

    def _leftovers(self) -> Iterator[Path]:
        yield from (self.root / "artifacts").glob("*/??/.tmp-*")
        for path in (self.root / "work").glob("*"):
            if path.name == SHARED or self.has(path.name):
                yield path

    def du(self) -> dict[str, tuple[int, int]]:
        """kind -> (artifacts, bytes); checkpoints (``work``), ``logs``, ``embeddings``, ``tuned`` under their names."""
        sizes: dict[str, tuple[int, int]] = {}
        for kind, hash in self.hashes():
            count, size = sizes.get(kind, (0, 0))
            sizes[kind] = (count + 1, size + size_of(self._place(hash, kind)))
        for name in ("work", "logs", "embeddings", "tuned"):
            entries = list((self.root / name).glob("*"))
            if entries:
                sizes[name] = (len(entries), sum(map(size_of, entries)))
        return sizes


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or "files" not in manifest:
            raise ValueError("it is no manifest")
    except (OSError, ValueError) as error:
        fix = "adapterstilts store gc removes it; the next run makes it again"
        raise StoreError("a manifest cannot be read", where=str(path), why=str(error), fix=fix) from None
    return manifest
