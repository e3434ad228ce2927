"""One self-contained HTML page: summary first, then tables and figures; nothing is loaded from anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from adapterstilts.report import words
from adapterstilts.report.facts import Facts
from adapterstilts.report.figures import Figure, forest, fused, heat, layers, scatter, thresholds, usage
from adapterstilts.report.notes import method_notes
from adapterstilts.report.results import Results, Target
from adapterstilts.report.sentences import Sentence, cautions, headline, sentences
from adapterstilts.report.theme import variables
from adapterstilts.study.gains import verdict
from adapterstilts.study.published import PublishedRow
from adapterstilts.study.scores import Score

# A number stays on one line with its interval, its unit and what it is of.
_N = "[\\d+.\u2212]+"
TOGETHER = re.compile(f"\\S+ \\({_N} to {_N}\\)|{_N} to {_N}|\\d %|{_N} points|p = {_N}")
VARIANTS = {"raw": "raw", "centred": "means subtracted"}


@dataclass(frozen=True)
class Source:
    """One stage behind the numbers of one arm on one task; ``first`` carries the anchor that numbers link to."""

    anchor: str
    first: bool
    arm: str
    base: str
    seed: int | None
    split: str
    layers: str
    n: str
    stage: str
    label: str
    time: str
    memory: str
    converged: str


def environment(facts: Facts) -> Any:
    """The templates with the words and links that every page uses."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    def bold(text: str) -> Markup:
        text = TOGETHER.sub(lambda found: found[0].replace(" ", "\u00a0"), text)
        return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(code(text))))

    def code(text: str) -> Markup:
        return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", str(escape(text))))

    made = Environment(autoescape=True, undefined=StrictUndefined, loader=_loader(), trim_blocks=True)
    made.globals.update(
        number=words.number,
        signed=words.signed,
        span=words.span,
        p_text=words.p_text,
        metric_name=words.metric_name,
        short=words.short,
        slug=slug,
        anchor=lambda rows: anchor(rows[0]),
        origin=lambda rows: words.origin(rows, facts),
        verdict=verdict,
        bold=bold,
        code=code,
        variant_name=lambda name: VARIANTS.get(name, name),
        resampled=_has_resampled,
        facts=facts,
        fused=fused,
    )
    return made


def page(results: Results, drawn: dict[tuple[str, ...], Figure] | None = None) -> str:
    """The report as HTML text; ``drawn`` are figures already made by ``draw``."""
    templates = files("adapterstilts.report").joinpath("templates")
    return str(
        environment(results.facts)
        .get_template("report.html.j2")
        .render(
            results=results,
            figures=draw(results) if drawn is None else drawn,
            headline=headline(results),
            topics=_topics(sentences(results)),
            cautions=cautions(results),
            notes=method_notes(results),
            sources=sources(results),
            published=published_tables(results.published),
            light=variables("light"),
            dark=variables("dark"),
            css=templates.joinpath("style.css").read_text(encoding="utf-8"),
        )
    )


def draw(results: Results) -> dict[tuple[str, ...], Figure]:
    """All figures of a report, by kind and task."""
    facts = results.facts
    found: dict[tuple[str, ...], Figure | None] = {}
    for target in results.targets:
        found["forest", target.task] = forest(target, facts)
        found["heat", target.task] = heat(target, facts)
        found["scatter", target.task] = scatter(target, target.baselines[0], facts)
        for number, (arm, rows) in enumerate(fused(facts, target.task)):
            found["usage", target.task, str(number)] = usage(rows, arm, target.task, facts)
    for item in results.retrievals:
        for variant in item.variants:
            found["layers", item.task, variant] = layers(item, variant, facts)
        found["thresholds", item.task] = thresholds(item, facts)
    return {key: figure for key, figure in found.items() if figure is not None}


def slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def anchor(row: Score) -> str:
    """The id of the first source row of an arm on a task."""
    return f"from-{slug(row.task)}--{slug(row.arm)}"


def sources(results: Results) -> list[tuple[str, list[Source]]]:
    """By task, every stage that gave a score, in the order of arms, bases and seeds."""
    facts = results.facts
    out = []
    for task in results.scores.unique("task"):
        by_stage: dict[tuple[str, str, int | None, str], list[Score]] = {}
        for row in results.scores.where(task=task).rows:
            by_stage.setdefault((row.arm, row.base, row.seed, row.stage), []).append(row)
        order = {arm: i for i, arm in enumerate(dict.fromkeys(key[0] for key in by_stage))}
        seen: set[str] = set()
        group = []
        for (arm, _, _, _), rows in sorted(by_stage.items(), key=lambda item: order[item[0][0]]):
            group.append(_source(rows, arm not in seen, facts))
            seen.add(arm)
        out.append((task, group))
    return out


def _source(rows: list[Score], first: bool, facts: Facts) -> Source:
    row = rows[0]
    fact = facts.stages.get(row.stage)
    late = facts.unconverged(rows)
    sizes = sorted({r.n for r in rows if r.n is not None})
    depth = sorted({r.layer for r in rows if r.layer is not None})
    return Source(
        anchor(row),
        first,
        row.arm,
        row.base,
        row.seed,
        words.listed(list(dict.fromkeys(r.split for r in rows))),
        (str(depth[0]) if len(depth) == 1 else f"{depth[0]} to {depth[-1]}") if depth else words.NONE,
        (str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}") if sizes else words.NONE,
        row.stage,
        fact.label if fact else "",
        words.seconds(fact.seconds if fact else None),
        words.memory(fact.peak_memory if fact else None),
        "no" if late else _converged(row.stage, facts),
    )


def _converged(stage: str, facts: Facts) -> str:
    """ "yes" where the stage or one of its parents is known to have converged, a dash where nothing is known."""
    todo, seen = [stage], set()
    while todo:
        fact = facts.stages.get(key := todo.pop())
        if fact and key not in seen:
            seen.add(key)
            if fact.converged:
                return "yes"
            todo.extend(fact.parents)
    return words.NONE


def _topics(items: Iterable[Sentence]) -> list[tuple[str, list[Sentence]]]:
    out: dict[str, list[Sentence]] = {}
    for item in items:
        out.setdefault(item.topic, []).append(item)
    return list(out.items())


def published_tables(rows: Iterable[PublishedRow]) -> list[tuple[str, list[PublishedRow]]]:
    """Published rows by their table."""
    out: dict[str, list[PublishedRow]] = {}
    for row in rows:
        out.setdefault(row.title, []).append(row)
    return list(out.items())


def _has_resampled(target: Target) -> bool:
    return any(r.gain and r.gain.resampled for r in target.arms)


def _loader() -> Any:
    from jinja2 import PackageLoader

    return PackageLoader("adapterstilts.report", "templates")
