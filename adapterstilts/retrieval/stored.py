"""Embeddings on disk: one unpadded pass gives every layer and pooling asked for, and every later search reuses it.

    manifest.json            what was embedded: sentences (sha256), base, module, width, type, arrays
    mean.14.npy, cls.14.npy  [sentences, d], opened memory-mapped
    partial/                 a pass that has not ended, with progress.json; a killed one goes on from there

The manifest is the commit point: it is replaced, whole, after the arrays it names are in place.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from adapterstilts.data.arrays import Arrays
from adapterstilts.encoder.batch import by_length, collate, lengths_of
from adapterstilts.encoder.heads import pool
from adapterstilts.errors import DataError, StoreError
from adapterstilts.modules.attach import Adapted
from adapterstilts.retrieval.budget import forget
from adapterstilts.store.files import sync_directory, write_text

Pooling = Literal["mean", "cls"]
Kind = Literal["fp16", "fp32"]
Vectors = NDArray[np.floating[Any]]
KINDS: Mapping[str, type[np.floating[Any]]] = {"fp16": np.float16, "fp32": np.float32}
MANIFEST, PROGRESS = "manifest.json", "progress.json"


@dataclass(frozen=True)
class Stored:
    """A directory of embeddings. ``identity`` says of what: sentences, base, module, length limit."""

    directory: Path
    identity: Mapping[str, Any]
    arrays: tuple[str, ...]

    def has(self, layers: Sequence[int], poolings: Sequence[Pooling]) -> bool:
        """Whether every array asked for is there."""
        return set(_names(layers, poolings)) <= set(self.arrays)

    def layer(self, number: int, pooling: Pooling = "mean") -> Vectors:
        """[sentences, d] memory-mapped.

        Raises:
            StoreError: it was not embedded, or its file is gone or cut short.
        """
        name = _name(number, pooling)
        try:
            if name not in self.arrays:
                raise OSError(f"embedded are {', '.join(self.arrays)}")
            found: Vectors = np.load(self.directory / f"{name}.npy", mmap_mode="r")
            return found
        except (OSError, ValueError) as error:
            fix = f"remove {self.directory} and embed again"
            raise StoreError(f"no embeddings `{name}`", where=str(self.directory), why=str(error), fix=fix) from error


def open_stored(directory: Path, identity: Mapping[str, Any]) -> Stored:
    """What a directory holds of these sentences in this encoder; nothing when it is new.

    Raises:
        StoreError: it holds something else.
    """
    path = directory / MANIFEST
    if not path.exists():
        return Stored(directory, dict(identity), ())
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest["identity"] != dict(identity):
        other = [key for key, value in manifest["identity"].items() if identity.get(key) != value]
        raise StoreError(
            "embeddings of something else",
            where=str(directory),
            why=f"{', '.join(other) or 'their description'} differs",
            fix="give another folder, or remove this one",
        )
    return Stored(directory, dict(identity), tuple(manifest["arrays"]))


def embed_stored(
    adapted: Adapted,
    arrays: Arrays,
    directory: Path,
    layers: Sequence[int],
    identity: Mapping[str, Any],
    *,
    poolings: Sequence[Pooling] = ("mean",),
    kind: Kind = "fp16",
    tokens: int = 4096,
    every: float = 5.0,
    progress: Callable[[float], None] | None = None,
) -> Stored:
    """Embed what is missing of layers x poolings, going on where a killed pass stopped.

    Rows are sorted by length and run unpadded; nothing above the highest missing layer is computed. Means take in
    ``<s>`` and ``</s>``. Two processes on one directory wait for each other.

    Args:
        identity: what names these embeddings; must be the same whenever the directory is used.
        tokens: of one batch: memory, and the last digits of the floating-point sums at most.
        every: seconds between two points that a killed pass goes on from.

    Raises:
        StoreError: the directory holds other embeddings. DataError: values that the type cannot hold.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / ".lock"):
        there = open_stored(directory, identity)
        names = [name for name in _names(layers, poolings) if name not in there.arrays]
        if not names:
            return there
        partial = _Partial(directory / "partial", names, len(arrays), adapted.base.width, kind, tokens)
        _fill(adapted, arrays, partial, every, progress)
        partial.publish(directory)
        found = Stored(directory, there.identity, tuple(sorted({*there.arrays, *names})))
        plain = {"identity": dict(identity), "width": adapted.base.width, "type": kind, "arrays": found.arrays}
        write_text(directory / MANIFEST, json.dumps(plain, indent=1))
        sync_directory(directory)
        shutil.rmtree(partial.directory, ignore_errors=True)
        return found


class _Partial:
    """Arrays of a pass that has not ended, and how many of its batches are done."""

    def __init__(self, directory: Path, names: Sequence[str], count: int, width: int, kind: Kind, tokens: int) -> None:
        self.directory = directory
        self.plan: dict[str, Any] = {
            "names": list(names),
            "shape": [count, width],
            "type": kind,
            "tokens": tokens,
        }
        self.done = self._resumed()
        if self.done == 0:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
        mode: Literal["r+", "w+"] = "r+" if self.done else "w+"
        self.open: dict[str, NDArray[Any]] = {
            name: np.lib.format.open_memmap(self._path(name), mode=mode, dtype=KINDS[kind], shape=(count, width))
            for name in names
        }

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.npy"

    def _resumed(self) -> int:
        with contextlib.suppress(OSError, ValueError, KeyError):
            state = json.loads((self.directory / PROGRESS).read_text(encoding="utf-8"))
            # Batches are counted, so their size must stay; a smaller one than allowed now is fine.
            fits = state["plan"]["tokens"] <= self.plan["tokens"]
            same = {**self.plan, "tokens": state["plan"]["tokens"]} == state["plan"]
            if fits and same and all(self._path(name).is_file() for name in state["plan"]["names"]):
                self.plan = state["plan"]
                return int(state["done"])
        return 0

    def commit(self, done: int) -> None:
        """Everything up to batch ``done`` is on disk, and the arrays' pages leave memory."""
        for array in self.open.values():
            array.flush()  # type: ignore[attr-defined]
            forget(array)
        write_text(self.directory / PROGRESS, json.dumps({"plan": self.plan, "done": done}))
        self.done = done

    def publish(self, directory: Path) -> None:
        """Move the arrays to their place."""
        self.open.clear()
        for name in self.plan["names"]:
            os.replace(self._path(name), directory / f"{name}.npy")


def _fill(
    adapted: Adapted, arrays: Arrays, partial: _Partial, every: float, progress: Callable[[float], None] | None
) -> None:
    wanted: dict[int, list[str]] = {}
    for name in partial.open:
        wanted.setdefault(int(name.rpartition(".")[2]), []).append(name)
    adapted.train_mode(False)
    lengths = lengths_of(arrays.rows, arrays.examples)
    batches = by_length(lengths, partial.plan["tokens"])
    total, seen = max(1, int(lengths.sum())), sum(int(lengths[chosen].sum()) for chosen in batches[: partial.done])
    last = time.monotonic()
    for number, chosen in enumerate(batches[partial.done :], start=partial.done + 1):
        batch = collate(arrays.ids, arrays.rows, arrays.examples, {}, chosen, pad_id=adapted.base.pad_id)
        batch = batch.to(adapted.model.device)
        with torch.no_grad():
            for layer, hidden in enumerate(adapted.layers(batch, stop=max(wanted))):
                for name in wanted.get(layer, ()):
                    values = pool(hidden, batch, name.partition(".")[0]).cpu().numpy()
                    partial.open[name][chosen] = _checked(values, partial.open[name].dtype, name)
        seen += int(lengths[chosen].sum())
        if time.monotonic() - last >= every:
            partial.commit(number)
            last = time.monotonic()
            if progress is not None:
                progress(seen / total)
    partial.commit(len(batches))
    if progress is not None:
        progress(1.0)


def _checked(values: NDArray[np.float32], kind: np.dtype[Any], name: str) -> NDArray[np.float32]:
    if not np.isfinite(values).all() or np.abs(values).max(initial=0) > np.finfo(kind).max:
        raise DataError(
            f"embeddings `{name}` do not fit into {kind}",
            why="a value is not finite, or larger than the type can hold",
            fix="--type fp32",
        )
    return values


def _name(layer: int, pooling: Pooling) -> str:
    return f"{pooling}.{layer}"


def _names(layers: Sequence[int], poolings: Sequence[Pooling]) -> list[str]:
    return [_name(layer, pooling) for pooling in dict.fromkeys(poolings) for layer in dict.fromkeys(layers)]
