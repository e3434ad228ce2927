"""The report as Markdown: the same sentences and tables as the page, without figures."""

from __future__ import annotations

from collections.abc import Sequence

from adapterstilts.report.facts import Facts
from adapterstilts.report.html import sources
from adapterstilts.report.notes import method_notes
from adapterstilts.report.results import Cell, Results, Retrieval, Target
from adapterstilts.report.sentences import cautions, headline, sentences
from adapterstilts.report.words import NONE, gain_text, metric_name, number, short, signed, value_text
from adapterstilts.study.gains import verdict
from adapterstilts.study.published import PublishedRow


def document(results: Results) -> str:
    """Markdown text, summary first."""
    facts = results.facts
    out = [f"# {facts.recipe}", headline(results), "## What came out"]
    out.append("\n".join(f"- {item.topic}: {item.text}" for item in sentences(results)))
    careful = cautions(results)
    if careful:
        out += ["## Read with care", "\n".join(f"- {item.topic}: {item.text}" for item in careful)]
    for target in results.targets:
        out += _target(target, facts)
    for item in results.retrievals:
        out += _retrieval(item, facts)
    if results.published:
        out += ["## Published rows beside these", published_table(results.published)]
    out += ["## How it was measured", "\n".join(f"- {note}" for note in method_notes(results))]
    out += ["## Where each number comes from", _sources(results)]
    out.append("## Recipe")
    if facts.command:
        out.append(f"Made by `{facts.command}`")
    if facts.text:
        out.append(f"```yaml\n{facts.text.rstrip()}\n```")
    if facts.versions:
        out.append("Versions: " + ", ".join(f"{name} {version}" for name, version in facts.versions.items()))
    return "\n\n".join(out) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; all columns but the first ``left`` are right-aligned."""
    align = ["---" if index < left else "---:" for index in range(len(head))]
    clean = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, align, *rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in clean)


def _target(target: Target, facts: Facts) -> list[str]:
    level = f"; guessing gives {number(target.level)}" if target.level is not None else ""
    what = f"{metric_name(target.metric, True)} in percent, split {', '.join(target.splits)}{level}."
    arms = [
        [
            facts.name(r.arm.name),
            value_text(r.english),
            value_text(r.zero_shot),
            value_text(r.gap),
            gain_text(r.gain),
            verdict(r.gain) if r.gain else "baseline",
        ]
        for r in target.arms
    ]
    languages = [
        [
            facts.name(language),
            number(facts.distances.get(language), 2),
            number(facts.level(target.task, language)),
            *(_cell(r.cells.get(language)) for r in target.arms),
        ]
        for language in target.languages
    ]
    names = [facts.name(r.arm.name) for r in target.arms]
    return [
        f"## {facts.name(target.task)}",
        what,
        table(["Arm", "English", "Zero-shot", "Transfer gap", "Zero-shot gain (95 %)", "Verdict"], arms),
        "Score and gain over the baseline in every language; * an effect after correction, \u00b0 not above guessing.",
        table(["Language", "Distance", "Guessing", *names], languages),
    ]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return NONE
    text = number(cell.score.mean) + ("\u00b0" if cell.at_chance else "")
    if cell.gain:
        text += f" {signed(cell.gain.mean)}" + ("*" if verdict(cell.gain) != "no gain found" else "")
    return text


def _retrieval(item: Retrieval, facts: Facts) -> list[str]:
    head = ["Encoder"]
    for variant in item.variants:
        head += ["raw" if variant == "raw" else "means subtracted", "gain (95 %)", "verdict"]
    rows = []
    for module in item.modules:
        row = [facts.name(module)]
        for variant in item.variants:
            gain = item.gains.get((module, variant))
            row += [value_text(item.at(module, variant)), gain_text(gain), verdict(gain) if gain else "baseline"]
        rows.append(row)
    out = [
        f"## {facts.name(item.task)}",
        f"{metric_name(item.metric, True)} in percent, split {', '.join(item.splits)}, {item.depth},"
        f" mean over {len(item.languages)} languages.",
        table(head, rows),
    ]
    for variant in item.variants:
        by_layer = [
            [facts.name(m), *(value_text(item.points.get((m, variant, k))) for k in item.layers)] for m in item.modules
        ]
        out.append(table([f"By layer, {variant}", *map(str, item.layers)], by_layer))
    for variant in item.variants:
        by_language = [
            [facts.name(x), *(value_text(item.cells.get((m, variant, x))) for m in item.modules)]
            for x in item.languages
        ]
        head = [f"{item.depth.capitalize()}, {variant}", *(facts.name(m) for m in item.modules)]
        out.append(table(head, by_language))
    return out


def published_table(published: Sequence[PublishedRow]) -> str:
    """Published rows with their marks."""
    rows = [
        [
            row.title,
            row.name,
            row.task,
            row.language or "mean",
            signed(row.value) if row.delta else number(row.value),
            metric_name(row.metric),
            row.label,
            row.split,
            str(row.layer) if row.layer is not None else NONE,
            row.baseline,
        ]
        for row in published
    ]
    head = ["Table", "Row", "Task", "Language", "Value", "Metric", "Mark", "Split", "Layer", "Baseline"]
    return table(head, rows, left=4)


def _sources(results: Results) -> str:
    facts = results.facts
    rows = [
        [
            facts.name(task),
            facts.name(s.arm),
            facts.name(s.base),
            str(s.seed) if s.seed is not None else NONE,
            s.split,
            s.layers,
            s.n,
            f"`{short(s.stage)}`",
            s.time,
            s.memory,
            s.converged,
        ]
        for task, group in sources(results)
        for s in group
    ]
    head = ["Task", "Arm", "Base", "Seed", "Split", "Layers", "n", "Stage", "Time", "Peak memory", "Converged"]
    return table(head, rows, left=5)
