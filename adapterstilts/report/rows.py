"""Score rows as files: JSON (the rows as they are) and CSV (one column per field)."""

from __future__ import annotations

import csv
import io
import json

from adapterstilts.study.scores import Scores

COLUMNS = (
    "base",
    "arm",
    "seed",
    "task",
    "language",
    "split",
    "metric",
    "value",
    "n",
    "stage",
    "layer",
    "variant",
    "module",
)


def to_json(scores: Scores) -> str:
    """A list of row objects; ``value`` in percent; layer, variant and module only where they apply."""
    return json.dumps(scores.plain(), indent=1, ensure_ascii=False) + "\n"


def to_csv(scores: Scores) -> str:
    """Comma-separated values with a header; empty cells where a field does not apply."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(scores.plain())
    return out.getvalue()
