"""What decides a stage's memory, gathered from its spec, its parents' specs and, where they are, their artifacts.

Torch-free, and each stage, file and task is looked at once: a plan may have ten thousand stages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from adapterstilts.data.arrays import read_arrays
from adapterstilts.data.prepared import read_task
from adapterstilts.errors import AdapterstiltsError
from adapterstilts.modules.composition import leaves
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.methods import resolve
from adapterstilts.modules.sizes import base_shape
from adapterstilts.settings import MethodSettings, Precision
from adapterstilts.stages.forecast import ROWS_A_LANGUAGE, Lengths, Work
from adapterstilts.stages.specs import EvaluateSpec, RetrieveSpec, Spec, TrainSpec
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec

READS_FIRST = ("classification", "multiple_choice")
CHOICES = 4  # rows of a multiple-choice example, until the data are tokenised
Find = Callable[[str], Mapping[str, Any] | None]  # hash -> {kind, spec, parents} of a planned or stored stage


class Works:
    """The work of stages by their specs and parents.

    Args:
        tasks: for data that are not tokenised yet; without it they must be.
    """

    def __init__(self, store: Store, find: Find, tasks: TaskRegistry | None = None) -> None:
        self.store, self.tasks = store, tasks
        self._find, self._shape = cache(find), cache(base_shape)
        self._lengths, self._methods = cache(self._read_lengths), cache(self._read_methods)
        self._task, self._declared = cache(self._read_task), cache(self._read_declared)

    def of(self, spec: Spec, parents: Mapping[str, str]) -> Work | None:
        """Of a training, evaluation or retrieval stage; None for others, and for a base of unknown shape."""
        if not isinstance(spec, TrainSpec | EvaluateSpec | RetrieveSpec):
            return None
        try:
            return self._work(spec, parents)
        except AdapterstiltsError:
            return None

    def _work(self, spec: TrainSpec | EvaluateSpec | RetrieveSpec, parents: Mapping[str, str]) -> Work:
        data = [hash for role, hash in parents.items() if role.startswith(("train:", "dev:", "data:", "pool:"))]
        found = [self._lengths(hash) for hash in data]
        lengths = found[0]
        for other in found[1:]:
            lengths = lengths.together(other)
        shape, fused, batch, stored = self._shape(spec.base.ref), 0, None, 0
        below = [hash for role, hash in parents.items() if role.startswith(("module", "start", "bind:"))]
        modules = tuple(method for hash in below for method in self._methods(hash))
        if isinstance(spec, TrainSpec):
            modules += () if spec.method is None else (resolve(spec.method),)
            fused = len(leaves(parse(spec.below))) if spec.below is not None and "fuse(" in spec.below else 0
            precision, batch = spec.settings.precision, spec.settings.batch
        else:
            precision = spec.precision or self._trained_in(spec.module)
        if isinstance(spec, RetrieveSpec):
            layers = shape.layers + 1 if spec.layers == "all" else len(spec.layers)
            stored = max(self._sentences(hash, spec.limit) for hash in data) * layers * shape.width * 4
        task = self._task(data[0])
        return Work(
            shape=shape,
            precision=precision,
            engine=spec.engine,
            lengths=lengths,
            modules=modules,
            fused=fused,
            batch=batch,
            reads_first=task is not None and task.format in READS_FIRST and task.settings.pool == "cls",
            stored=stored,
            base_dropout=isinstance(spec, TrainSpec) and spec.settings.base_dropout,
            all_rows=task is not None and task.format == "masked_lm",
        )

    # -- modules ----------------------------------------------------------------------------------------------------

    def _read_methods(self, hash: str) -> tuple[MethodSettings, ...]:
        """The methods of everything that a module stands on, itself last."""
        stage = self._find(hash)
        if stage is None:
            return ()
        spec = stage["spec"]
        parents = [h for role, h in stage["parents"].items() if role.startswith(("module", "start", "bind:"))]
        below = tuple(method for parent in parents for method in self._methods(parent))
        if stage["kind"] == "merge":
            return below[-1:]
        own = spec.get("method")
        return below if own is None else (*below, resolve(MethodSettings.model_validate(own)))

    def _trained_in(self, hash: str | None) -> Precision:
        stage = None if hash is None else self._find(hash)
        if stage is None:
            return "fp32"
        if stage["kind"] == "train":
            precision: Precision = stage["spec"]["settings"]["precision"]
            return precision
        below = (h for role, h in stage["parents"].items() if role.startswith("module"))
        return next((self._trained_in(h) for h in below), "fp32")

    # -- data -------------------------------------------------------------------------------------------------------

    def _read_task(self, data: str) -> TaskSpec | None:
        """The task of a data stage that was, or will be, prepared."""
        if self.store.has(data):
            return read_task(self.store.path(data))
        stage = self._find(data)
        if stage is None or self.tasks is None:
            return None
        return self._declared(stage["spec"]["task"], json.dumps(stage["spec"].get("overrides")))

    def _read_declared(self, name: str, overrides: str) -> TaskSpec:
        assert self.tasks is not None
        return self.tasks.get(name, json.loads(overrides) or None)

    def _read_lengths(self, hash: str) -> Lengths:
        if self.store.has(hash):
            return counted(self.store.path(hash))
        task = self._task(hash)
        rows = CHOICES if task is not None and task.format == "multiple_choice" else 1
        longest = (512 if task is None else task.settings.max_length) * rows
        return Lengths(float(longest), 0.0, longest, ROWS_A_LANGUAGE, known=False)

    def _sentences(self, hash: str, limit: int | None) -> int:
        """Sentences of both sides of a bitext; 0 until they are prepared."""
        if not self.store.has(hash):
            return 0
        counts = (len(read_arrays(place)) for place in _places(self.store.path(hash)))
        return sum(min(count, limit or count) for count in counts)


def counted(directory: Path) -> Lengths:
    """The lengths of prepared data; both sides of a bitext."""
    sides = [read_arrays(place) for place in _places(directory)]
    tokens = np.concatenate([side.rows[side.examples[1:]] - side.rows[side.examples[:-1]] for side in sides])
    occurring = [np.unique(side.ids) for side in sides]
    return Lengths.of(tokens, len(np.unique(np.concatenate(occurring))))


def _places(directory: Path) -> Iterable[Path]:
    sides = [directory / name for name in ("source", "target") if (directory / name).is_dir()]
    return sides or [directory]
