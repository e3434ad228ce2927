"""What a prepared split looks like to the tokenizer: unknown pieces, pieces per word, what was cut, which labels."""

from __future__ import annotations

from collections import Counter
from typing import Any

from adapterstilts.tasks.formats import get_format
from adapterstilts.tasks.formats.base import EncodedExample, Example
from adapterstilts.tasks.spec import TaskSpec

SHOWN_LABELS = 50


class Health:
    """Running totals over encoded examples."""

    def __init__(self, task: TaskSpec) -> None:
        self.task = task
        self.format = get_format(task.format)
        self.totals: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()

    def add(self, example: Example, encoded: EncodedExample) -> None:
        """Count one example."""
        lengths = [len(row.ids) for row in encoded.rows]
        texts = self.format.texts(example)
        totals = self.totals
        totals["n"] += 1
        totals["rows"] += len(lengths)
        totals["tokens"] += sum(lengths)
        totals["pieces"] += encoded.pieces
        totals["unknown"] += encoded.unknown
        totals["words"] += sum(len(text.split()) for text in texts)
        totals["characters"] += sum(map(len, texts))
        totals["truncated"] += encoded.truncated
        totals["split"] += self.task.format in ("tagging", "span") and len(lengths) > 1
        totals["longest"] = max(totals["longest"], *lengths)
        self.labels.update(label_names(self.format.gold(example, self.task), self.task.format))

    def skip(self) -> None:
        """Count a training example without usable label."""
        self.totals["skipped"] += 1

    def result(self) -> dict[str, Any]:
        """Facts as JSON; rates are shares of 0..1.

        ``pieces_per_word`` means little for languages written without spaces; ``pieces_per_character`` serves those.
        """
        t = self.totals
        n, pieces = max(t["n"], 1), max(t["pieces"], 1)
        return {
            **{name: t[name] for name in ("n", "rows", "tokens", "longest", "skipped")},
            "unknown_rate": t["unknown"] / pieces,
            "pieces_per_word": t["pieces"] / max(t["words"], 1),
            "pieces_per_character": t["pieces"] / max(t["characters"], 1),
            "truncated_share": t["truncated"] / n,
            "split_share": t["split"] / n,
            "labels": dict(self.labels.most_common(SHOWN_LABELS)),
        }


def label_names(gold: Any, format: str) -> list[str]:
    """The labels of one example as they are counted."""
    if gold is None:
        return [] if format in ("masked_lm", "bitext") else ["(blanked)"]
    if format == "span":
        return ["answerable" if gold else "unanswerable"]
    return [str(tag) for tag in gold] if isinstance(gold, list) else [str(gold)]
