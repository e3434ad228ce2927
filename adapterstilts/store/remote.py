"""A store elsewhere, by fsspec URL (s3://, gs://, hf://, file://): artifacts are pulled and pushed whole.

The layout is the local store's. A manifest is uploaded last, so that an artifact there is whole or not there at all;
what comes down is compared with its manifest before it counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from adapterstilts.errors import AdapterstiltsError, MissingDependency, StoreError
from adapterstilts.inside import why_outside
from adapterstilts.store.artifacts import MANIFEST, Store

_PLACE = re.compile(r"artifacts/([a-z]+)/[0-9a-f]{2}/([0-9a-f]{64})/manifest\.json$")
OBJECTS = {"s3", "s3a", "gs", "gcs", "abfs", "az", "oss"}  # have no folders: making one can make a bucket


class Remote:
    """Artifacts below one URL.

    Raises:
        MissingDependency: fsspec needs a package for this protocol. StoreError: no such protocol.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        try:
            self.files, self.root = fsspec.core.url_to_fs(url)
        except ImportError as error:
            fix = "pip install the package it names"
            raise MissingDependency(f"the store `{url}` needs a package", why=str(error), fix=fix) from error
        except ValueError as error:
            fix = "s3://BUCKET/FOLDER, gs://..., hf://..., file:///FOLDER"
            raise StoreError(f"no store at `{url}`", why=str(error), fix=fix) from error
        protocol = self.files.protocol
        self.folders = not OBJECTS & ({protocol} if isinstance(protocol, str) else set(protocol))

    @cached_property
    def kinds(self) -> dict[str, str]:
        """hash -> kind of every artifact there, as of the first look.

        Raises:
            StoreError: it cannot be reached.
        """
        with self._reached():
            names = self.files.glob(f"{self.root}/artifacts/*/??/*/{MANIFEST}")
        return {match[2]: match[1] for name in names if (match := _PLACE.search(name))}

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Every protocol has errors of its own for a network, a permission or a file that is not there."""
        try:
            yield
        except AdapterstiltsError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            fix = "check the address, the network and its access; nothing here was changed"
            raise StoreError("the store elsewhere gives an error", where=self.url, why=why, fix=fix) from error

    def has(self, hash: str) -> bool:
        """Whether the artifact is there, whole."""
        return hash in self.kinds

    def pull(self, store: Store, hash: str) -> None:
        """Copy an artifact into the store.

        Raises:
            StoreError: it is not there, its manifest cannot be read or names files outside, or a checksum differs.
        """
        if store.has(hash):
            return
        if not self.has(hash):
            raise StoreError(f"no artifact {hash[:12]}", where=self.url)
        kind = self.kinds[hash]
        place = self._place(kind, hash)
        with self._reached(), store.adopt(hash, kind) as folder:
            text = self.files.cat_file(f"{place}/{MANIFEST}")
            for name in _names(text, f"{place}/{MANIFEST}"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                self.files.get_file(f"{place}/{name}", str(folder / name))
            (folder / MANIFEST).write_bytes(text)

    def push(self, store: Store, hash: str) -> bool:
        """Copy an artifact there; False when it was there already.

        Raises:
            StoreError: it cannot be reached or written.
        """
        if self.has(hash):
            return False
        folder, manifest = store.path(hash), store.manifest(hash)
        place = self._place(manifest["kind"], hash)
        with self._reached():
            fresh = not self.files.exists(f"{place}/{MANIFEST}")  # another machine may have pushed it meanwhile
            for name in (*manifest["files"], MANIFEST) if fresh else ():
                target = f"{place}/{name}"
                if self.folders:
                    self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
                self.files.put_file(str(folder / name), target)
        self.kinds[hash] = manifest["kind"]
        return fresh

    def _place(self, kind: str, hash: str) -> str:
        return f"{self.root}/artifacts/{kind}/{hash[:2]}/{hash}"


def _names(text: bytes, where: str) -> list[str]:
    try:
        manifest: dict[str, Any] = json.loads(text)
        names = list(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError("a manifest cannot be read", where=where, why=str(error)) from error
    for name in names:
        if why := why_outside(name):
            raise StoreError(f"`{name}` is refused", where=where, why=why, fix="do not trust this store")
    return names


def pull_hits(store: Store, remote: Remote, wanted: list[str], parents: dict[str, list[str]]) -> list[str]:
    """Pull of what is wanted and missing here whatever is there; of the rest the parents, and so on.

    Args:
        parents: hash -> its parents; what is not in it has none.

    Returns:
        The hashes pulled.
    """
    pulled, front, seen = [], list(wanted), set(wanted)
    while front:
        hash = front.pop()
        if store.has(hash):
            continue
        if remote.has(hash):
            remote.pull(store, hash)
            pulled.append(hash)
            continue
        more = [parent for parent in parents.get(hash, ()) if parent not in seen]
        seen.update(more)
        front += more
    return pulled
