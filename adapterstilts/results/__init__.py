"""What a plan has measured: score rows, facts for the report, per-example scores. Read from the store, torch-free."""

from adapterstilts.results.facts import report_facts
from adapterstilts.results.rows import example_scores, score_rows

__all__ = ["example_scores", "report_facts", "score_rows"]
