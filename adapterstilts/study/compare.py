"""Two arms of a run against each other: by seeds, by examples, by languages, and by all of them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adapterstilts.study.families import relatives
from adapterstilts.study.gains import Examples, Gain, gain
from adapterstilts.study.intervals import Interval, bootstrap
from adapterstilts.study.nested import nested_interval
from adapterstilts.study.scores import Scores, paired
from adapterstilts.study.tests import holm, sign_flip


@dataclass(frozen=True)
class Comparison:
    """Arm ``a`` minus arm ``b`` on one task, in one language or over several, in points.

    ``gain`` pairs them by base and seed (t interval, exact sign flips, d_z). With per-example scores also:
    ``examples``, a paired bootstrap over test examples with these runs fixed; ``randomised``, the p-value of the
    approximate randomisation test that swaps the two arms' answers example by example (Noreen 1989; Yeh 2000);
    ``nested``, with seeds, languages and examples all random. ``languages``: a paired bootstrap over languages, of
    which it needs three. In both, languages of one family are one draw (``unit`` "family").
    ``adjusted`` is Holm's correction of ``gain.p`` over the languages, ``randomised_adjusted`` that of ``randomised``.
    """

    over: str
    gain: Gain
    examples: Interval | None = None
    randomised: float | None = None
    nested: Interval | None = None
    languages: Interval | None = None
    adjusted: float | None = None
    randomised_adjusted: float | None = None


def compare(
    scores: Scores, a: str, b: str, languages: Sequence[str], examples: Examples | None = None, over: str = "all"
) -> list[Comparison]:
    """The comparison over all the languages first, then in each; ``scores`` hold one task and one metric.

    Empty where no base and seed has both arms.
    """
    whole = _one(scores, a, b, languages, over, examples)
    each = [found for name in languages if (found := _one(scores, a, b, (name,), name, examples))]
    if whole is None or len(languages) < 2:
        return [whole] if whole else each
    return [whole, *_corrected(each)]


def _one(
    scores: Scores, a: str, b: str, languages: Sequence[str], over: str, examples: Examples | None
) -> Comparison | None:
    found = gain(scores, a, b, languages, over)
    if found is None:
        return None
    made = Comparison(over, found, languages=_over_languages(scores, a, b, languages), adjusted=found.p)
    runs = _differences(scores, a, b, languages, examples) if examples else None
    if not runs:
        return made
    pooled = _pooled(runs)
    return replace(
        made,
        examples=bootstrap(pooled, how="percentile", rounds=1999),
        randomised=(p := sign_flip(pooled)),
        randomised_adjusted=p,
        nested=nested_interval(runs),
    )


def _over_languages(scores: Scores, a: str, b: str, languages: Sequence[str]) -> Interval | None:
    """Bootstrap over languages of the difference, each language's mean over runs as one value; relatives together."""
    each = {name: found.mean for name in languages if (found := gain(scores, a, b, (name,), name))}
    groups = relatives(list(each))
    if len(groups) < 3:
        return None
    values = list(each.values())
    sums = np.array([[sum(values[k] for k in group), len(group)] for group in groups])
    unit = "language" if len(groups) == len(each) else "family"
    return replace(bootstrap(sums, _ratio, how="percentile", rounds=1999), unit=unit)


def _ratio(sums: NDArray[np.float64]) -> float:
    """The mean over the languages of some families, given each family's (sum, number of languages)."""
    total, count = sums.sum(axis=0)
    return float(total / count)


def _differences(
    scores: Scores, a: str, b: str, languages: Sequence[str], examples: Examples
) -> list[dict[str, dict[str, float]]] | None:
    """For each run and language the per-example differences in points; None where a stage kept no predictions."""
    runs = []
    for _, left, right in paired(scores.where(arm=a).grid(languages), scores.where(arm=b).grid(languages)):
        run = {}
        for language in languages:
            mine, theirs = examples(left[language].stage, language), examples(right[language].stage, language)
            if not mine or not theirs or not mine.keys() & theirs.keys():
                return None
            run[language] = {i: 100 * (mine[i] - theirs[i]) for i in mine if i in theirs}
        runs.append(run)
    return runs


def _pooled(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> list[float]:
    """One difference for each example: the mean over runs, and over languages where they share their examples.

    Parallel examples are one unit: translations of one sentence do not fail independently.
    """
    sums: dict[str, list[float]] = {}
    parallel = len({tuple(run[name]) for run in runs for name in run}) == 1
    for run in runs:
        for name, values in run.items():
            for key, value in values.items():
                sums.setdefault(key if parallel else f"{name}/{key}", []).append(value)
    return [float(np.mean(values)) for values in sums.values()]


def _corrected(found: Sequence[Comparison]) -> list[Comparison]:
    """Holm's correction over the languages, for both tests."""
    seeds = [item for item in found if item.gain.p is not None]
    swaps = [item for item in found if item.randomised is not None]
    by_seed = dict(zip(map(id, seeds), holm([item.gain.p or 0.0 for item in seeds]), strict=True))
    by_swap = dict(zip(map(id, swaps), holm([item.randomised or 0.0 for item in swaps]), strict=True))
    return [replace(x, adjusted=by_seed.get(id(x)), randomised_adjusted=by_swap.get(id(x))) for x in found]
