"""The design of a study in sentences: its arms, what was spent on them, what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapterstilts.report.studies.page import Material
from adapterstilts.report.words import listed, metric_name, plural


def arms_told(material: Material, arms: Sequence[str]) -> str:
    """The arms with their descriptions."""
    known = {arm.name: arm.description for arm in material.results.facts.arms}
    return "Arms: " + "; ".join(f"**{material.name(arm)}** {known.get(arm, '')}".rstrip() for arm in arms) + "."


def budget(material: Material, arms: Sequence[str]) -> str:
    """What was spent on the arms before they were scored on the targets of the first one: equal or not."""
    facts = material.results.facts
    updates: dict[str, set[int]] = {}
    trained: dict[str, set[int]] = {}
    tasks = [target.task for target in material.targets(arms[0])]
    for row in material.results.scores.targets().where(arm=list(arms), task=tasks).rows:
        fact = facts.stages.get(row.stage)
        if fact and fact.updates and fact.trained:
            name = material.name(row.arm)
            updates.setdefault(name, set()).add(fact.updates)
            trained.setdefault(name, set()).add(fact.trained)
    if not updates:
        return "The number of updates is not known here."
    counted = "Counted over all modules of an arm, without heads."
    both = [_alike(updates, "updates"), _alike(trained, "trained parameters")]
    if all(text.startswith("Every arm") and "but" not in text for text in both):
        return f"{both[0]} and {both[1].removeprefix('Every arm had ')}. {counted}"
    return f"{both[0]}. {both[1]}. {counted}"


def _alike(spent: Mapping[str, set[int]], unit: str) -> str:
    """ "Every arm had 200 updates", with exceptions if they are few, or each arm's number."""
    told = {arm: listed([f"{value:,}" for value in sorted(values)], "or") for arm, values in spent.items()}
    usual = max(told.values(), key=list(told.values()).count)
    others = [f"**{arm}** {value}" for arm, value in told.items() if value != usual]
    if not others:
        return f"Every arm had {usual} {unit}"
    if 3 * len(others) <= len(told):
        return f"Every arm had {usual} {unit}, but {listed(others)}"
    each = [f"**{arm}** {value}" for arm, value in told.items()]
    return f"The arms differ in {unit}: {', '.join(each)}"


def runs_told(material: Material) -> str:
    """Bases, seeds, languages and sizes."""
    results = material.results
    facts = results.facts
    tasks = []
    for target in results.targets:
        sizes = sorted({row.n for row in material.scores(target).rows if row.n is not None})
        size = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}" if sizes else "an unknown number of"
        where = f"{size} examples a language, {plural(len(target.languages), 'language')}, {listed(target.splits)}"
        tasks.append(f"{facts.name(target.task)} ({metric_name(target.metric)}; {where})")
    runs = f"{plural(len(results.bases), 'base')} ({', '.join(results.bases)}), {plural(len(results.seeds), 'seed')}"
    return f"Measured: {'; '.join(tasks)}. Runs: {runs}."
