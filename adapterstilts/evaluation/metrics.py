"""The official metrics. Each is a sum over examples of small counts, finished once: nothing else has to be kept.

``METRICS[name](predictions, golds, language=...)`` scores two sequences, ``METRICS[name].start(language)`` scores a
stream. Values are percent (0..100); the score of one example is 0..1 and serves paired tests. Golden values: XTREME's
``mock_test_data`` with its ``evaluate.py`` and seqeval 0.0.12 (a test holds them to 1e-9).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adapterstilts.errors import DataError
from adapterstilts.evaluation.qa import answer_scores, mlqa_normaliser, squad_normalise
from adapterstilts.evaluation.tagging import tag_counts

Counts = tuple[float, ...]
Aligned = list[tuple[Any, Any]]


@dataclass(frozen=True)
class Metric:
    """What one example adds (``count``), what the totals mean (``finish``), what one example is worth (``score``).

    ``align`` pairs predictions with golds; by default position by position, equal lengths asserted as XTREME does.
    """

    name: str
    keys: tuple[str, ...]
    main_key: str
    count: Callable[[Any, Any, str], Counts]
    finish: Callable[[Counts], dict[str, float]]
    score: Callable[[Counts], float]
    align: Callable[[Sequence[Any], Sequence[Any]], Aligned]

    def __call__(self, predictions: Sequence[Any], golds: Sequence[Any], *, language: str) -> dict[str, float]:
        """The metric in percent, by key. Raises DataError on unequal lengths, unknown golds and empty input."""
        state = self.start(language)
        for prediction, gold in self.align(predictions, golds):
            state.update(prediction, gold)
        return state.result()

    def example_scores(self, predictions: Sequence[Any], golds: Sequence[Any], *, language: str) -> list[float]:
        """One score in 0..1 per aligned example, in the order of ``golds``; their mean need not be the metric."""
        state = self.start(language)
        return [state.update(prediction, gold) for prediction, gold in self.align(predictions, golds)]

    def start(self, language: str) -> State:
        """An empty state, to be updated example by example."""
        return State(self, language)


class State:
    """The running totals of one metric in one language: a few numbers, whatever the number of examples."""

    def __init__(self, metric: Metric, language: str) -> None:
        self.metric = metric
        self.language = language
        self.totals: Counts = ()
        self.n = 0

    def update(self, prediction: Any, gold: Any) -> float:
        """Add one example; returns its score in 0..1. ``prediction`` None means missing and scores 0."""
        if gold is None:
            raise DataError(
                f"{self.metric.name} ({self.language}): example {self.n} has no gold label",
                why="the split is published without labels, or they were blanked",
                fix="give a data root that holds the labels, or write the predictions for submission instead",
            )
        counts = self.metric.count(prediction, gold, self.language)
        self.totals = tuple(map(sum, zip(self.totals, counts, strict=True))) if self.n else counts
        self.n += 1
        return self.metric.score(counts)

    def result(self) -> dict[str, float]:
        """The metric over everything added so far, in percent, by key."""
        if not self.n:
            raise DataError(
                f"{self.metric.name} ({self.language}): no example to score",
                why="the split is empty or the limit is 0",
                fix="check the data of this language",
            )
        return self.metric.finish(self.totals)


def _one_to_one(predictions: Sequence[Any], golds: Sequence[Any]) -> Aligned:
    if len(predictions) != len(golds):
        raise DataError(
            f"{len(predictions)} predictions for {len(golds)} golds",
            why="each example needs exactly one prediction (use None for a missing one)",
            fix="predict again with the data the golds come from",
        )
    return list(zip(predictions, golds, strict=True))


# Means: accuracy, average precision, question answering. Counts end with the number of examples.


def _means(*keys: str) -> Callable[[Counts], dict[str, float]]:
    return lambda totals: {key: 100.0 * total / totals[-1] for key, total in zip(keys, totals, strict=False)}


def _first(counts: Counts) -> float:
    return counts[0]


def _mean_metric(name: str, keys: tuple[str, ...], count: Callable[[Any, Any, str], Counts]) -> Metric:
    return Metric(name, keys, keys[0], count, _means(*keys), _first, _one_to_one)


def _accuracy(prediction: Any, gold: Any, language: str) -> Counts:
    # The official files hold one label a line, compared as text after strip(): 1 and "1" are the same label.
    right = prediction is not None and str(prediction).strip() == str(gold).strip()
    return float(right), 1.0


def _average_precision(prediction: Any, gold: Any, language: str) -> Counts:
    # The mean over the right ones of precision at their rank; what is not found counts 0, and of more than 20 right
    # ones only 20 can be found (LAReQA). With one right entity a mention (Mewsli-X) this is its reciprocal rank.
    right = {gold} if isinstance(gold, str) else set(gold)
    found, total = 0, 0.0
    for rank, item in enumerate((prediction or ())[:20], start=1):
        if item in right:
            found += 1
            total += found / rank
    return total / min(len(right), 20) if right else 0.0, 1.0


def _text(answer: Any) -> str:
    return str(answer["text"] if isinstance(answer, Mapping) else answer)


def _question(prediction: Any, gold: Any, normalise: Callable[[str], str]) -> Counts:
    if prediction is None:
        return 0.0, 0.0, 1.0
    f1, exact = answer_scores(_text(prediction), list(map(_text, gold)), normalise)
    return f1, exact, 1.0


def _squad(prediction: Any, gold: Any, language: str) -> Counts:
    return _question(prediction, gold, squad_normalise)


def _mlqa(prediction: Any, gold: Any, language: str) -> Counts:
    return _question(prediction, gold, mlqa_normaliser(language))


# Masked words: totals are log-probabilities (nats) and tokens; the one metric that is no percentage.


def _likelihood(prediction: Any, gold: Any, language: str) -> Counts:
    return prediction["log_probability"], float(prediction["tokens"])


def _perplexity(totals: Counts) -> dict[str, float]:
    mean = totals[0] / totals[1]
    return {"log_probability": mean, "perplexity": math.exp(-mean)}


def _token_probability(counts: Counts) -> float:
    return math.exp(counts[0] / counts[1]) if counts[1] else 1.0  # a short text may have no masked word


# F1 over sets: chunks of tags, sentence pairs. Counts start with (correct, predicted, gold).


def _f1(totals: Counts) -> dict[str, float]:
    correct, predicted, gold = totals[:3]
    precision = correct / predicted if predicted else 0.0
    recall = correct / gold if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
    return {"f1": 100 * f1, "precision": 100 * precision, "recall": 100 * recall}


def _tagging(totals: Counts) -> dict[str, float]:
    return _f1(totals) | {"accuracy": 100 * totals[3] / totals[4] if totals[4] else 0.0}


def _f1_score(counts: Counts) -> float:
    correct, predicted, gold = counts[:3]
    return 2 * correct / (predicted + gold) if predicted + gold else 1.0  # nothing to find, nothing claimed


def _tags(prediction: Any, gold: Any, language: str) -> Counts:
    return tag_counts(prediction, gold)


def _tag_metric(name: str) -> Metric:
    return Metric(name, ("f1", "precision", "recall", "accuracy"), "f1", _tags, _tagging, _f1_score, _one_to_one)


def _pairs(prediction: Any, gold: Any, language: str) -> Counts:
    predicted, wanted = set(map(_pair, prediction or ())), set(map(_pair, gold))
    return float(len(predicted & wanted)), float(len(predicted)), float(len(wanted))


def _by_source(predictions: Iterable[Any], golds: Iterable[Any]) -> Aligned:
    """One example per source sentence that has a gold pair, and a last one for all pairs of other sources.

    So the number of examples depends on the golds alone and two systems can be compared pair by pair.
    """
    wanted: dict[str, set[tuple[str, str]]] = {}
    for pair in map(_pair, golds):
        wanted.setdefault(pair[0], set()).add(pair)
    found: dict[str, set[tuple[str, str]]] = {source: set() for source in wanted}
    others: set[tuple[str, str]] = set()
    for pair in map(_pair, predictions):
        found.get(pair[0], others).add(pair)
    return [*((found[source], pairs) for source, pairs in wanted.items()), (others, set())]


def _pair(pair: Any) -> tuple[str, str]:
    source, target = pair.split("\t") if isinstance(pair, str) else pair
    return source, target


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _mean_metric("accuracy", ("accuracy",), _accuracy),
        # The main key is the one where more is better, so that selection needs no second direction.
        Metric(
            "perplexity",
            ("log_probability", "perplexity"),
            "log_probability",
            _likelihood,
            _perplexity,
            _token_probability,
            _one_to_one,
        ),
        _tag_metric("chunk_f1"),  # POS: the official "accuracy" is this F1; real token accuracy stands beside it
        _tag_metric("iob_f1"),  # NER: the same rules read IOB2 and IOBES leniently
        _mean_metric("squad", ("f1", "em"), _squad),
        _mean_metric("mlqa", ("f1", "em"), _mlqa),
        _mean_metric("tatoeba", ("accuracy",), _accuracy),
        Metric("bucc", ("f1", "precision", "recall"), "f1", _pairs, _f1, _f1_score, _by_source),
        _mean_metric("map@20", ("map@20",), _average_precision),
    )
}
