"""What decides a stage's memory, gathered from its spec, its parents' specs and, where they are, their artifacts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from adapterstilts.data.arrays import Arrays, read_arrays
from adapterstilts.errors import AdapterstiltsError
from adapterstilts.modules.composition import leaves, parse
from adapterstilts.modules.methods import resolve
from adapterstilts.modules.sizes import base_shape
from adapterstilts.settings import MethodSettings
from adapterstilts.stages.forecast import ROWS_A_LANGUAGE, Lengths, Work
from adapterstilts.stages.specs import EvaluateSpec, RetrieveSpec, Spec, TrainSpec
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec

READS_FIRST = ("classification", "multiple_choice")
CHOICES = 4  # rows of a multiple-choice example, until the data are tokenised
Find = Callable[[str], Mapping[str, Any] | None]  # hash -> {kind, spec, parents} of a planned or stored stage


def work_of(
    spec: Spec, parents: Mapping[str, str], store: Store, find: Find, tasks: TaskRegistry | None = None
) -> Work | None:
    """The work of a training, evaluation or retrieval stage; None for others, and for a base of unknown shape.

    Args:
        tasks: for data that are not tokenised yet; without it they must be.
    """
    if not isinstance(spec, TrainSpec | EvaluateSpec | RetrieveSpec):
        return None
    try:
        return _work(spec, parents, store, find, tasks)
    except AdapterstiltsError:
        return None


def _work(
    spec: TrainSpec | EvaluateSpec | RetrieveSpec,
    parents: Mapping[str, str],
    store: Store,
    find: Find,
    tasks: TaskRegistry | None,
) -> Work:
    data = [hash for role, hash in parents.items() if role.startswith(("train:", "dev:", "data:"))]
    found = [_lengths(hash, store, find, tasks) for hash in data]
    lengths = found[0]
    for other in found[1:]:
        lengths = lengths.together(other)
    shape = base_shape(spec.base.ref)
    engine = spec.engine
    if isinstance(spec, TrainSpec):
        name = spec.mix[0].task
        overrides = spec.overrides.get(name)
        below = [hash for role, hash in parents.items() if role.startswith(("module:", "bind:"))]
        modules = [method for hash in below for method in _methods(hash, find)]
        modules += [resolve(spec.method)] if spec.method is not None else _methods(str(spec.start), find)
        fused = len(leaves(parse(spec.below))) if spec.below is not None and "fuse(" in spec.below else 0
        precision, batch = spec.settings.precision, spec.settings.batch
    else:
        name, overrides = spec.task, spec.overrides
        modules = _methods(spec.module, find) if spec.module is not None else []
        fused, batch = 0, None
        precision = spec.precision or _trained_in(spec.module, find)
    task = _task(name, overrides, data[0], store, tasks)
    stored = 0
    if isinstance(spec, RetrieveSpec):
        layers = shape.layers + 1 if spec.layers == "all" else len(spec.layers)
        stored = max((_sentences(hash, store, spec.limit) for hash in data), default=0) * layers * shape.width * 4
    return Work(
        shape=shape,
        precision=precision,
        engine=engine,
        lengths=lengths,
        modules=tuple(modules),
        fused=fused,
        batch=batch,
        reads_first=task is not None and task.format in READS_FIRST and task.settings.pool == "cls",
        stored=stored,
        all_rows=task is not None and task.format == "masked_lm",
    )


# -- modules ----------------------------------------------------------------------------------------------------------


def _methods(hash: str, find: Find) -> list[MethodSettings]:
    """The methods of everything that a module stands on, itself last."""
    stage = find(hash)
    if stage is None:
        return []
    spec = stage["spec"]
    parents = [h for role, h in stage["parents"].items() if role.startswith(("module:", "start", "bind:"))]
    below = [method for parent in parents for method in _methods(parent, find)]
    if stage["kind"] == "merge":
        return below[-1:]
    return below if spec.get("method") is None else [*below, resolve(MethodSettings.model_validate(spec["method"]))]


def _trained_in(hash: str | None, find: Find) -> Any:
    stage = None if hash is None else find(hash)
    if stage is None:
        return "fp32"
    if stage["kind"] == "train":
        return stage["spec"]["settings"]["precision"]
    return next((_trained_in(h, find) for role, h in stage["parents"].items() if role.startswith("module:")), "fp32")


# -- data -------------------------------------------------------------------------------------------------------------


def _task(name: str, overrides: Any, data: str, store: Store, tasks: TaskRegistry | None) -> TaskSpec | None:
    if store.has(data):
        return TaskSpec.model_validate_json((store.path(data) / "task.json").read_text(encoding="utf-8"))
    return None if tasks is None else _declared(tasks, name, json.dumps(overrides))


@lru_cache(maxsize=512)
def _declared(tasks: TaskRegistry, name: str, overrides: str) -> TaskSpec:
    return tasks.get(name, json.loads(overrides) or None)


def _lengths(hash: str, store: Store, find: Find, tasks: TaskRegistry | None) -> Lengths:
    if store.has(hash):
        return counted(store.path(hash))
    stage = find(hash)
    spec = {} if stage is None else stage["spec"]
    task = None if tasks is None or not spec else _declared(tasks, spec["task"], json.dumps(spec.get("overrides")))
    longest = 512 if task is None else task.settings.max_length
    rows = CHOICES if task is not None and task.format == "multiple_choice" else 1
    return Lengths(float(longest * rows), 0.0, longest * rows, ROWS_A_LANGUAGE, known=False)


@cache
def counted(directory: Path) -> Lengths:
    """The lengths of prepared data; both sides of a bitext."""
    sides = [read_arrays(place) for place in _places(directory)]
    tokens = np.concatenate([_tokens(side) for side in sides])
    occurring = [np.unique(side.ids) for side in sides]
    return Lengths.of(tokens, len(np.unique(np.concatenate(occurring))))


def _places(directory: Path) -> Iterable[Path]:
    sides = [directory / name for name in ("source", "target") if (directory / name).is_dir()]
    return sides or [directory]


def _tokens(arrays: Arrays) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.asarray(arrays.rows[arrays.examples[1:]] - arrays.rows[arrays.examples[:-1]])


def _sentences(hash: str, store: Store, limit: int | None) -> int:
    """Sentences of both sides of a bitext; 0 until they are prepared."""
    if not store.has(hash):
        return 0
    counts = (len(read_arrays(place)) for place in _places(store.path(hash)))
    return sum(min(count, limit or count) for count in counts)
