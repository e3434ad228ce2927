"""How numbers are written, and where each of them comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from adapterstilts.report.facts import Facts
from adapterstilts.study.gains import Gain, Summary
from adapterstilts.study.intervals import Interval
from adapterstilts.study.scores import Score

MINUS = "\u2212"
NONE = "\u2013"
METRICS = {"f1": "F1", "em": "exact match", "accuracy": "accuracy", "map@20": "mAP@20"}


def number(value: float | None, digits: int = 1) -> str:
    """A number with a real minus sign; a dash for None. Never "-0.0"."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{abs(value):.{digits}f}"
    return (MINUS if value < 0 and float(text) else "") + text


def signed(value: float | None, digits: int = 1) -> str:
    """A difference with its sign: +3.2, \u22121.0, 0.0."""
    text = number(value, digits)
    return "+" + text if value is not None and value > 0 and float(f"{value:.{digits}f}") else text


def span(interval: Interval | None, sign: bool = False) -> str:
    """The ends of an interval, "2.1 to 4.3"; empty where there is none."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    show = signed if sign else number
    return f"{show(interval.low)} to {show(interval.high)}"


def gain_text(gain: Gain | None) -> str:
    """ "+3.2 (+2.1 to +4.3)"."""
    if gain is None:
        return NONE
    ends = span(gain.interval, sign=True)
    return f"{signed(gain.mean)} ({ends})" if ends else f"{signed(gain.mean)} (one run)"


def p_text(p: float | None) -> str:
    return NONE if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(items: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def plural(count: int, word: str) -> str:
    many = {"base": "bases", "is": "are"}.get(word, word[:-1] + "ies" if word.endswith("y") else word + "s")
    return f"{count} {word if count == 1 else many}"


def metric_name(metric: str, start: bool = False) -> str:
    """The metric in words; ``start`` for the beginning of a sentence."""
    name = METRICS.get(metric, metric)
    return name[:1].upper() + name[1:] if start else name


def short(stage: str) -> str:
    """The first ten characters of a stage hash."""
    return stage[:10]


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    if value < 60:
        return f"{value:.1f} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 120 else f"{value / 3600:.1f} h"


def memory(value: float | None) -> str:
    """Bytes as MiB or GiB."""
    if value is None:
        return NONE
    mib = value / 2**20
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def origin(rows: Iterable[Score], facts: Facts, most: int = 12) -> str:
    """Where a number comes from, in one line: task, languages, split, metric, n, layer, bases, seeds, stage hashes."""
    found = tuple(rows)
    if not found:
        return ""

    def unique(field: str) -> list[str]:
        return [str(v) for v in dict.fromkeys(getattr(row, field) for row in found) if v is not None]

    stages = [short(stage) for stage in unique("stage")]
    more = f" and {len(stages) - most} more" if len(stages) > most else ""
    sizes = unique("n")
    arms = listed([facts.name(arm) for arm in unique("arm")], "minus")
    parts = [
        f"{arms} on {', '.join(facts.name(task) for task in unique('task'))}",
        f"languages {', '.join(unique('language'))}",
        f"split {', '.join(unique('split'))}",
        ", ".join(metric_name(m) for m in unique("metric")),
        f"n = {', '.join(sizes)}" if sizes else "",
        f"layer {', '.join(unique('layer'))}" if unique("layer") else "",
        ", ".join("language means subtracted" if v == "centred" else v for v in unique("variant")),
        f"bases {', '.join(facts.name(b) for b in unique('base'))}",
        f"seeds {', '.join(unique('seed'))}" if unique("seed") else "not trained",
        f"stages {', '.join(stages[:most])}{more}",
    ]
    return " \u00b7 ".join(part for part in parts if part)


def value_text(summary: Summary | None) -> str:
    return NONE if summary is None else number(summary.mean)
