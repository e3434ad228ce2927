"""All targets of the study of distance in one regression: points of loss for each unit, clustered by language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapterstilts.report.words import number, plural, signed, span
from adapterstilts.study.regression import Slope, clustered
from adapterstilts.study.tests import holm

Losses = Mapping[tuple[str, str], Mapping[str, float]]  # (task, arm) -> language -> points below English


def regressions(
    losses: Losses,
    arms: Sequence[str],
    predictors: Mapping[str, Mapping[str, float]],
    name: Callable[[str], str],
    named: Callable[[str], str],
) -> tuple[list[str], list[str]]:
    """What was found and what was not, corrected over all regressions; nothing for a single target: its correlation
    says as much."""
    if len({task for task, _ in losses}) < 2:
        return [], []
    lines = [(arm, kind, _line(losses, arm, table)) for arm in arms for kind, table in predictors.items()]
    there = [(arm, kind, line) for arm, kind, line in lines if line is not None]
    found: list[str] = []
    missed: dict[str, list[str]] = {}
    for (arm, kind, line), p in zip(there, holm([line.p for *_, line in there]), strict=True):
        size = f"{signed(line.value)} points for each unit of {named(kind)} (95 % interval"
        size += f" {span(line.interval, sign=True)}; p = {number(float(p), 3)} after correction;"
        size += f" {plural(line.clusters, 'language')} as clusters)"
        if p < 0.05:
            found.append(f"On all targets together, the loss of **{name(arm)}** changes by {size}.")
        else:
            missed.setdefault(arm, []).append(size)
    told = [
        f"On all targets together, no slope of **{name(arm)}**'s loss: {'; '.join(x)}." for arm, x in missed.items()
    ]
    few = [f"{name(arm)} against {named(kind)}" for arm, kind, line in lines if line is None]
    return found, [*told, *([f"Too few languages for a regression: {'; '.join(few)}."] if few else [])]


def _line(losses: Losses, arm: str, table: Mapping[str, float]) -> Slope | None:
    points = [
        (loss, table[language], task, language)
        for (task, mine), by_language in losses.items()
        if mine == arm
        for language, loss in by_language.items()
        if language in table
    ]
    if not points:
        return None
    y, x, tasks, languages = zip(*points, strict=True)
    return clustered(y, x, tasks, languages)
