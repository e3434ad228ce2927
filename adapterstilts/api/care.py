"""Care of the store, and one stage by its hash."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from adapterstilts.api import environment
from adapterstilts.api.kept import check_kept, remove_kept
from adapterstilts.errors import StoreError
from adapterstilts.executors.work import work
from adapterstilts.plan.runs import load_stage, runs_of
from adapterstilts.store import Store


def remove(store: Store, hash: str) -> None:
    """Remove one artifact; the next run makes it again.

    Raises:
        StoreError: another process is making it.
    """
    if store.has(hash):
        with store.lock(hash, timeout=0):
            store.remove(hash)


def collect(store: Store, *, runs: int = 1, damaged: bool = False, dry_run: bool = False) -> dict[str, Any]:
    """Remove what neither a named module nor the last ``runs`` runs of each recipe need.

    Embeddings and tuned layers of modules that are not there (any more) go with them.

    Returns:
        {schema_version, artifacts: [hash], embeddings: [name], leftovers, bytes}
    """
    bad = list(dict.fromkeys(item.hash for item in store.verify())) if damaged else []
    for hash in () if dry_run else bad:
        remove(store, hash)
    seen: Counter[str] = Counter()
    keep: list[str] = []
    for folder in runs_of(store):
        seen[folder.parent.name] += 1
        if seen[folder.parent.name] <= runs:
            plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
            keep += [stage["hash"] for stage in plan["stages"]]
    found = store.gc(keep, dry_run=dry_run)
    gone = list(dict.fromkeys([*bad, *found.artifacts]))
    broken = {item.hash for item in check_kept(store)} if damaged else ()
    kept, size = remove_kept(store, gone, broken, dry_run=dry_run)
    plain = {"schema_version": 1, "artifacts": gone, "embeddings": kept, "leftovers": found.leftovers}
    return plain | {"bytes": found.bytes + size}


def run_hash(
    store: Store, hash: str, progress: Callable[[float, str], None] | None = None, processes: int = 1
) -> dict[str, Any]:
    """Make the artifact of a stage that some run or `plan --save` of this store planned; the entry of any scheduler.

    Args:
        processes: how many share the work of a training stage, one GPU each.

    Returns:
        {schema_version, name, kind, hash, made, path}

    Raises:
        StoreError: no run planned it, or a parent is not done. Whatever the stage raises.
    """
    environment.prepare()
    whole = _whole(store, hash)
    ended = work(store, whole, processes=processes, progress=progress)
    if ended.error is not None:
        raise ended.error
    stage = load_stage(store, whole)
    plain = {"name": stage.label, "kind": stage.kind, "hash": stage.hash, "made": ended.made}
    return {"schema_version": 1, **plain, "path": str(store.path(stage.hash))}


def _whole(store: Store, hash: str) -> str:
    """The full hash of a planned stage from its beginning.

    Raises:
        StoreError: no stage, or several, begin so.
    """
    if re.fullmatch("[0-9a-f]{64}", hash):
        return hash
    known = re.fullmatch("[0-9a-f]{6,63}", hash)
    found = {path.stem for path in store.runs.glob(f"*/*/stages/{hash}*.json")} if known else set()
    if len(found) == 1:
        return found.pop()
    what = f"{len(found)} stages begin with `{hash}`" if found else f"no stage `{hash}`"
    why = None if found else "no run planned it" if known else "not six digits or more of 0-9 and a-f"
    raise StoreError(what, where=str(store.runs), why=why, fix="adapterstilts plan RECIPE --save shows them")
