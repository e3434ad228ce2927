"""A study in words: the answer of each part, what was found, what was not, and every contrast as a row of a table."""

from __future__ import annotations

from collections.abc import Iterable

from adapterstilts.report.studies.page import Number, Part, Study, Table
from adapterstilts.report.words import NONE, listed, number, p_text, plural, signed, span
from adapterstilts.study.contrast import Contrast

NOTHING = "no difference found"
FOUND_IN_BRACKETS = "In brackets: 95 % intervals."
MISSED_IN_BRACKETS = "In brackets: what remains possible (95 % intervals); without one, anything does."


def answers(study: Study) -> list[str]:
    """One sentence for each part of the question."""
    return [*study.answer, *(_answer(part, study) for part in study.parts)]


def findings(study: Study) -> list[str]:
    """What was found, in the order of the study; one sentence for each pair of arms."""
    return [*study.found, *_pairs((item for item in study.contrasts if item.found != NOTHING), study)]


def not_found(study: Study) -> list[str]:
    """What was looked for and not found, with what remains possible."""
    return [*study.not_found, *_pairs((item for item in study.contrasts if item.found == NOTHING), study)]


def contrast_table(study: Study) -> Table:
    """Every contrast with its tests."""
    name = study.results.facts.name
    body = tuple(
        (
            f"{name(item.a)} − {name(item.b)}",
            item.of,
            item.found,
            Number(number(item.left), item.rows),
            Number(number(item.right), item.rows),
            Number(signed(item.mean, 2), item.rows),
            span(item.interval, sign=True) or NONE,
            _runs([item]),
            p_text(item.p),
            p_text(item.adjusted),
            p_text(item.flip),
            number(item.effect, 2),
        )
        for item in study.contrasts
    )
    head = ("Contrast", "Of", "Verdict", "first", "second", "difference", "95 %", "over")
    note = f"In points. Holm's correction is over the {_family(study)} contrasts of this page that have an interval."
    return Table("All contrasts", (*head, "p", "p (Holm)", "p (flip)", "d_z"), body, note, 3)


def tests_told(study: Study) -> list[str]:
    """How the contrasts were tested."""
    runs = max((len(item.values) for item in study.contrasts), default=0)
    flip = f"; with {runs} runs it cannot be below {number(2 / 2**runs, 3)}" if runs > 1 else ""
    return [
        "Scores are percent on the split named with each number. Zero-shot is the mean over all languages but English.",
        "A contrast is the difference of two arms on the same base with the same seed, in points. Its interval is"
        " Student's t over these runs at 95 %, or over the bases where these differ beyond their seeds (F test,"
        " p < 0.05).",
        f"A difference is claimed where zero is excluded after Holm's correction over the {_family(study)} contrasts of"
        " this page. “No difference found” does not mean that there is none: the interval says what remains possible.",
        f"p (flip) flips the signs of the runs in all ways{flip}. d_z is the mean difference by its standard deviation"
        " over runs, with Hedges' factor.",
        "Figures of gains and of languages have their own correction: over arms and targets, and over the languages of"
        " an arm.",
    ]


def _family(study: Study) -> int:
    return max((item.family for item in study.contrasts), default=0)


def _answer(part: Part, study: Study) -> str:
    """How many contrasts of a part show a difference, and the largest of them (or of all where none does)."""
    name = study.results.facts.name
    claimed = [item for item in part.contrasts if item.found != NOTHING]
    shown = max(claimed or part.contrasts, key=lambda item: abs(item.mean))
    many = len(part.contrasts)
    if claimed:
        words = [f"{word} in {n}" for word in ("higher", "lower") if (n := [c.found for c in claimed].count(word))]
        said = listed(words).capitalize() if many > 1 else claimed[0].found.capitalize()
    elif shown.p is None:
        said = "One run shows no spread, so nothing can be claimed" if len(shown.values) == 1 else "Nothing to test"
    else:
        said = "No difference found"
    said += f" of {many} comparisons" if claimed and many > 1 else f" in {many} comparisons" if many > 1 else ""
    ends = f"95 % interval {span(shown.interval, sign=True)}; " if span(shown.interval) else ""
    nearly = "; zero is not left out after correction" if not claimed and shown.interval.excludes(0) else ""
    size = f"{signed(shown.mean)} points ({ends}{_runs([shown])}{nearly})"
    what = f"**{name(shown.a)}** against **{name(shown.b)}**, {shown.of}"
    low = [f"**{name(arm)}**" for arm in _guessing(shown, study)]
    floor = f"; {listed(low)} {'is' if len(low) == 1 else 'are'} at the level of guessing there" if low else ""
    return f"**{part.title}.** {said}{'; the largest' if many > 1 else ''}: {what}, {size}{floor}."


def _guessing(item: Contrast, study: Study) -> list[str]:
    """The arms that cannot be told from guessing, where that matters: both of them, or one of a contrast of slopes or
    drops, which has no room to fall."""
    task, *what = item.key.split("/")
    arms = [r for target in study.results.targets if target.task == task for r in target.arms]
    low = [r.arm.name for r in arms if r.at_chance or all(cell.at_chance for cell in r.cells.values())]
    guessing = [arm for arm in (item.a, item.b) if arm in low]
    return guessing if len(guessing) == 2 or {"slope", "drop"} & set(what) else []


def _pairs(items: Iterable[Contrast], study: Study) -> list[str]:
    """One sentence for each pair of arms, with all that was compared between them."""
    name = study.results.facts.name
    by_pair: dict[tuple[str, str], list[Contrast]] = {}
    for item in items:
        by_pair.setdefault((item.a, item.b), []).append(item)
    return [
        f"**{name(a)}** against **{name(b)}** ({_runs(group)}): {'; '.join(map(_size, group))}."
        for (a, b), group in by_pair.items()
    ]


def _runs(items: list[Contrast]) -> str:
    counts = sorted({len(item.values) for item in items})
    if all(item.interval.low is None for item in items):
        return f"{plural(counts[-1], 'run')}, no interval"
    runs = plural(counts[-1], "run") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"
    bases = len({pair.base for item in items if item.interval.unit == "base" for pair in item.pairs})
    return f"{runs}, interval over {plural(bases, 'base')}" if bases else runs


def _size(item: Contrast) -> str:
    """ "zero-shot on XCOPA +1.6 points (−0.1 to +3.1)"."""
    ends = span(item.interval, sign=True)
    none = ", or none after correction" if item.found == NOTHING and item.interval.excludes(0) else ""
    return f"{item.of} {signed(item.mean)} points" + (f" ({ends}{none})" if ends else "")
