"""What a study's page says: question, design, contrasts, tables, figures. Everything in it is made from the numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from adapterstilts.errors import RecipeError
from adapterstilts.report.figures import Figure
from adapterstilts.report.results import Results, Target
from adapterstilts.report.words import NONE, listed, number, plural, signed, span
from adapterstilts.study.contrast import Contrast
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
class Study:
    """A study with its answer. ``found`` and ``not_found`` are sentences beside those made of the contrasts."""

    name: str
    question: str
    design: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    results: Results
    tables: tuple[Table, ...] = ()
    draw: Callable[[], Iterable[Figure | None]] = tuple  # only a page needs them
    found: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    published: tuple[PublishedRow, ...] = ()
    plain: Mapping[str, Any] = field(default_factory=dict)

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


def tell(item: Contrast, name: Callable[[str], str]) -> str:
    """A contrast as a sentence; what was not found says what remains possible."""
    ends = span(item.interval, sign=True)
    said = f"**{name(item.a)}** against **{name(item.b)}**, {item.of}: {signed(item.mean)} points"
    said += f" (95 % interval {ends}; {plural(len(item.values), 'run')})" if ends else " (one run, no interval)"
    low, high = item.interval.low, item.interval.high
    if item.found != "no difference found" or low is None or high is None:
        return said + "."
    rest = "" if not item.interval.excludes(0) else f", the interval alone leaves out zero, not so after {item.family}"
    rest += " comparisons" if rest else ""
    return f"{said}; up to {number(max(abs(low), abs(high)))} points either way remain possible{rest}."


def findings(study: Study) -> list[str]:
    """What was found, in the order of the study."""
    name = study.results.facts.name
    told = [tell(item, name) for item in study.contrasts if item.found != "no difference found"]
    return [*study.found, *told]


def not_found(study: Study) -> list[str]:
    """What was looked for and not found."""
    name = study.results.facts.name
    told = [tell(item, name) for item in study.contrasts if item.found == "no difference found"]
    return [*study.not_found, *told]


def contrast_table(study: Study) -> Table:
    """Every contrast with its tests."""
    name = study.results.facts.name
    body = tuple(
        (
            f"{name(item.a)} − {name(item.b)}",
            item.of,
            Number(number(item.left), item.rows),
            Number(number(item.right), item.rows),
            Number(signed(item.mean, 2), item.rows),
            span(item.interval, sign=True) or NONE,
            f"{len(item.values)} {item.interval.unit}s" if item.interval.unit != "run" else str(len(item.values)),
            _p(item.p),
            _p(item.adjusted),
            _p(item.flip),
            number(item.effect, 2),
            item.found,
        )
        for item in study.contrasts
    )
    head = (
        "Contrast",
        "Of",
        "first",
        "second",
        "difference",
        "95 %",
        "runs",
        "p",
        "p (Holm)",
        "p (flip)",
        "d_z",
        "said",
    )
    return Table("All contrasts", head, body, "Holm's correction is over all contrasts of this page.", 2)


def _p(value: float | None) -> str:
    return NONE if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def budget(material: Material, arms: Sequence[str]) -> str:
    """What was spent on the arms: updates and trained parameters in all, equal or not."""
    facts = material.results.facts
    spent: dict[str, set[tuple[int, int]]] = {}
    for row in material.results.scores.targets().where(arm=list(arms)).rows:
        fact = facts.stages.get(row.stage)
        if fact and fact.updates and fact.trained:
            spent.setdefault(row.arm, set()).add((fact.updates, fact.trained))
    sums = {pair for pairs in spent.values() for pair in pairs}
    if not sums:
        return "The number of updates is not known here."
    if len(sums) == 1:
        updates, trained = next(iter(sums))
        return f"Every arm had {updates} updates and {trained:,} trained parameters in all (heads not counted)."
    each = [
        f"{facts.name(arm)} {listed([f'{u} updates, {p:,} parameters' for u, p in sorted(pairs)])}"
        for arm, pairs in spent.items()
    ]
    steps, sizes = ({pair[k] for pair in sums} for k in (0, 1))
    alike = [f"{next(iter(steps))} updates"] if len(steps) == 1 else []
    alike += [f"{next(iter(sizes)):,} trained parameters"] if len(sizes) == 1 else []
    first = f"All arms had {' and '.join(alike)}; the rest differs. " if alike else "The arms did not cost the same. "
    return first + "In all, heads not counted: " + "; ".join(each) + "."


def arms_told(material: Material, arms: Sequence[str]) -> str:
    """The arms with their descriptions."""
    known = {arm.name: arm.description for arm in material.results.facts.arms}
    return "Arms: " + "; ".join(f"**{material.name(arm)}** {known.get(arm, '')}".rstrip() for arm in arms) + "."


def runs_told(material: Material) -> str:
    """Bases, seeds, languages and sizes."""
    results = material.results
    facts = results.facts
    tasks = []
    for target in results.targets:
        sizes = sorted({row.n for row in material.scores(target).rows if row.n is not None})
        size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}" if sizes else "an unknown number of"
        where = f"{size} examples a language, {plural(len(target.languages), 'language')}, {listed(target.splits)}"
        tasks.append(f"{facts.name(target.task)} ({target.metric}; {where})")
    runs = f"{plural(len(results.bases), 'base')} ({', '.join(results.bases)}), {plural(len(results.seeds), 'seed')}"
    return f"Measured: {'; '.join(tasks)}. Runs: {runs}."
