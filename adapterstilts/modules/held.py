"""Hidden states of the layers below a module, computed once and kept on disk.

A batch takes them along (its field ``held:<layers>``) and the encoder goes on from them. In fp32 on a CPU a token's
states have the same bits in every batch of 16 tokens or more; in bf16 the matrix products round differently in batches
of other sizes.

A file has its name once it is whole: what a kill left is written anew. It is mapped only while a batch is read, so that
it does not count as memory of the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapterstilts.encoder.batch import HELD, Batch, collate, lengths_of
from adapterstilts.encoder.precision import DTYPES
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import format_tree


@dataclass(frozen=True)
class States:
    """Hidden states of the tokens of some examples, by the tokens' places in their arrays."""

    path: Path
    begins: NDArray[np.int64]  # (n,) the first token of each example, ascending
    rows: NDArray[np.int64]  # (n + 1,) where its states begin in the file; the last: how many there are
    width: int
    type: type[np.generic]  # float32, or int16 for the bits of bf16

    def __getitem__(self, tokens: NDArray[np.int64]) -> NDArray[Any]:
        return np.asarray(self.open("r")[self.places(tokens)])

    def places(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the states of these tokens are in the file."""
        example = np.searchsorted(self.begins, tokens, side="right") - 1
        return np.asarray(self.rows[example] + tokens - self.begins[example])

    def open(self, mode: Any) -> np.memmap[Any, Any]:
        """(T, d) of the file."""
        return np.memmap(self.path, self.type, mode, shape=(int(self.rows[-1]), self.width))


@dataclass
class Holding:
    """Writes and finds hidden states above so many ``layers``, while they fit in ``engine.cache`` and on the disk.

    Args:
        folder: where the states are as long as they are used.
        report: told how far it is.
        shared: a folder where they stay for others, too; what others left there is taken instead of being computed.
        known: what decides the states beside what is attached here: of shared ones, also the base's weights.
    """

    adapted: Adapted
    layers: int
    folder: Path
    report: Callable[[float, str], None]
    shared: Path | None = None
    known: Sequence[str] = ()
    bytes: int = 0
    found: list[str] = field(default_factory=list)  # which data had states in ``shared``
    unused: dict[str, str] = field(default_factory=dict)

    def hold(self, key: str, arrays: Any, parts: Sequence[NDArray[np.int64]]) -> Any:
        """The arrays with the hidden states of the chosen examples, or as they are where these do not fit.

        Args:
            parts: the examples of each batch while states are computed.
        """
        chosen = np.sort(np.concatenate(parts))
        lengths = lengths_of(arrays.rows, arrays.examples)[chosen]
        element = DTYPES[self.adapted.base.precision].itemsize
        size = int(lengths.sum()) * self.adapted.base.width * element
        path = self._path(arrays, parts)
        if self.shared is not None and not path.exists():
            with suppress(OSError):  # a link: it stays when the shared one is removed meanwhile
                os.link(self.shared / path.name, path)
                self.found.append(key)
        if not path.exists() and (why := self._full(size)):
            self.leave(key, why)
            return arrays
        rows = np.concatenate([[0], np.cumsum(lengths)])
        stored = np.float32 if element == 4 else np.int16
        states = States(path, arrays.rows[arrays.examples[chosen]], rows, self.adapted.base.width, stored)
        if not path.exists():
            self._write(key, states, arrays, parts)
            if self.shared is not None:
                with suppress(OSError):  # another process was as fast, or a file system has no links
                    self.shared.mkdir(parents=True, exist_ok=True)
                    os.link(path, self.shared / path.name)
        self.bytes += size
        held: Any = states
        return replace(arrays, fields={**arrays.fields, f"{HELD}{self.layers}": ("state", held)})

    def let_go(self) -> None:
        """Remove the states of the stage's own folder; shared ones stay."""
        for path in self.folder.glob("states-*"):
            path.unlink(missing_ok=True)

    def leave(self, key: str, why: str) -> None:
        """Say that nothing is held of some data."""
        self.unused[key] = why
        self.report(0.0, f"layers below the module run in every pass over {key}: {why}")

    def _full(self, size: int) -> str | None:
        used = self.bytes if self.shared is None else sum(path.stat().st_size for path in self.shared.glob("states-*"))
        free = self.adapted.engine.cache - used
        if size > free:
            return f"{size / 1e9:.2f} GB of hidden states, and engine.cache leaves {max(free, 0) / 1e9:.2f}"
        if size > shutil.disk_usage(self.folder).free:
            return f"{size / 1e9:.2f} GB of hidden states do not fit on the disk"
        return None

    def _path(self, arrays: Any, parts: Sequence[NDArray[np.int64]]) -> Path:
        """Named by all that decides the states; base and weights are the same in all of a stage."""
        adapted = self.adapted
        tree = None if adapted.tree is None or self.known else format_tree(adapted.tree)
        known = [self.layers, adapted.base.precision, adapted.engine.attention, str(adapted.model.device), tree]
        name = hashlib.sha256(json.dumps([*known, *self.known, torch.__version__, [len(p) for p in parts]]).encode())
        for example in np.concatenate(parts):
            rows = arrays.rows[arrays.examples[example] : arrays.examples[example + 1] + 1]
            name.update(np.diff(rows).tobytes())
            name.update(np.ascontiguousarray(arrays.ids[rows[0] : rows[-1]]).tobytes())
        return self.folder / f"states-{name.hexdigest()[:16]}.bin"

    def _write(self, key: str, states: States, arrays: Any, parts: Sequence[NDArray[np.int64]]) -> None:
        adapted = self.adapted
        adapted.train_mode(False)
        new = replace(states, path=states.path.with_suffix(".new"))
        fields: Any = {"place": ("token", _Themselves())}
        done = 0
        for number, part in enumerate(parts):
            batch = collate(arrays.ids, arrays.rows, arrays.examples, fields, part, pad_id=adapted.base.pad_id)
            found = self._below(batch.to(adapted.model.device))
            mapped = new.open("r+" if number else "w+")
            mapped[states.places(batch.fields["place"].cpu().numpy())] = found
            done += len(found)
            self.report(0.0, f"layers below the module, once over {key}: {done / states.rows[-1]:.0%}")
        with new.path.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(new.path, states.path)

    @torch.no_grad()
    def _below(self, batch: Batch) -> NDArray[Any]:
        """(T, d) as they are stored."""
        *_, hidden = self.adapted.states(batch, stop=self.layers)
        states = hidden[0].to(DTYPES[self.adapted.base.precision]).cpu()
        return np.asarray((states if states.element_size() == 4 else states.view(torch.int16)).numpy())


class _Themselves:
    """The array in which every index has itself."""

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return index
