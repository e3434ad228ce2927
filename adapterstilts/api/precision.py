"""What fewer bits of a base cost on given data, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from adapterstilts.api import environment
from adapterstilts.api.data import Root, Tasks, root_of
from adapterstilts.api.places import open_tasks
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.settings import Precision

if TYPE_CHECKING:
    from adapterstilts.data.arrays import Arrays
    from adapterstilts.tasks.spec import TaskSpec

FORMATS = ("classification", "multiple_choice", "tagging", "span")


def precision(
    base: str,
    task: str | None = None,
    *,
    examples: int = 16,
    data: Root = None,
    task_files: Tasks = (),
    precisions: Iterable[Precision] | None = None,
) -> Iterator[dict[str, Any]]:
    """The distance of each precision to fp32 on the first examples of a task, or on fixed random rows without one.

    Yields:
        {name, state, bytes, hidden, loss, cosine}, see `evaluation.distance.distances`.

    Raises:
        RecipeError: a task without a head. DataError: data or a base that are not there.
    """
    environment.prepare()
    import numpy as np

    from adapterstilts.encoder.base import Base
    from adapterstilts.encoder.batch import collate
    from adapterstilts.encoder.heads import build_head
    from adapterstilts.evaluation.distance import PRECISIONS, distances

    wanted = tuple(precisions) if precisions is not None else PRECISIONS
    spec = None if task is None else open_tasks(task_files).get(task)
    if spec is not None and spec.format not in FORMATS:
        raise RecipeError(f"`{task}` is {spec.format}", why=f"losses are compared for {', '.join(FORMATS)}")
    arrays = _fixed(base, examples) if spec is None else _first(base, spec, examples, data, task_files)
    pad = int(_config(base)["pad_token_id"])
    batch = collate(arrays.ids, arrays.rows, arrays.examples, arrays.fields, np.arange(len(arrays)), pad_id=pad)

    def head(loaded: Base) -> Any:
        if spec is None:
            return build_head("classification", loaded.width, 3)
        return build_head(spec.format, loaded.width, len(spec.labels), pool=spec.settings.pool)

    return distances(base, batch, head, wanted)


def _config(base: str) -> dict[str, Any]:
    import json

    from adapterstilts.stages.prepare import base_directory

    found: dict[str, Any] = json.loads((base_directory(base) / "config.json").read_text(encoding="utf-8"))
    return found


def _fixed(base: str, examples: int) -> Arrays:
    """Random subwords in rows of 4 to 60, labels in turn."""
    import numpy as np

    from adapterstilts.data.arrays import Arrays

    random = np.random.default_rng(0)
    lengths = random.integers(4, 61, examples)
    rows = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(4, int(_config(base)["vocab_size"]) - 1, rows[-1]).astype(np.int32)
    ids[rows[:-1]], ids[rows[1:] - 1] = 0, 2
    return Arrays(ids, rows, np.arange(examples + 1), {"label": ("example", np.arange(examples) % 3)})


def _first(base: str, spec: TaskSpec, examples: int, data: Root, task_files: Tasks) -> Arrays:
    """The first labelled examples of the task's dev split, or of the first split that is there, in English."""
    from adapterstilts.data.arrays import arrays_of
    from adapterstilts.data.sources import resolve
    from adapterstilts.data.stats import examples_of
    from adapterstilts.data.tokenise import Tokenizer
    from adapterstilts.stages.prepare import base_directory
    from adapterstilts.tasks.formats import get_format

    registry, form = open_tasks(task_files), get_format(spec.format)
    language = spec.selection.language if spec.selection.language in spec.languages else spec.languages[0]
    for split in sorted(spec.splits, key=("dev", "train", "test").index):
        resolved = resolve(spec, language, split, root_of(data), registry)
        if resolved.present and resolved.labelled:
            known = (example for example in examples_of(resolved) if form.gold(example, resolved.task) is not None)
            tokenizer = Tokenizer.from_directory(base_directory(base))
            encoded = form.encode(list(islice(known, examples)), tokenizer, resolved.task)
            return arrays_of(encoded, form.fields)
    raise DataError(f"no labelled data of `{spec.name}` in {language}", fix="--data DIR")
