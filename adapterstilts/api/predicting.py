"""Answers of modules to examples of one's own, streamed: rows in, predictions out, in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from adapterstilts.api import environment
from adapterstilts.api.places import PathLike, module_base, open_store, open_tasks
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.recipe.problems import nearest
from adapterstilts.settings import Precision
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from adapterstilts.data.arrays import Arrays
    from adapterstilts.modules.artifact import Module
    from adapterstilts.modules.composition import Tree
    from adapterstilts.tasks.spec import TaskSpec

Rows = Iterable[tuple[str, Mapping[str, Any]]]  # (where, canonical example without its label)
Key = tuple[str, str | None]  # a module, and what stands in its {language} slot; None: as in training
FORMATS = ("classification", "multiple_choice", "tagging", "span")
CHUNK = 256  # rows read before the first answers are written
ANSWERS = ("label", "tags", "answers")  # what a row may bring and is not looked at


def read_rows(stream: TextIO, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, object) of each line of JSONL; empty lines are skipped.

    Raises:
        DataError: a line that is no JSON object.
    """
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            fix = 'one object a line: {"text_a": "..."}'
            raise DataError("no JSON", where=where, why=str(error), fix=fix) from None
        if not isinstance(row, dict):
            raise DataError("no JSON object", where=where, why=f"it is {type(row).__name__}")
        yield where, {"id": str(number), **row}


def predict(
    module: str,
    task: str,
    rows: Rows | Iterable[Mapping[str, Any]],
    *,
    module_per_row: bool = False,
    slots: Mapping[str, str] | None = None,
    chunk: int = CHUNK,
    precision: Precision | None = None,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> Iterator[dict[str, Any]]:
    """The module's answer to each row, as it comes: {id, prediction} and, of a classification, its probabilities.

    Args:
        rows: canonical examples without labels (labels are not looked at), bare or as ``read_rows`` gives them.
        module_per_row: a row may name another module of the same base as ``module``; the rows of a chunk run in one
            pass over the base, each with its own module (those with invertible, prefix or full modules by themselves).
        slots: language -> the module that stands in {language} for rows of that ``language``; for others it is that
            of training.
        chunk: rows held at a time.
        precision: of the base; default that in which the module was trained.

    Raises:
        RecipeError: a task of another format, or one that a module has no head for. StoreError: no such module.
        DataError: a row that is no example of the task, with its place.
    """
    spec = open_tasks(task_files).get(task)
    if spec.format not in FORMATS:
        raise RecipeError(f"`{task}` is {spec.format}", why=f"answers are given for {', '.join(FORMATS)}")
    pool = _Pool(module, spec, slots or {}, open_store(store), precision)
    numbered = ((f"row {n}", row) if isinstance(row, Mapping) else row for n, row in enumerate(rows, start=1))
    return _answers(pool, numbered, module_per_row, chunk)


def _answers(pool: _Pool, rows: Iterator[Any], module_per_row: bool, chunk: int) -> Iterator[dict[str, Any]]:
    while some := list(islice(rows, chunk)):
        names = [str(row.get("module", pool.first)) if module_per_row else pool.first for _, row in some]
        keys = pool.keys(names, [row for _, row in some])
        found: dict[int, dict[str, Any]] = {}
        for together in pool.passes(keys):
            places = [place for place, key in enumerate(keys) if key in together]
            answers = pool.answer(together, [keys[place] for place in places], [some[place] for place in places])
            for place, answer in zip(places, answers, strict=True):
                found[place] = {**answer, "module": names[place]} if module_per_row else answer
        yield from (found[place] for place in range(len(some)))


class _Pool:
    """Modules over one base; activating another one moves no weights."""

    def __init__(
        self, first: str, task: TaskSpec, slots: Mapping[str, str], store: Store, precision: Precision | None
    ) -> None:
        environment.prepare()
        from adapterstilts.tasks.formats import get_format

        self.first, self.task, self.slots, self.store, self.precision = first, task, slots, store, precision
        self.format = get_format(task.format)
        self.modules: dict[str, Module] = {}
        self.heads: dict[str, Any] = {}
        self.active: tuple[Key, ...] = ()
        self._load([first], [])

    def keys(self, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[Key]:
        """For each row its module and what stands in that one's {language} slot; all of them are loaded.

        Raises:
            RecipeError: a module that cannot answer, or not over the base of the first.
        """
        self._load(names, [])
        found: list[Key] = []
        for name, row in zip(names, rows, strict=True):
            is_open = self.modules[name].filling is not None
            found.append((name, self.slots.get(str(row.get("language"))) if is_open else None))
        self._load([], [filling for _, filling in found if filling is not None])
        return found

    def passes(self, keys: Sequence[Key]) -> list[tuple[Key, ...]]:
        """Those that run in one pass over the base: all but what acts on more than single tokens."""
        from adapterstilts.modules.composition import leaves
        from adapterstilts.modules.methods import apart_problem, rows_of

        def apart(key: Key) -> bool:
            methods = [self.adapted.modules[leaf].method for leaf in leaves(self._tree(key))]
            return apart_problem(row.name for method in methods for row in rows_of(method)) is None

        different = list(dict.fromkeys(keys))
        sharing = tuple(key for key in different if apart(key)) if self.adapted.engine.packed else ()
        return [*([sharing] if sharing else []), *((key,) for key in different if key not in sharing)]

    def _tree(self, key: Key) -> Tree:
        name, filling = key
        return self.modules[name].bound(None if filling is None else self.modules[filling].bound())

    def _load(self, answering: Iterable[str], filling: Iterable[str]) -> None:
        """Read what is not there yet, attach all at once, and the heads of those that answer."""
        from adapterstilts.stages.train import make_head

        answering = [name for name in dict.fromkeys(answering) if name not in self.heads]
        for name in answering:
            self._check(name, self._read(name))
        new = [name for name in dict.fromkeys([*answering, *filling]) if name not in self.modules]
        if new:
            self._attach({name: self._read(name) for name in new})
        for name in answering:
            head = make_head(self.task, self.adapted.base)
            head.load_state_dict(self.modules[name].head(self.task.head_name))
            self.heads[name] = head.to(self.adapted.model.device)

    def _read(self, name: str) -> Module:
        from adapterstilts.modules.artifact import read_module

        if name not in self.store.names and self.modules:
            known = list(self.store.names)
            raise RecipeError(f"unknown module `{name}`", fix=nearest(name, known, "adapterstilts ls modules"))
        return read_module(self.store.path(self.store.resolve(name)))

    def _attach(self, new: Mapping[str, Module]) -> None:
        """Attach modules, with the ones that are there already, to the base."""
        from adapterstilts.data.tokenise import Tokenizer
        from adapterstilts.encoder.base import device, load_base
        from adapterstilts.modules.artifact import check_each
        from adapterstilts.modules.attach import Adapted

        first = next(iter({**self.modules, **new}.values()))
        base = load_base(str(module_base(self.store, [*self.modules, *new])), self.precision or first.precision)
        self.modules |= new
        leaves = {leaf: weights for module in self.modules.values() for leaf, weights in module.weights().items()}
        self.adapted = Adapted(base, leaves, None)
        check_each(self.adapted, new.values())
        self.adapted.to(device())
        self.active = ()
        self.tokenizer = Tokenizer.from_directory(base.directory)

    def _check(self, name: str, read: Module) -> None:
        about = read.heads.get(self.task.head_name)
        if about is None:
            why = f"it has heads for {', '.join(read.heads)}" if read.heads else "it has no head at all"
            fix = f"adapterstilts stack {name} --train {self.task.name}"
            raise RecipeError(f"`{name}` has no trained head for `{self.task.name}`", why=why, fix=fix)
        if self.task.format in ("classification", "tagging") and about["labels"] != list(self.task.labels):
            raise RecipeError(f"the labels of `{self.task.name}` are not those that `{name}` was trained with")
        other = next(iter(self.modules.values()), read)
        if self.precision is None and other.precision != read.precision:
            why = f"`{self.first}` is {other.precision}, and they share a base"
            raise RecipeError(f"`{name}` was trained in {read.precision}", why=why, fix="choose one: --base-precision")

    def answer(
        self, together: tuple[Key, ...], keys: Sequence[Key], rows: Sequence[tuple[str, Mapping[str, Any]]]
    ) -> Iterator[dict[str, Any]]:
        """The answers to rows, in order: ``keys`` says which of those that run together answers each."""
        from adapterstilts.evaluation.apart import outputs_apart
        from adapterstilts.evaluation.predict import outputs

        examples = [self._example(where, row) for where, row in rows]
        arrays = self._arrays(examples)
        self._activate(together)
        heads = [self.heads[name] for name, _ in together]
        if len(together) == 1:
            streamed = outputs(self.adapted, heads[0], arrays)
        else:
            streamed = outputs_apart(self.adapted, heads, arrays, np.array([together.index(key) for key in keys]))
        for index, (logits, example) in enumerate(zip(streamed, examples, strict=True)):
            prediction = self.format.decode(logits, arrays.view(index), example, self.task)
            yield {"id": example["id"], "prediction": prediction, **self._probabilities(logits)}

    def _activate(self, together: tuple[Key, ...]) -> None:
        if self.active == together:
            return
        used = [self.modules[part] for key in together for part in key if part is not None]
        fusion = {name: tensor for module in used for name, tensor in module.fusion().items()}
        trees = [self._tree(key) for key in together]
        if len(trees) == 1:
            self.adapted.activate(trees[0], fusion=fusion)
        else:
            self.adapted.activate_apart(trees, fusion=fusion)
        self.adapted.to(self.adapted.model.device)
        self.active = together

    def _example(self, where: str, row: Mapping[str, Any]) -> dict[str, Any]:
        from adapterstilts.tasks.formats.base import Row

        bare = {"id": where, **{key: value for key, value in row.items() if key not in ANSWERS}}
        return self.format.parse(Row(bare, where), self.task)

    def _arrays(self, examples: list[dict[str, Any]]) -> Arrays:
        from adapterstilts.data.arrays import arrays_of

        return arrays_of(self.format.encode(examples, self.tokenizer, self.task), self.format.fields)

    def _probabilities(self, logits: Any) -> dict[str, Any]:
        """Of a classification by label, of a multiple choice in the order of its choices."""
        if self.task.format not in ("classification", "multiple_choice"):
            return {}
        scores = np.concatenate([np.ravel(row) for row in logits]).astype(np.float64)
        shares = np.exp(scores - scores.max())
        values = [round(float(share), 6) for share in shares / shares.sum()]
        named = self.task.format == "classification"
        return {"probabilities": dict(zip(self.task.labels, values, strict=True)) if named else values}


def input_name(path: Path) -> str:
    """What places in an input are called."""
    return "stdin" if str(path) == "-" else str(path)
