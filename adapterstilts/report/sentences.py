"""Plain sentences made from the numbers. They cannot claim more than the verdicts allow.

``**name**`` marks bold; every renderer turns it into its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adapterstilts.report.facts import Facts
from adapterstilts.report.results import ArmResult, Results, Retrieval, Target
from adapterstilts.report.words import gain_text, listed, metric_name, number, plural, signed
from adapterstilts.study.distance import Correlation
from adapterstilts.study.gains import Gain, verdict


@dataclass(frozen=True)
class Sentence:
    """``topic`` groups sentences under a heading (a task's pretty name); ``kind`` chooses the look."""

    topic: str
    text: str
    kind: Literal["result", "caution"] = "result"


def headline(results: Results) -> str:
    """One sentence: what was compared on what."""
    facts = results.facts
    arms = dict.fromkeys(r.arm.name for target in results.targets for r in target.arms)
    parts = []
    if arms:
        targets = listed([facts.name(target.task) for target in results.targets])
        parts.append(f"{plural(len(arms), 'arm')} on {targets}")
    if results.retrievals:
        modules = max(len(item.modules) for item in results.retrievals)
        parts.append(f"retrieval ({listed([facts.name(r.task) for r in results.retrievals])}) with {modules} encoders")
    if not parts:
        return "No scores yet."
    languages = {row.language for row in results.scores.rows} - {facts.english}
    runs = f"{plural(len(results.bases), 'pretrained base')}, {plural(len(results.seeds), 'training seed')}"
    return f"{'; '.join(parts)}; English and {plural(len(languages), 'other language')}; {runs}."


def sentences(results: Results) -> list[Sentence]:
    """All sentences of the summary, targets first, then retrieval."""
    out = [s for target in results.targets for s in _target(target, results.facts)]
    return out + [s for item in results.retrievals for s in _retrieval(item, results.facts)]


def cautions(results: Results) -> list[Sentence]:
    """What a reader must know before trusting the numbers: stand-ins, warnings, chance level, convergence, few runs."""
    facts = results.facts
    out = [Sentence("Stand-in", text, "caution") for text in facts.stand_ins]
    out += [Sentence("Warning", text, "caution") for text in facts.warnings]
    for target in results.targets:
        stuck = [r for r in target.arms if r.at_chance]
        cells: dict[tuple[str, ...], list[str]] = {}
        for r in target.arms:
            low = tuple(name for name, cell in r.cells.items() if cell.at_chance)
            if low and not r.at_chance:
                cells.setdefault(low, []).append(facts.name(r.arm.name))
        name = facts.name(target.task)
        if stuck:
            who = listed([f"**{facts.name(r.arm.name)}**" for r in stuck])
            text = f"On {name}, the zero-shot mean of {who} cannot be told from guessing ({number(target.level)} %);"
            out.append(Sentence("At chance level", text + " differences between such arms are noise.", "caution"))
        if cells:
            where = [f"{', '.join(who)} in {listed([facts.name(x) for x in low])}" for low, who in cells.items()]
            text = f"On {name}, these scores cannot be told from guessing: {'; '.join(where)}."
            out.append(Sentence("At chance level", text, "caution"))
        split = [r.gain for r in target.arms if r.gain and r.gain.interval.unit == "base"]
        if split:
            who = listed([f"**{facts.name(g.arm)}** ({_by_base(g, facts)})" for g in split])
            text = f"On {name}, the gain depends on the base for {who}; the interval is over bases there, hence wide."
            out.append(Sentence("Bases differ", text, "caution"))
    late: dict[str, list[str]] = {}
    for target in results.targets:
        for r in target.arms:
            if r.unconverged:
                late.setdefault(f"**{facts.name(r.arm.name)}**", []).append(facts.name(target.task))
    alike: dict[str, list[str]] = {}
    for arm, tasks in late.items():
        alike.setdefault(listed(tasks), []).append(arm)
    for on, late_arms in alike.items():
        text = (
            f"On {on}, training did not converge for {listed(late_arms)}: a longer schedule may change the comparison."
        )
        out.append(Sentence("Not converged", text, "caution"))
    few = len({row.pair for row in results.scores.targets().rows})
    if results.targets and few == 1:
        text = "Every arm ran once. One run shows no spread, so no gain or loss is claimed."
        out.append(Sentence("One run", text, "caution"))
    elif results.targets and len(results.bases) == 1:
        text = "All runs share one pretrained base: the intervals know nothing of other bases."
        out.append(Sentence("One base", text, "caution"))
    return out


def _by_base(gain: Gain, facts: Facts) -> str:
    return ", ".join(f"{signed(value)} on {facts.name(base)}" for base, value in gain.by_base.items())


def _target(target: Target, facts: Facts) -> list[Sentence]:
    topic = facts.name(target.task)
    out = [Sentence(topic, text) for r in target.baselines[:1] if (text := _baseline(target, r, facts))]
    by_baseline: dict[str, list[Gain]] = {}
    for result in target.arms:
        if result.gain:
            by_baseline.setdefault(result.gain.baseline, []).append(result.gain)
    for baseline, gains in by_baseline.items():
        out.append(Sentence(topic, _gains(gains, baseline, facts)))
    english = [r for r in target.arms if r.english_gain and verdict(r.english_gain) == "gain"]
    only = [r for r in english if r.gain and verdict(r.gain) != "gain"]
    if only:
        arms = _named([r.english_gain for r in only if r.english_gain], facts)
        out.append(Sentence(topic, f"Gain in English only, none found in the other languages: {arms}."))
    for result in target.baselines[:1]:
        if result.correlation:
            out.append(Sentence(topic, distance_text(result.correlation, facts.name(result.arm.name))))
    return out


def _baseline(target: Target, result: ArmResult, facts: Facts) -> str:
    if result.zero_shot is None:
        return ""
    languages = plural(len(result.zero_shot.languages), "zero-shot language")
    name = f"**{facts.name(result.arm.name)}**"
    parts = [f"{name} reaches {number(result.zero_shot.mean)} % {metric_name(target.metric)} over {languages}"]
    if result.english:
        parts.append(f"{number(result.english.mean)} % in English")
    level = f" A guesser reaches {number(target.level)} %." if target.level is not None else ""
    return f"{', '.join(parts)}.{level}"


def _gains(gains: Sequence[Gain], baseline: str, facts: Facts) -> str:
    """One sentence for all arms of one baseline, by verdict; a second where only the correction stands in the way."""
    told: dict[str, list[Gain]] = {"gain": [], "loss": [], "no gain found": []}
    for item in sorted(gains, key=lambda g: -g.mean):
        told[verdict(item)].append(item)
    parts = [f"{word} for {_named(found, facts)}" for word, found in told.items() if found]
    out = f"Zero-shot, over **{facts.name(baseline)}** (points, 95 % interval): {'; '.join(parts)}."
    nearly = [f"**{facts.name(g.arm)}**" for g in told["no gain found"] if g.interval.excludes(0)]
    if nearly:
        out += (
            f" The interval of {listed(nearly)} leaves out zero by itself, but not after correction for"
            f" {plural(gains[0].family, 'comparison')}."
        )
    return out


def _told(gain: Gain) -> str:
    """The verdict, with a word where only the correction for many comparisons stands in the way."""
    said = verdict(gain)
    return f"{said} after correction" if said == "no gain found" and gain.interval.excludes(0) else said


def _named(gains: Sequence[Gain], facts: Facts) -> str:
    return listed([f"**{facts.name(g.arm)}** {gain_text(g)}" for g in gains])


def distance_text(found: Correlation, arm: str, what: str = "Scores") -> str:
    """What may be said of a correlation with distance, with what this many languages could show at all."""
    numbers = f"r = {number(found.pearson, 2)}"
    if found.interval.low is not None and found.interval.high is not None:
        numbers += f", 95 % interval {number(found.interval.low, 2)} to {number(found.interval.high, 2)}"
    limit = f"with {found.n} languages only |r| of {number(found.critical, 2)} or more can be told from zero"
    if not found.detectable:
        return f"No relation of **{arm}**'s scores with distance from English was found ({numbers}); {limit}."
    verb = "fall" if found.pearson < 0 else "rise"
    return f"{what} of **{arm}** {verb} with distance from English ({numbers}); {limit}."


def _retrieval(item: Retrieval, facts: Facts) -> list[Sentence]:
    topic = facts.name(item.task)
    variants = {"raw": "raw", "centred": "with each language's mean subtracted"}
    base = [
        f"{number(found.mean)} % {variants[variant]}"
        for variant in item.variants
        if (found := item.at(item.modules[0], variant))
    ]
    out = []
    name = f"**{facts.name(item.modules[0])}**"
    if base:
        text = f"At {item.depth}, {name} reaches {listed(base)} ({metric_name(item.metric)}, mean over languages)."
        out.append(Sentence(topic, text))
    for module in item.modules:
        told = [(v, item.gains[module, v]) for v in item.variants if (module, v) in item.gains]
        if not told:
            continue
        parts = [f"{gain_text(g)} {variants[v]}, {_told(g)}" for v, g in told]
        text = f"**{facts.name(module)}** over {name}: {'; '.join(parts)}."
        changes = dict(told)
        if {"raw", "centred"} <= changes.keys() and verdict(changes["raw"]) == "gain":
            left = changes["centred"].mean / changes["raw"].mean
            if verdict(changes["centred"]) != "gain":
                text += " Once the means are subtracted no gain is left: what it moved were the languages' means."
            elif left < 0.5:
                text += f" Subtracting the means leaves {100 * left:.0f} % of the raw gain: the rest was a mean shift."
        out.append(Sentence(topic, text))
    return out
