"""Reading a resolved source: columns, labels, filters and blanked labels, the same for every file format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from adapterstilts.data.lines import lines_of
from adapterstilts.data.readers import READERS
from adapterstilts.data.sources import Resolved, hub_config
from adapterstilts.errors import DataError, MissingDependency
from adapterstilts.tasks.formats.base import Example, Row
from adapterstilts.tasks.spec import Column, SourceSpec

LABEL_FIELD = {"tagging": "tags", "span": "answers"}


def read(resolved: Resolved) -> Iterator[Row]:
    """The rows of a source with the task's own field names (``Format.parse`` makes canonical examples of them).

    Raises:
        DataError: missing files, missing columns, gold labels that do not fit, anything the readers raise.
    """
    resolved.require()
    source = resolved.source
    if source.kind == "concat":
        for part in resolved.parts:
            for row in read(part):
                yield Row({**row.values, "id": f"{part.task.name}:{row.values['id']}"}, row.where)
        return
    if source.kind == "lab":
        yield from _lab_rows(resolved)
        return
    label = LABEL_FIELD.get(resolved.task.format, "label")
    gold = _gold(resolved)
    index = -1
    for row in _raw_rows(resolved):
        # Positions in gold files count the rows of the file, before any is dropped.
        index += 1
        values = columns(row, source, optional=label if resolved.split in source.blanked else None)
        if resolved.split in source.blanked:
            values[label] = None
        if label in values and dropped(values[label], source):
            continue
        if label in values:
            values[label] = mapped(values[label], source)
        values["id"] = str(values["id"]) if values.get("id") not in (None, "") else str(index)
        if gold is not None:
            values[label] = gold.label(index, values["id"], row.where)
        yield Row(values, row.where)
    if gold is not None:
        gold.finish(index + 1)


def _raw_rows(resolved: Resolved) -> Iterator[Row]:
    source = resolved.source
    rows = _hub_rows(resolved) if source.kind == "hub" else _file_rows(resolved)
    if source.filter is not None:
        rows = _filtered(rows, resolved)
    begin, end = source.slice.get(resolved.split, (0, None))
    return islice(rows, begin, end)


def _file_rows(resolved: Resolved) -> Iterator[Row]:
    options = {**resolved.source.options, "language": resolved.language, "split": resolved.split}
    for path in resolved.files["rows"]:
        yield from READERS[resolved.source.reader](path, options)


def _hub_rows(resolved: Resolved) -> Iterator[Row]:
    source = resolved.source
    name = f"hub:{source.repo}:{hub_config(resolved)}:{source.splits[resolved.split]}"
    if resolved.files:
        import pyarrow.parquet as parquet
        from pyarrow.lib import ArrowException

        index = 0
        for path in resolved.files["rows"]:
            try:
                for batch in parquet.ParquetFile(path).iter_batches():
                    for values in batch.to_pylist():
                        yield Row(values, f"{path}: row {index}")
                        index += 1
            except (ArrowException, OSError) as error:
                fix = "fetch it again"
                raise DataError(
                    "not readable as parquet", where=f"{path}: row {index}", why=str(error), fix=fix
                ) from error
        return
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise MissingDependency("the Hub needs the package `datasets`", fix="pip install datasets") from error
    try:
        config = hub_config(resolved) if source.config else None
        data = load_dataset(source.repo, config, split=source.splits[resolved.split], revision=source.revision)
    except Exception as error:
        raise DataError(
            "the Hub does not give this data set",
            where=name,
            why=str(error).splitlines()[0] if str(error) else type(error).__name__,
            fix="give local files (`--data DIR`), or check name and revision in the task's YAML",
        ) from error
    for index, values in enumerate(data):
        yield Row(values, f"{name}: row {index}")


def _lab_rows(resolved: Resolved) -> Iterator[Row]:
    from adapterstilts import lab

    name = f"{resolved.source.task}/{resolved.language}/{resolved.split}"
    count = resolved.size
    if count is None:
        raise DataError(f"no size for the split {resolved.split}", where=name, fix="give `sizes:` in the task's YAML")
    try:
        examples = lab.generate(
            str(resolved.source.task), resolved.language, resolved.split, count, seed=resolved.source.seed
        )
    except ValueError as error:
        raise DataError("the lab cannot make this", where=name, why=str(error)) from error
    for index, example in enumerate(examples):
        yield Row(example, f"{name}: example {index}")


def _filtered(rows: Iterator[Row], resolved: Resolved) -> Iterator[Row]:
    rule = resolved.source.filter
    assert rule is not None
    fill = {"language": resolved.language, "code": resolved.source.code(resolved.language)}
    equals = None if rule.equals is None else rule.equals.format_map(fill)
    prefix = None if rule.prefix is None else rule.prefix.format_map(fill)
    for row in rows:
        value = str(dig(row, rule.column))
        if (equals is None or value == equals) and (prefix is None or value.startswith(prefix)):
            yield row


def columns(row: Row, source: SourceSpec, optional: str | None = None) -> dict[str, Any]:
    """A raw row with our field names. ``optional``: a field that may be missing (blanked labels)."""
    if not source.columns:
        return dict(row.values)
    made: dict[str, Any] = {}
    for name, column in source.columns.items():
        try:
            made[name] = _column(row, column)
        except DataError:
            if name != optional:
                raise
            made[name] = None
    return made


def _column(row: Row, column: Column) -> Any:
    if isinstance(column, dict):
        return column["value"]
    if isinstance(column, list):
        return [dig(row, part) for part in column]
    return dig(row, column)


def dig(row: Row, path: str | int) -> Any:
    """A column by name, position or dotted path; through a list the path goes on in each item.

    ``a|b`` takes b where there is no a; an empty last alternative gives an empty text.
    """
    if path in row.values:
        return row.values[str(path)]
    first, bar, rest = str(path).partition("|")
    if bar:
        try:
            return dig(row, first)
        except DataError:
            return dig(row, rest) if rest else ""
    value: Any = row.values
    for part in str(path).split("."):
        items = value if isinstance(value, list) else [value]
        if any(not isinstance(item, Mapping) or part not in item for item in items):
            raise DataError(
                f"no column `{path}`",
                where=row.where,
                why=f"the row has {', '.join(map(str, row.values))}",
                fix="name the right one under `columns:` of the task's source",
            )
        value = [item[part] for item in items] if isinstance(value, list) else value[part]
    return value


def dropped(label: Any, source: SourceSpec) -> bool:
    """Whether the source leaves out examples of this label (SNLI's "-": no majority among annotators)."""
    return not isinstance(label, list | dict) and str(label) in source.drop


def mapped(label: Any, source: SourceSpec) -> Any:
    """A label, or each of a list of tags, through the label map; what the map lacks stays."""
    if not source.label_map or isinstance(label, dict):
        return label
    if isinstance(label, list):
        return [source.label_map.get(str(tag), tag) for tag in label]
    return source.label_map.get(str(label), label)


class _Gold:
    """Labels of blanked rows, by position or by id."""

    def __init__(self, labels: Sequence[Any] | Mapping[str, Any], last: str) -> None:
        self.labels = labels
        self.last = last  # file:line of the last label

    def label(self, index: int, key: str, where: str) -> Any:
        if isinstance(self.labels, Mapping):
            if key not in self.labels:
                raise DataError(f"no gold answer for `{key}`", where=where, why=f"looked for up to {self.last}")
            return self.labels[key]
        if index >= len(self.labels):
            raise DataError(f"only {len(self.labels)} gold labels", where=self.last, why=f"but there is {where}")
        return self.labels[index]

    def finish(self, rows: int) -> None:
        if not isinstance(self.labels, Mapping) and len(self.labels) != rows:
            raise DataError(f"{len(self.labels)} gold labels for {rows} rows", where=self.last)


def _gold(resolved: Resolved) -> _Gold | None:
    if resolved.gold is None or not resolved.gold_files:
        return None
    path = resolved.gold_files[0]
    form = resolved.gold.form
    if form == "lines":
        numbered = [(number, line.strip()) for number, line in lines_of(path) if line.strip()]
        labels = [resolved.source.label_map.get(label, label) for _, label in numbered]
        return _Gold(labels, f"{path}:{numbered[-1][0] if numbered else 1}")
    if form == "tags":
        sentences = list(READERS["conll"](path, {}))  # one column: the tags
        return _Gold([row.values["words"] for row in sentences], sentences[-1].where if sentences else f"{path}:1")
    if form == "squad":
        answers: dict[str, Any] = {}
        for row in READERS["squad"](path, {}):
            if answers.setdefault(str(row.values["id"]), row.values["answers"]) is not row.values["answers"]:
                raise DataError("a question has gold answers twice", where=row.where)
        return _Gold(answers, str(path))
    raise DataError(f"gold of the form {form} does not fit {resolved.task.format}", where=str(path))


def read_examples(resolved: Resolved) -> Iterator[Example]:
    """Canonical examples of a source (all formats but bitext)."""
    from adapterstilts.tasks.formats import get_format

    form = get_format(resolved.task.format)
    for row in read(resolved):
        yield form.parse(row, resolved.task)
