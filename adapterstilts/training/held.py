"""Hidden states below all that trains: the same in every pass over the data, so computed once and kept on disk.

A batch takes them along (its field ``held:<layers>``) and the encoder goes on from them. In fp32 on a CPU a token's
states have the same bits in every batch of 16 tokens or more, and so has the trained module; in bf16 the matrix
products round differently in batches of other sizes.

A file has its name once it is whole: what a kill left is written anew. It is mapped only while a batch is read, so that
it does not count as memory of the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapterstilts.data.prepared import Prepared
from adapterstilts.encoder.batch import HELD, Batch, by_length, collate, lengths_of
from adapterstilts.encoder.precision import DTYPES
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.expressions import format_tree
from adapterstilts.settings import TrainSettings
from adapterstilts.training.loop import Share
from adapterstilts.training.schedule import Schedule

_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")


def hold_states(
    adapted: Adapted,
    shares: Mapping[str, Share],
    dev: Mapping[str, Prepared],
    schedule: Schedule,
    settings: TrainSettings,
    folder: Path,
    report: Callable[[float, str], None],
) -> tuple[dict[str, Share], dict[str, Prepared], dict[str, Any] | None]:
    """The shares and development splits, those that are read more than once with their hidden states.

    Args:
        shares: in the order of ``schedule.sizes``.
        folder: the stage's own; the states live as long as the stage is not done.

    Returns:
        ... and the facts for the manifest, None when nothing lies below what trains.
    """
    shares, dev = dict(shares), dict(dev)
    holding = Holding(adapted, folder, report, settings.batch)
    if not holding.layers:
        return shares, dev, None
    why = _problem(adapted, settings)
    for number, (key, share) in enumerate(shares.items()):
        size = len(share.chosen)
        if int((schedule.shares == number).sum()) * min(settings.batch, size) > size:
            reason = why or (share.masking and "every pass hides other words")
            if reason:
                holding.leave(key, reason)
            else:
                shares[key] = replace(share, arrays=holding.hold(key, share.arrays, share.chosen))
    for key, split in dev.items() if why is None and settings.evaluate > 1 else ():
        if split.task.format != "masked_lm":
            arrays = holding.hold(f"dev of {key}", split.arrays, np.arange(min(settings.dev_limit, len(split.arrays))))
            dev[key] = replace(split, arrays=arrays)
    return shares, dev, {"layers": holding.layers, "bytes": holding.bytes, "unused": holding.unused}


def layers_below(adapted: Adapted) -> int:
    """How many layers lie below every parameter that trains; one that belongs to no layer lies at the bottom."""
    found = map(_LAYER.search, adapted.trainable())
    return min((int(layer[1]) if layer else 0 for layer in found), default=0)


def _problem(adapted: Adapted, settings: TrainSettings) -> str | None:
    """Why nothing can be held in this run; None: it can."""
    if not adapted.engine.cache:
        return "engine.cache is 0"
    if not adapted.packed:
        return "runs padded"
    if settings.base_dropout:
        return "base_dropout draws other states in every pass"
    return "several processes share the updates" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else None


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
    """Writes and finds the hidden states of a run, while they fit in ``engine.cache`` and on the disk."""

    adapted: Adapted
    folder: Path
    report: Callable[[float, str], None]
    examples: int  # of a batch while states are computed: no larger than an update
    bytes: int = 0
    unused: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = layers_below(self.adapted)

    def hold(self, key: str, arrays: Any, chosen: NDArray[np.int64]) -> Any:
        """The arrays with the hidden states of the chosen examples, or as they are where these do not fit."""
        chosen = np.sort(chosen)
        lengths = lengths_of(arrays.rows, arrays.examples)[chosen]
        element = DTYPES[self.adapted.base.precision].itemsize
        size, free = int(lengths.sum()) * self.adapted.base.width * element, self.adapted.engine.cache - self.bytes
        if size > free:
            self.leave(key, f"{size / 1e9:.2f} GB of hidden states, and engine.cache leaves {free / 1e9:.2f}")
            return arrays
        path = self._path(arrays, chosen)
        if not path.exists() and size > shutil.disk_usage(self.folder).free:
            self.leave(key, f"{size / 1e9:.2f} GB of hidden states do not fit on the disk")
            return arrays
        rows = np.concatenate([[0], np.cumsum(lengths)])
        stored = np.float32 if element == 4 else np.int16
        states = States(path, arrays.rows[arrays.examples[chosen]], rows, self.adapted.base.width, stored)
        if not path.exists():
            self._write(key, states, arrays, chosen)
        self.bytes += size
        held: Any = states
        return replace(arrays, fields={**arrays.fields, f"{HELD}{self.layers}": ("state", held)})

    def leave(self, key: str, why: str) -> None:
        """Say that nothing is held of some data."""
        self.unused[key] = why
        self.report(0.0, f"layers below the module run in every pass over {key}: {why}")

    def _path(self, arrays: Any, chosen: NDArray[np.int64]) -> Path:
        """Named by all that decides the states, except what is the same in all of a stage: base and weights."""
        adapted = self.adapted
        tree = None if adapted.tree is None else format_tree(adapted.tree)
        known = [self.layers, adapted.base.precision, adapted.engine.attention, str(adapted.model.device), tree]
        name = hashlib.sha256(json.dumps([*known, torch.__version__]).encode())
        for example in chosen:
            rows = arrays.rows[arrays.examples[example] : arrays.examples[example + 1] + 1]
            name.update(np.diff(rows).tobytes())
            name.update(np.ascontiguousarray(arrays.ids[rows[0] : rows[-1]]).tobytes())
        return self.folder / f"states-{name.hexdigest()[:16]}.bin"

    def _write(self, key: str, states: States, arrays: Any, chosen: NDArray[np.int64]) -> None:
        adapted = self.adapted
        adapted.train_mode(False)
        new = replace(states, path=states.path.with_suffix(".new"))
        lengths = lengths_of(arrays.rows, arrays.examples)[chosen]
        places: Any = _Themselves()
        done, tokens = 0, min(adapted.engine.tokens, int(self.examples * lengths.mean()))
        for number, part in enumerate(by_length(lengths, tokens)):
            batch = collate(
                arrays.ids,
                arrays.rows,
                arrays.examples,
                {"place": ("token", places)},
                chosen[part],
                pad_id=adapted.base.pad_id,
            )
            found = self._below(batch.to(adapted.model.device))
            mapped = new.open("r+" if number else "w+")
            mapped[states.places(batch.fields["place"].numpy())] = found
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
