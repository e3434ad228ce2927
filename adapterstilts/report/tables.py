"""Rich tables for the terminal: every arm of a target, retrieval before and after, scores in every language."""

from __future__ import annotations

import re

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapterstilts.report.facts import Facts
from adapterstilts.report.results import Cell, Results, Retrieval, Target
from adapterstilts.report.sentences import cautions, headline, sentences
from adapterstilts.report.words import NONE, metric_name, number, signed, span, value_text
from adapterstilts.study.gains import Gain, verdict

STYLES = {"gain": "bold blue", "loss": "bold dark_orange3", "no gain found": "dim"}
MARKS = {"gain": "\u25b2 ", "loss": "\u25bc ", "no gain found": "\u25cb "}
NARROW = 100


def show(results: Results, console: Console, languages: bool = True) -> None:
    """Print the report: tables first, then the summary in sentences, then what to be careful with."""
    console.print(Text(results.facts.recipe, style="bold"), Text(headline(results), style="dim"))
    for target in results.targets:
        console.print()
        console.print(target_table(target, results.facts, slim=console.width < NARROW))
        if languages:
            console.print(language_table(target, results.facts, console.width))
    for item in results.retrievals:
        console.print()
        console.print(retrieval_table(item, results.facts))
    for heading, items in (("What came out", sentences(results)), ("Read with care", cautions(results))):
        if items:
            console.print()
            console.print(Text(heading, style="bold"))
        for sentence in items:
            console.print(_sentence(sentence.topic, sentence.text))


def target_table(target: Target, facts: Facts, slim: bool = False) -> RenderableType:
    """One row per arm: English, zero-shot mean, gap, gain with interval, verdict; the guesser's level below."""
    table = _table(f"{facts.name(target.task)}: {metric_name(target.metric)} in percent, {', '.join(target.splits)}")
    table.add_column("arm")
    for name in ("English", "zero-shot") if slim else ("English", "zero-shot", "gap"):
        table.add_column(name, justify="right")
    table.add_column("gain", justify="right")
    if not slim:
        table.add_column("95 % interval", justify="right")
    table.add_column("verdict", no_wrap=True)
    for r in target.arms:
        flags = [word for word, on in (("chance level", r.at_chance), ("not converged", r.unconverged)) if on]
        arm = Text(facts.name(r.arm.name))
        arm.append(f" ({', '.join(flags)})" if flags else "", style="dark_orange3")
        cells: list[str | Text] = [value_text(r.english), value_text(r.zero_shot)]
        cells += [] if slim else [value_text(r.gap)]
        cells.append(signed(r.gain.mean) if r.gain else NONE)
        cells += [] if slim else [(span(r.gain.interval, sign=True) or NONE) if r.gain else NONE]
        table.add_row(arm, *cells, _chip(r.gain))
    below = f"Zero-shot: mean over {', '.join(facts.name(x) for x in target.zero_shot)}."
    below += f" Guessing gives {number(target.level)}." if target.level is not None else ""
    return Group(table, Text(below, style="dim"))


def language_table(target: Target, facts: Facts, width: int = 120) -> Table:
    """Scores of every arm in every language, coloured by the verdict on the gain there.

    Arms are rows while the languages fit into ``width`` columns of text; else languages are rows.
    """
    table = _table(f"{facts.name(target.task)} in every language (\u00b0 at guessing level, * effect after correction)")
    names = [facts.name(name) for name in target.languages]
    arms = [facts.name(r.arm.name) for r in target.arms]
    cells = [[_cell(r.cells.get(name)) for name in target.languages] for r in target.arms]
    far = [number(facts.distances.get(name), 2) for name in target.languages]
    if 2 + max(map(len, arms)) + sum(2 + max(7, len(name)) for name in names) <= width:
        table.add_column("arm\ndistance" if any(d != NONE for d in far) else "arm")
        for name, distance in zip(names, far, strict=True):
            table.add_column(f"{name}\n{distance}" if distance != NONE else name, justify="right")
        for arm, row in zip(arms, cells, strict=True):
            table.add_row(arm, *row)
    else:
        table.add_column("language")
        table.add_column("distance", justify="right")
        for arm in arms:
            table.add_column(arm, justify="right")
        for index, name in enumerate(names):
            table.add_row(name, far[index], *(row[index] for row in cells))
    return table


def _cell(cell: Cell | None) -> Text:
    if cell is None:
        return Text(NONE)
    said = verdict(cell.gain) if cell.gain else "no gain found"
    mark = ("\u00b0" if cell.at_chance else "") + ("*" if said != "no gain found" else "")
    return Text(number(cell.score.mean) + mark, style=STYLES[said] if said != "no gain found" else "")


def retrieval_table(item: Retrieval, facts: Facts) -> Table:
    """One row per encoder: raw and with means subtracted, each before and after the module, at the fixed layer."""
    what = f"{metric_name(item.metric)} in percent, {', '.join(item.splits)}, {item.depth}"
    table = _table(
        f"{facts.name(item.task)}: {what}, mean over {len(item.languages)} languages (centred: means subtracted)"
    )
    table.add_column("encoder")
    for variant in item.variants:
        table.add_column(variant, justify="right")
        table.add_column("gain", justify="right")
        table.add_column("verdict", no_wrap=True)
    for module in item.modules:
        cells: list[str | Text] = []
        for variant in item.variants:
            gain = item.gains.get((module, variant))
            cells += [value_text(item.at(module, variant)), signed(gain.mean) if gain else NONE, _chip(gain)]
        table.add_row(facts.name(module), *cells)
    return table


def _table(title: str) -> Table:
    from rich import box

    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def _chip(gain: Gain | None) -> Text:
    if gain is None:
        return Text("baseline", style="dim")
    said = verdict(gain)
    return Text(MARKS[said] + said, style=STYLES[said])


def _sentence(topic: str, text: str) -> Text:
    out = Text(f"- {topic}: ", style="")
    for index, part in enumerate(re.split(r"\*\*(.+?)\*\*", text)):
        out.append(part.replace("`", ""), style="bold" if index % 2 else "")
    return out
