"""Looking at data sets and getting them: check, stats, leaks, fetch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterstilts.api import leaks as leaking
from adapterstilts.api.places import PathLike, open_store, open_tasks, recipe_files
from adapterstilts.data.hashes import FileHashes
from adapterstilts.data.sources import DataRoot, resolve
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import split_task, task_hash
from adapterstilts.tasks.suites import Part, is_suite, parts_of

if TYPE_CHECKING:
    from adapterstilts.data.fetch import Fetched

Root = PathLike | Mapping[str, Any] | DataRoot | None
Tasks = Iterable[PathLike] | TaskRegistry
Entry = dict[str, Any]


def root_of(data: Root) -> DataRoot:
    """Where data sets are looked for."""
    return DataRoot.of(Path(data) if isinstance(data, os.PathLike) else data)


def chosen(names: Iterable[str], tasks: TaskRegistry, languages: Iterable[str] = ()) -> list[Part]:
    """(task, language, split) of tasks and suites, each once."""
    names, codes = list(names), tuple(languages)
    parts: dict[Part, None] = {}
    for name in names:
        task = None if is_suite(name) else tasks.get(split_task(name)[0])
        held = codes if task is None or len(names) == 1 else tuple(code for code in codes if code in task.languages)
        if held or not codes:
            parts |= dict.fromkeys(parts_of(name, tasks, held))
    if codes and not parts:
        raise RecipeError(f"none of {', '.join(names)} is in {' or '.join(codes)}", fix="adapterstilts show TASK")
    return list(parts)


def check(
    names: Sequence[str], *, data: Root = None, task_files: Tasks = (), languages: Iterable[str] = ()
) -> Iterator[Entry]:
    """Read tasks or suites through, a report for each language and split as it is done.

    Yields:
        {name, task, language, split, source, count, published, missing, errors, warnings, findings: [{level, code,
        message, where, count}]}
    """
    from adapterstilts.data.checks import examine

    registry = open_tasks(task_files)
    root = root_of(data)
    for task, language, split in chosen(names, registry, languages):
        found = examine(registry.get(task), language, split, root, registry)
        yield {
            "name": f"{task}/{language} {split}",
            **{key: getattr(found, key) for key in ("task", "language", "split", "source", "count", "published")},
            "missing": found.missing,
            "errors": found.level("error"),
            "warnings": found.level("warning"),
            "findings": [asdict(finding) for finding in found.findings],
        }


def stats(
    names: Sequence[str],
    *,
    base: str,
    data: Root = None,
    task_files: Tasks = (),
    languages: Iterable[str] = (),
    limit: int | None = None,
) -> Iterator[Entry]:
    """What the tokenizer of a base makes of every language and split that is there.

    Yields:
        {name, task, language, split, n, rows, lengths: {mean, median, p95, longest}, unknown_rate, pieces_per_word,
        pieces_per_character, truncated_share, split_share, labels}
    """
    from adapterstilts.data.stats import stats as measured
    from adapterstilts.data.tokenise import Tokenizer
    from adapterstilts.stages.prepare import base_directory

    registry = open_tasks(task_files)
    root = root_of(data)
    tokenizer = Tokenizer.from_directory(base_directory(base))
    for task, language, split in chosen(names, registry, languages):
        resolved = resolve(registry.get(task), language, split, root, registry)
        if resolved.present:
            place = {"name": f"{task}/{language} {split}", "task": task, "language": language, "split": split}
            yield {**place, **measured(resolved, tokenizer, limit)}


def leaks(
    names: Sequence[str],
    *,
    data: Root = None,
    task_files: Tasks = (),
    store: PathLike | Store | None = None,
    languages: Iterable[str] = (),
) -> list[Entry]:
    """What train sets share with dev and test sets: of one recipe, or of tasks and suites.

    Returns:
        {name, train, test, n, examples, texts, share, samples} of each pair that shares a text; see `Overlap`.

    Raises:
        RecipeError: recipes mixed with tasks.
    """
    registry, opened = open_tasks(task_files), open_store(store)
    recipes = [name for name in names if name in recipe_files() or Path(name).is_file()]
    if recipes and len(names) > 1:
        raise RecipeError("one recipe, or tasks", why=f"`{recipes[0]}` is a recipe", fix="name them one by one")
    if recipes:
        from adapterstilts.api.planning import plan_recipe

        plan = plan_recipe(recipes[0], store=opened, task_files=registry).plan
        trains, tests = leaking.plan_items(plan, everything=True)
    else:
        trains, tests = _items(chosen(names, registry, languages), root_of(data), registry, opened)
    if not trains or not tests:
        lacking = "train" if not trains else "dev or test"
        raise DataError(f"nothing to compare: no {lacking} data here", why=f"of {', '.join(names)}", fix="--data DIR")
    return [
        {"name": f"{pair.train} > {pair.test}", **asdict(pair), "share": pair.share}
        for pair in leaking.compare(trains, tests, opened)
        if pair.texts
    ]


def _items(
    parts: Iterable[Part], root: DataRoot, registry: TaskRegistry, store: Store
) -> tuple[list[leaking.Item], list[leaking.Item]]:
    hashes = FileHashes(store.fingerprints)
    trains: list[leaking.Item] = []
    tests: list[leaking.Item] = []
    for task, language, split in parts:
        spec = registry.get(task)
        resolved = resolve(spec, language, split, root, registry)
        if resolved.present:
            identity = leaking.digest([task, task_hash(spec), split, resolved.fingerprint(hashes)])
            (trains if split == "train" else tests).append((identity, resolved))
    hashes.save()
    return trains, tests


def fetch(
    names: Sequence[str],
    out: PathLike,
    *,
    task_files: Tasks = (),
    languages: Iterable[str] = (),
    mirror: PathLike | None = None,
    revision: str | None = None,
    watch: Callable[[Fetched], None] | None = None,
) -> Entry:
    """Fetch tasks or suites from the Hub into a folder that ``--data`` reads; what is there already is kept.

    Returns:
        {schema_version, folder, manifest, files: [{name, state, rows, bytes, error, note}], without: parts that no Hub
        repository holds}
    """
    from adapterstilts.data.fetch import MANIFEST, wanted
    from adapterstilts.data.fetch import fetch as fetched

    registry = open_tasks(task_files)
    splits, without = wanted(chosen(names, registry, languages), registry)
    if not splits:
        first = split_task(names[0])[0]
        raise DataError("the Hub has none of this", why=f"no Hub source: {', '.join(without[:5])}", where=first)
    place = None if mirror is None else Path(mirror)
    done = fetched(splits, Path(out), mirror=place, revision=revision, watch=watch)
    return {
        "schema_version": 1,
        "folder": str(Path(out)),
        "manifest": str(Path(out) / "hub" / MANIFEST),
        "files": [
            {"name": f.split.name, **{key: getattr(f, key) for key in ("state", "rows", "bytes", "error", "note")}}
            for f in done
        ],
        "without": without,
    }
