"""What mine, nearest, embed and tune-layer keep in the store beside its artifacts: ``embeddings/`` and ``tuned/``.

Neither is needed to repeat a run; embeddings save a pass of the encoder, a tuned layer is a choice on record.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from adapterstilts.api.encoding import module_digest
from adapterstilts.stages.specs import MODULES
from adapterstilts.store import Store
from adapterstilts.store.artifacts import Damage
from adapterstilts.store.files import size_of


def check_kept(store: Store) -> list[Damage]:
    """Embeddings whose arrays are not what their manifest says, and records that cannot be read."""
    found: list[Damage] = []
    for path in _paths(store):
        try:
            kept = _read(path)
        except (OSError, ValueError, KeyError) as error:
            found.append(
                Damage(path.name, path.parent.name, "manifest.json" if path.is_dir() else path.name, str(error))
            )
            continue
        for name in kept.get("arrays", ()):
            if why := _array_problem(path / f"{name}.npy", kept):
                found.append(Damage(path.name, path.parent.name, f"{name}.npy", why))
    return found


def remove_kept(
    store: Store, gone: Collection[str], damaged: Collection[str] = (), *, dry_run: bool = False
) -> tuple[list[str], int]:
    """(names, bytes) of what was of modules that the store does not have, or is damaged, and is removed.

    What another process is writing, and passes that can still go on, stay.

    Args:
        gone: hashes of artifacts that count as not there.
    """
    living = {
        module_digest(store.path(hash)) for kind, hash in store.hashes() if kind in MODULES and hash not in gone
    } | {None}
    names, size = [], 0
    for path in _paths(store):
        try:
            dead = path.name in damaged or _read(path)["identity"]["module"] not in living
        except (OSError, ValueError, KeyError):
            dead = False  # unreadable: that is damage, and damage is only removed when asked for
        taken = size_of(path)
        if dead and (dry_run or _remove(path)):
            names.append(path.name)
            size += taken
    return names, size


def _remove(path: Path) -> bool:
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return True
    try:
        with FileLock(path / ".lock", timeout=0):
            (path / "manifest.json").unlink(missing_ok=True)  # first: without it nothing is there
            shutil.rmtree(path, ignore_errors=True)
    except Timeout:
        return False
    return True


def _paths(store: Store) -> Iterator[Path]:
    yield from sorted(path.parent for path in (store.root / "embeddings").glob("*/manifest.json"))
    yield from sorted((store.root / "tuned").glob("*.json"))


def _read(path: Path) -> dict[str, Any]:
    file = path / "manifest.json" if path.is_dir() else path
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    found["identity"]["module"]
    return found


def _array_problem(path: Path, kept: dict[str, Any]) -> str | None:
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        return str(error)
    expected = (kept["identity"]["count"], kept["width"])
    return None if array.shape == expected else f"its shape is {array.shape}, not {expected}"
