"""Scoring one prepared split: stream predictions into the official metric; only its running totals are held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adapterstilts.data.prepared import Prepared
from adapterstilts.encoder.masking import Masking
from adapterstilts.evaluation.metrics import METRICS
from adapterstilts.evaluation.predict import outputs
from adapterstilts.modules.attach import Adapted
from adapterstilts.tasks.formats import get_format


@dataclass(frozen=True)
class Scored:
    """``metrics`` in percent, empty when no gold label is known; ``n`` examples were scored."""

    metrics: dict[str, float]
    main: str
    n: int

    @property
    def value(self) -> float:
        """The main metric in percent."""
        return self.metrics[self.main]


def score(
    adapted: Adapted,
    head: Any,
    prepared: Prepared,
    *,
    language: str,
    limit: int | None = None,
    write: Callable[[dict[str, Any]], object] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Scored:
    """Predict and score a prepared split; examples without a gold label are predicted and not scored.

    Args:
        write: gets one row per example: {id, prediction, gold, score}, score in 0..1 for paired tests.
    """
    task = prepared.task
    format = get_format(task.format)
    metric = METRICS[task.metric]
    state = metric.start(language)
    masking = make_masking(prepared, adapted)
    streamed = outputs(adapted, head, prepared.arrays, masking=masking, limit=limit, progress=progress)
    for index, (logits, example) in enumerate(zip(streamed, prepared.examples(), strict=False)):
        prediction = format.decode(logits, prepared.view(index), example, task)
        gold = format.gold(example, task)
        value = None if gold is None else state.update(prediction, gold)
        if write is not None:
            write({"id": example["id"], "prediction": prediction, "gold": gold, "score": value})
    return Scored(state.result() if state.n else {}, metric.main_key, state.n)


def make_masking(prepared: Prepared, adapted: Adapted) -> Masking | None:
    """How words of a masked_lm task are hidden; None for other formats."""
    if prepared.task.format != "masked_lm":
        return None
    vocabulary = adapted.base.vocabulary
    return Masking(prepared.facts["mask_id"], vocabulary)
