"""Suites: tasks that are fetched, checked and submitted together, one YAML file each. Torch-free."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from adapterstilts.errors import RecipeError
from adapterstilts.settings import Settings
from adapterstilts.tasks.registry import TaskRegistry, explained, read_yaml
from adapterstilts.tasks.spec import TaskSpec, split_task

SHIPPED = Path(__file__).parent
Part = tuple[str, str, str]  # task, language, split
POOL = "pool"  # the split of a ranking task that holds its candidates


class Suite(Settings):
    """``groups``: title -> tasks. ``benchmark``: whose languages count; without, all languages of a task do.

    ``unread``: tasks that the benchmark's own scorer has no file for, with the reason; they are not exported.
    """

    name: str
    title: str = ""
    benchmark: str | None = None
    groups: dict[str, tuple[str, ...]]
    unread: dict[str, str] = {}
    citation: str = ""
    url: str = ""
    notes: tuple[str, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task for group in self.groups.values() for task in group)

    def languages(self, spec: TaskSpec) -> tuple[str, ...]:
        """The languages of a task that the suite's average takes."""
        return spec.benchmarks.get(self.benchmark or "", spec.languages)


def suite_names() -> list[str]:
    """The shipped suites."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def get_suite(name: str) -> Suite:
    """A shipped suite by name, or one of your own by the path of its YAML file.

    Raises:
        RecipeError: no such suite, or a broken file.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else SHIPPED / f"{name}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(name, suite_names(), n=1)
        fix = f"did you mean `{near[0]}`?" if near else "adapterstilts ls suites"
        raise RecipeError(f"no suite `{name}`", why=f"there are {', '.join(suite_names())}", fix=fix)
    located = read_yaml(path, "suite")
    try:
        return Suite.model_validate({"name": path.stem, **located.plain})
    except ValidationError as error:
        raise explained(error, located) from error


def is_suite(name: str) -> bool:
    """Whether a word names a suite rather than a task."""
    return name in suite_names() or Path(name).suffix in (".yaml", ".yml")


def parts_of(name: str, tasks: TaskRegistry, languages: tuple[str, ...] = ()) -> Iterator[Part]:
    """What a task, a task/language or a suite consists of, as (task, language, split).

    Of a task every split in every language. Of a suite the dev and test splits in the suite's languages, and the
    English train and dev split of the task that each is trained on: what zero-shot transfer needs.

    Args:
        languages: only these, of targets; training data stays.

    Raises:
        RecipeError: no such task or suite, or a language that it does not have.
    """
    if is_suite(name):
        yield from dict.fromkeys(_suite_parts(get_suite(name), tasks, languages))
        return
    task, language = split_task(name)
    spec = tasks.get(task)
    asked = (language,) if language else languages
    if absent := [code for code in asked if code not in spec.languages]:
        why = f"it has {', '.join(spec.languages)}"
        raise RecipeError(f"{task} does not have {', '.join(absent)}", why=why)
    yield from _held(spec, asked or spec.languages, spec.splits)


def _suite_parts(suite: Suite, tasks: TaskRegistry, languages: tuple[str, ...]) -> Iterator[Part]:
    for name in suite.tasks:
        spec = tasks.get(name)
        for trained in map(tasks.get, (*spec.before, spec.train_task)):
            if "train" not in trained.splits:
                continue
            own = trained.selection.language
            code = own if own in trained.languages else trained.languages[0]
            wanted = ("train", trained.selection.split)
            yield from ((trained.name, code, split) for split in wanted if split in trained.splits)
        chosen = [code for code in suite.languages(spec) if not languages or code in languages]
        yield from _held(spec, chosen, [split for split in spec.splits if split not in ("train", POOL)])
        if POOL in spec.splits:  # candidates of other languages are candidates too
            yield from _held(spec, spec.languages, [POOL])


def _held(spec: TaskSpec, languages: Sequence[str], splits: Sequence[str]) -> Iterator[Part]:
    """The parts that some source of the task claims to hold; all where it has no source but the user's own files."""
    for language in languages:
        for split in splits:
            if not spec.sources or any(source.has(language, split) for source in spec.sources):
                yield spec.name, language, split
