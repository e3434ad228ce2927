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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from adapterstilts.modules.branches import Branch, branched
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
    own = Place(directory, identity, Branch(adapted.tree))
    made = embed_branches(
        adapted, arrays, [own], layers, poolings=poolings, kind=kind, tokens=tokens, every=every, progress=progress
    )
    return made[0]


@dataclass(frozen=True)
class Place:
    """Where the embeddings of one composition go, and what names them."""

    directory: Path
    identity: Mapping[str, Any]
    branch: Branch


def embed_branches(
    adapted: Adapted,
    arrays: Arrays,
    places: Sequence[Place],
    layers: Sequence[int],
    *,
    poolings: Sequence[Pooling] = ("mean",),
    kind: Kind = "fp16",
    tokens: int = 4096,
    every: float = 5.0,
    progress: Callable[[float], None] | None = None,
) -> list[Stored]:
    """`embed_stored` for several compositions in one pass: the layers that they share run once."""
    with contextlib.ExitStack() as locks:
        for place in sorted(places, key=lambda place: place.directory):
            place.directory.mkdir(parents=True, exist_ok=True)
            locks.enter_context(FileLock(place.directory / ".lock"))
        there = [open_stored(place.directory, place.identity) for place in places]
        names = [[name for name in _names(layers, poolings) if name not in stored.arrays] for stored in there]
        todo = [index for index, missing in enumerate(names) if missing]
        shape = len(arrays), adapted.base.width
        partials = [_Partial(places[i].directory / "partial", names[i], shape, kind, tokens) for i in todo]
        if len({partial.plan["tokens"] for partial in partials}) > 1:  # batches of one size for all
            for partial in partials:
                partial.begin(tokens)
        if partials:
            _fill(adapted, arrays, [places[i].branch for i in todo], partials, every, progress)
        for index, partial in zip(todo, partials, strict=True):
            there[index] = _published(there[index], partial, kind)
        return there


def _published(there: Stored, partial: _Partial, kind: Kind) -> Stored:
    directory, names = there.directory, partial.plan["names"]
    partial.publish(directory)
    found = replace(there, arrays=tuple(sorted({*there.arrays, *names})))
    width = partial.plan["shape"][1]
    plain = {"identity": dict(there.identity), "width": width, "type": kind, "arrays": found.arrays}
    write_text(directory / MANIFEST, json.dumps(plain, indent=1))
    sync_directory(directory)
    shutil.rmtree(partial.directory, ignore_errors=True)
    return found


class _Partial:
    """Arrays of a pass that has not ended, and how many of its batches are done."""

    def __init__(self, directory: Path, names: Sequence[str], shape: tuple[int, int], kind: Kind, tokens: int) -> None:
        self.directory = directory
        self.plan: dict[str, Any] = {"names": list(names), "shape": list(shape), "type": kind, "tokens": tokens}
        self.open: dict[str, NDArray[Any]] = {}
        self.done = self._resumed()
        if self.done:
            self._map("r+")
        else:
            self.begin(tokens)

    def begin(self, tokens: int) -> None:
        """Start anew, with batches of so many tokens."""
        self.plan["tokens"], self.done = tokens, 0
        self.open.clear()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir()
        self._map("w+")

    def _map(self, mode: Literal["r+", "w+"]) -> None:
        kind, shape = KINDS[self.plan["type"]], tuple(self.plan["shape"])
        for name in self.plan["names"]:
            self.open[name] = np.lib.format.open_memmap(self._path(name), mode=mode, dtype=kind, shape=shape)

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
    adapted: Adapted,
    arrays: Arrays,
    branches: Sequence[Branch],
    partials: Sequence[_Partial],
    every: float,
    progress: Callable[[float], None] | None,
) -> None:
    """Run every batch that some branch has not had, and write each its own arrays."""
    wanted = [_by_layer(partial.open) for partial in partials]
    highest = max(layer for own in wanted for layer in own)
    adapted.train_mode(False)
    lengths = lengths_of(arrays.rows, arrays.examples)
    batches = by_length(lengths, partials[0].plan["tokens"])
    begin = min(partial.done for partial in partials)
    total, seen = max(1, int(lengths.sum())), sum(int(lengths[chosen].sum()) for chosen in batches[:begin])
    last = time.monotonic()
    for number, chosen in enumerate(batches[begin:], start=begin + 1):
        batch = collate(arrays.ids, arrays.rows, arrays.examples, {}, chosen, pad_id=adapted.base.pad_id)
        batch = batch.to(adapted.model.device)
        with torch.no_grad():
            for index, layer, hidden in branched(adapted, branches, batch, highest):
                for name in wanted[index].get(layer, ()):
                    values = pool(hidden, batch, name.partition(".")[0]).cpu().numpy()
                    array = partials[index].open[name]
                    array[chosen] = _checked(values, array.dtype, name)
        seen += int(lengths[chosen].sum())
        if time.monotonic() - last >= every:
            for partial in partials:
                partial.commit(number)
            last = time.monotonic()
            if progress is not None:
                progress(seen / total)
    for partial in partials:
        partial.commit(len(batches))
    if progress is not None:
        progress(1.0)


def _by_layer(names: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for name in names:
        found.setdefault(int(name.rpartition(".")[2]), []).append(name)
    return found


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
