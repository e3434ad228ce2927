"""What an arm gains over its baseline, paired by base and seed; the transfer gap; the verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from adapterstilts.study.intervals import Interval, grouped_interval, resampled_interval
from adapterstilts.study.scores import ENGLISH, Pair, Score, Scores, paired
from adapterstilts.study.tests import effect_size, holm, sign_flip

ZERO_SHOT = "zero-shot"
ALPHA = 0.05

Verdict = Literal["gain", "loss", "no gain found"]
# (stage, language) -> per-example score in 0..1 by id; None where the stage kept no predictions.
Examples = Callable[[str, str], "Mapping[str, float] | None"]


@dataclass(frozen=True)
class Summary:
    """The mean of an arm's scores over languages, one value per pair, in percent."""

    arm: str
    task: str
    metric: str
    over: str  # "zero-shot", "gap" or a language code
    languages: tuple[str, ...]
    pairs: tuple[Pair, ...]
    values: tuple[float, ...]
    interval: Interval
    rows: tuple[Score, ...]

    @property
    def mean(self) -> float:
        return self.interval.mean


@dataclass(frozen=True)
class Gain:
    """The differences of an arm and its baseline, one per pair, in points of percent.

    ``p`` belongs to the interval's model; ``flip`` is the exact sign-flip p-value beside it; ``adjusted`` is p after
    Holm's correction over the ``family`` tests it was judged with.
    """

    arm: str
    baseline: str
    task: str
    metric: str
    over: str
    languages: tuple[str, ...]
    pairs: tuple[Pair, ...]
    values: tuple[float, ...]
    interval: Interval
    score: float
    baseline_score: float
    effect: float | None
    p: float | None
    flip: float
    rows: tuple[Score, ...]
    adjusted: float | None = None
    family: int = 1
    resampled: Interval | None = None

    @property
    def mean(self) -> float:
        return self.interval.mean

    @property
    def by_base(self) -> dict[str, float]:
        """The mean gain on each base."""
        bases = dict.fromkeys(pair.base for pair in self.pairs)
        return {
            base: float(np.mean([v for pair, v in zip(self.pairs, self.values, strict=True) if pair.base == base]))
            for base in bases
        }


def zero_shot_languages(scores: Scores, english: str = ENGLISH) -> tuple[str, ...]:
    """The languages of a task other than the training language."""
    return tuple(name for name in scores.unique("language") if name != english)


def summary(scores: Scores, arm: str, languages: Sequence[str], over: str) -> Summary | None:
    """Mean over the languages for each pair of one arm; ``scores`` hold one task and metric. None: no full pair."""
    grid = scores.where(arm=arm).grid(languages)
    if not grid:
        return None
    values = [float(np.mean([score.value for score in by_language.values()])) for by_language in grid.values()]
    rows = tuple(score for by_language in grid.values() for score in by_language.values())
    return Summary(
        arm,
        rows[0].task,
        rows[0].metric,
        over,
        tuple(languages),
        tuple(grid),
        tuple(values),
        grouped_interval(values, [pair.base for pair in grid]),
        rows,
    )


def gap(scores: Scores, arm: str, english: str = ENGLISH) -> Summary | None:
    """Cross-lingual transfer gap per pair: English score minus the mean of the others (Hu et al. 2020, XTREME)."""
    others = zero_shot_languages(scores.where(arm=arm), english)
    if not others:
        return None
    grid = scores.where(arm=arm).grid((english, *others))
    if not grid:
        return None
    values = [by[english].value - float(np.mean([by[name].value for name in others])) for by in grid.values()]
    rows = tuple(score for by_language in grid.values() for score in by_language.values())
    interval = grouped_interval(values, [pair.base for pair in grid])
    return Summary(
        arm, rows[0].task, rows[0].metric, "gap", (english, *others), tuple(grid), tuple(values), interval, rows
    )


def gain(
    scores: Scores,
    arm: str,
    baseline: str,
    languages: Sequence[str],
    over: str,
    examples: Examples | None = None,
) -> Gain | None:
    """Gain of an arm over a baseline, averaged over the languages, paired by base and seed.

    ``scores`` hold one task and one metric. With per-example scores the interval over runs, languages and examples is
    added. None where no base and seed has both arms in all the languages.
    """
    matched = paired(scores.where(arm=arm).grid(languages), scores.where(arm=baseline).grid(languages))
    if not matched or not languages:
        return None
    mine = [float(np.mean([score.value for score in a.values()])) for _, a, _ in matched]
    theirs = [float(np.mean([score.value for score in b.values()])) for _, _, b in matched]
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    interval = grouped_interval(differences, [pair.base for pair, _, _ in matched])
    rows = tuple(score for _, a, b in matched for score in (*a.values(), *b.values()))
    return Gain(
        arm,
        baseline,
        rows[0].task,
        rows[0].metric,
        over,
        tuple(languages),
        tuple(pair for pair, _, _ in matched),
        tuple(differences),
        interval,
        float(np.mean(mine)),
        float(np.mean(theirs)),
        effect_size(differences),
        interval.p,
        sign_flip(differences),
        rows,
        adjusted=interval.p,
        resampled=_resampled([(a, b) for _, a, b in matched], languages, examples) if examples else None,
    )


def _resampled(
    matched: Sequence[tuple[Mapping[str, Score], Mapping[str, Score]]], languages: Sequence[str], examples: Examples
) -> Interval | None:
    runs = []
    for a, b in matched:
        run = {}
        for language in languages:
            left, right = examples(a[language].stage, language), examples(b[language].stage, language)
            if not left or not right or not left.keys() & right.keys():
                return None
            run[language] = {i: 100 * (left[i] - right[i]) for i in left if i in right}
        runs.append(run)
    return resampled_interval(runs, languages=len(languages) > 1)


def corrected(gains: Iterable[Gain | None]) -> list[Gain]:
    """The gains as one family: Holm's correction over all that have a p-value."""
    family = [item for item in gains if item is not None]
    testable = [item for item in family if item.p is not None]
    adjusted = dict(zip(map(id, testable), holm([item.p for item in testable if item.p is not None]), strict=True))
    return [replace(item, adjusted=adjusted.get(id(item)), family=len(testable)) for item in family]


def per_language(scores: Scores, arm: str, baseline: str, languages: Sequence[str]) -> list[Gain]:
    """The gain in each language on its own, corrected for the number of languages."""
    return corrected(gain(scores, arm, baseline, (language,), language) for language in languages)


def verdict(gain: Gain, alpha: float = ALPHA) -> Verdict:
    """What may be said: "gain" or "loss" where zero is excluded after Holm's correction, otherwise "no gain found"."""
    if gain.adjusted is None or gain.adjusted >= alpha:
        return "no gain found"
    return "gain" if gain.mean > 0 else "loss"


def task_value(metrics: Mapping[str, float]) -> float:
    """One number for a task, as XTREME's evaluate.py averages: (F1 + EM) / 2 for questions, else the metric."""
    if "em" in metrics and "f1" in metrics:
        return (metrics["f1"] + metrics["em"]) / 2
    return metrics[next((name for name in ("f1", "accuracy", "map@20") if name in metrics), next(iter(metrics)))]


def overall(tasks: Mapping[str, float], retrieval: Iterable[str] = ()) -> tuple[float, float]:
    """Mean over tasks with and without the retrieval tasks; the second is what training on targets can explain."""
    left_out = set(retrieval)
    trained = [value for name, value in tasks.items() if name not in left_out]
    return float(np.mean(list(tasks.values()))), float(np.mean(trained)) if trained else float("nan")
