"""What a study's page is made of: question, design, contrasts, tables, figures. All of it comes from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from typing import Any

from adapterstilts.errors import RecipeError
from adapterstilts.report.figures import Figure
from adapterstilts.report.results import Results, Target
from adapterstilts.study.contrast import Contrast, judged
from adapterstilts.study.gains import Examples
from adapterstilts.study.published import PublishedRow
from adapterstilts.study.scores import Score, Scores


@dataclass(frozen=True)
class Number:
    """A number as text, with the score rows it comes from."""

    text: str
    rows: tuple[Score, ...] = ()


Cell = str | Number


@dataclass(frozen=True)
class Table:
    """A table of the page; columns after the first ``left`` are numbers."""

    title: str
    head: tuple[str, ...]
    body: tuple[tuple[Cell, ...], ...]
    note: str = ""
    left: int = 1


@dataclass(frozen=True)
class Part:
    """A part of the question, and the contrasts that answer it."""

    title: str
    contrasts: tuple[Contrast, ...]


def parts(asked: Mapping[str, Sequence[Contrast | None]]) -> tuple[Part, ...]:
    """The parts that have contrasts, by title; all contrasts are judged as one family."""
    there = {title: [item for item in found if item is not None] for title, found in asked.items()}
    made = iter(judged(chain.from_iterable(there.values())))
    return tuple(Part(title, tuple(islice(made, len(found)))) for title, found in there.items() if found)


@dataclass(frozen=True)
class Study:
    """A study. ``answer``, ``found`` and ``not_found`` are sentences beside those made of the contrasts."""

    name: str
    question: str
    design: tuple[str, ...]
    parts: tuple[Part, ...]
    results: Results
    tables: tuple[Table, ...] = ()
    draw: Callable[[], Iterable[Figure | None]] = tuple  # only a page needs them
    answer: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    published: tuple[PublishedRow, ...] = ()
    plain: Mapping[str, Any] = field(default_factory=dict)

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        return tuple(item for part in self.parts for item in part.contrasts)

    @cached_property
    def figures(self) -> tuple[Figure, ...]:
        """The figures that the numbers allow; drawn when they are first asked for."""
        return tuple(figure for figure in self.draw() if figure is not None)


@dataclass(frozen=True)
class Material:
    """What a study is made from: the results of its run, the roles its recipe gives to arms and targets."""

    results: Results
    roles: Mapping[str, Any]
    examples: Examples | None = None

    def role(self, name: str) -> Any:
        """A role of the recipe. Raises RecipeError where it is missing."""
        if name not in self.roles:
            fix = f"study: {{{name}: ...}}"
            raise RecipeError(f"this study needs `{name}`", where="study", why="the recipe does not say it", fix=fix)
        return self.roles[name]

    def name(self, key: str) -> str:
        return self.results.facts.name(key)

    def target(self, task: str) -> Target | None:
        return next((target for target in self.results.targets if target.task == task), None)

    def targets(self, arm: str) -> list[Target]:
        """The targets that an arm was measured on."""
        return [target for target in self.results.targets if target.result(arm)]

    def scores(self, target: Target) -> Scores:
        """The rows of a target by its metric and split."""
        return self.results.scores.targets().where(task=target.task).main(target.metric)

    def has(self, target: Target, *arms: str) -> bool:
        return all(target.result(arm) for arm in arms)


Maker = Callable[[Material], Study]
