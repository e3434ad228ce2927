"""Fetching data sets from the Hub into a folder that ``--data`` reads, with a record of what was fetched.

A split becomes ``hub/<namespace>/<name>/<config>/<split>.parquet``; ``hub/manifest.json`` holds its SHA-256, rows,
bytes, and the commit. What the manifest has is not fetched again; what was interrupted goes on where it stopped
(the Hub client keeps partial downloads).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapterstilts.data.sources import Resolved, hub_config
from adapterstilts.errors import DataError, MissingDependency
from adapterstilts.store.files import sha256 as file_sha256
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.suites import Part

MANIFEST = "manifest.json"
COMMIT = re.compile(r"@([0-9a-f]{40})/")


@dataclass(frozen=True)
class HubSplit:
    """One split of one configuration of a Hub repository; several languages or tasks may share it."""

    repo: str
    revision: str
    config: str | None
    split: str
    place: str  # of the file, below the folder `hub`

    @property
    def name(self) -> str:
        return f"{self.repo} {self.config or 'default'} {self.split}"


@dataclass(frozen=True)
class Fetched:
    """How one split went: ``state`` is fetched, kept (the manifest had it) or failed; ``note`` what else to know."""

    split: HubSplit
    state: str
    rows: int = 0
    bytes: int = 0
    error: str | None = None
    note: str | None = None


def wanted(parts: Iterable[Part], tasks: TaskRegistry) -> tuple[list[HubSplit], list[str]]:
    """The Hub splits that hold these parts, each once; and the parts that no Hub repository holds."""
    found: dict[str, HubSplit] = {}
    without: list[str] = []
    for part in parts:
        splits = list(_hub_splits(part, tasks))
        found |= {split.place: split for split in splits}
        if not splits:
            without.append(f"{part[0]}/{part[1]} {part[2]}")
    return list(found.values()), without


def _hub_splits(part: Part, tasks: TaskRegistry) -> Iterator[HubSplit]:
    task, language, split = part
    spec = tasks.get(task)
    for source in spec.sources:
        if source.kind == "concat":
            for name in source.tasks:
                yield from _hub_splits((name, language, split), tasks)
        elif source.kind == "hub" and source.has(language, split):
            config = hub_config(Resolved(spec, language, split, source, {}))
            name = source.splits[split]
            place = f"{source.repo}/{config}/{name}.parquet"
            yield HubSplit(str(source.repo), source.revision, config if source.config else None, name, place)
            return


def fetch(
    splits: Iterable[HubSplit],
    out: Path,
    *,
    mirror: Path | None = None,
    revision: str | None = None,
    watch: Callable[[Fetched], None] | None = None,
) -> list[Fetched]:
    """Fetch what the manifest of ``out`` does not have yet; one split that fails does not stop the others.

    The commit of a repository that was recorded once is asked for again, and a newer one upstream is told in ``note``:
    a folder never mixes two states of a repository.

    Args:
        mirror: a folder of cloned Hub repositories, ``<namespace>/<name>``, that is read instead of the network.
        revision: a branch, tag or commit, in place of that in the tasks' sources.
        watch: told of every split when it is done.

    Raises:
        MissingDependency: no package ``datasets``. DataError: a manifest that cannot be read.
    """
    folder = out / "hub"
    manifest = read_manifest(folder)
    heads: dict[tuple[str, str], str | None] = {}
    done = []
    for split in splits:
        asked = revision or split.revision
        place = (split.repo, asked)
        if place not in heads:
            heads[place] = _head(split.repo, asked, mirror)
        head = heads[place]
        locked = next((e["commit"] for e in manifest.values() if e["repo"] == split.repo and e["commit"]), None)
        moved = locked is not None and head is not None and locked != head
        entry, path = manifest.get(split.place), folder / split.place
        whole = entry and path.is_file() and path.stat().st_size == entry["bytes"]
        if moved and (revision is not None or (mirror is not None and not whole)):
            error = f"the folder holds commit {locked} of {split.repo}, asked for is {head}; give another --out"
            result = Fetched(split, "failed", error=error)
        elif entry and whole and file_sha256(path) == entry["sha256"]:
            result = Fetched(split, "kept", entry["rows"], entry["bytes"])
        else:
            result = _fetched(split, path, asked, locked or head, mirror, manifest)
            _write(folder, manifest)
        if moved and result.state != "failed":
            result = replace(result, note=f"upstream is at commit {head}; this folder stays with {locked}")
        done.append(result)
        if watch is not None:
            watch(result)
    return done


def _head(repo: str, revision: str, mirror: Path | None) -> str | None:
    """The commit that a revision names now; None where nobody says it (no network, or a mirror that is no clone)."""
    if mirror is not None:
        place = mirror / repo
        if not (place / ".git").exists():
            return None
        command = ["git", "-C", str(place), "rev-parse", "HEAD"]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        return said.stdout.strip() or None
    try:
        from huggingface_hub import HfApi

        return HfApi().dataset_info(repo, revision=revision).sha
    except Exception:  # the Hub client raises a dozen kinds; loading will say what is wrong
        return None


def _fetched(
    split: HubSplit,
    path: Path,
    asked: str,
    commit: str | None,
    mirror: Path | None,
    manifest: dict[str, dict[str, Any]],
) -> Fetched:
    try:
        data = _load(split, commit or asked, mirror)
    except MissingDependency:
        raise
    except Exception as error:  # the Hub client raises a dozen kinds
        first = str(error).splitlines()[0] if str(error) else ""
        return Fetched(split, "failed", error=f"{type(error).__name__}: {first}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        data.to_parquet(str(temporary))
        size = temporary.stat().st_size
        entry = {
            "repo": split.repo,
            "revision": asked,
            "commit": commit or _commit(data),
            "config": split.config,
            "split": split.split,
            "rows": len(data),
            "bytes": size,
            "sha256": file_sha256(temporary),
        }
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    manifest[split.place] = entry
    return Fetched(split, "fetched", len(data), size)


def _load(split: HubSplit, revision: str, mirror: Path | None) -> Any:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingDependency("the Hub needs the package `datasets`", fix="pip install datasets") from error
    if mirror is None:
        return load_dataset(split.repo, split.config, split=split.split, revision=revision)
    place = mirror / split.repo
    if not place.is_dir():
        raise DataError("the mirror has no such repository", where=str(place))
    return load_dataset(str(place), split.config, split=split.split)


def _commit(data: Any) -> str | None:
    """The commit that the files came from, where the Hub client says it."""
    for url in data.info.download_checksums or ():
        if found := COMMIT.search(url):
            return found[1]
    return None


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """place -> {repo, revision, commit, config, split, rows, bytes, sha256}; empty when nothing was fetched yet."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        files: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("the manifest cannot be read", where=str(path), why=str(error), fix="remove it") from error
    return files


def _write(folder: Path, manifest: dict[str, dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{MANIFEST}.{os.getpid()}"
    plain = {"schema_version": 1, "files": dict(sorted(manifest.items()))}
    temporary.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    temporary.replace(folder / MANIFEST)
