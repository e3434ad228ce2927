"""Looking at data before anything is trained on it: counts, labels, empty fields, repeated ids, broken encoding."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapterstilts.data.bitext import load_bitext
from adapterstilts.data.health import label_names
from adapterstilts.data.leaks import Overlap, leaks, normalised
from adapterstilts.data.rows import read
from adapterstilts.data.sources import DataRoot, Resolved, resolve
from adapterstilts.errors import DataError
from adapterstilts.tasks.formats import get_format
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec

__all__ = ["Checked", "Finding", "Overlap", "check", "examine", "leaks", "normalised"]

SHOWN_ERRORS = 5
# UTF-8 read as Latin-1 and written again: é becomes Ã©.
MOJIBAKE = re.compile(r"Ã[\x80-\xbf©¨¶¼¤]|â€[™œ\x9d“”¦]|Â[\xa0»«°]")


@dataclass(frozen=True)
class Finding:
    """``code`` names the kind of finding; ``count`` how many examples it concerns, the first of them at ``where``."""

    level: Literal["error", "warning", "info"]
    code: str
    message: str
    where: str | None = None
    count: int = 1


@dataclass(frozen=True)
class Checked:
    """What was found in one split. ``count`` None: nothing could be read. Bitext counts gold pairs where known."""

    task: str
    language: str
    split: str
    findings: tuple[Finding, ...]
    source: str | None = None
    count: int | None = None
    published: int | None = None

    @property
    def missing(self) -> bool:
        """Whether there are no data at all; other errors mean broken ones."""
        return any(finding.code == "missing" for finding in self.findings)

    def level(self, level: str) -> int:
        """How many findings of a level there are."""
        return sum(finding.level == level for finding in self.findings)


class _Tally:
    """Examples by kind of finding, with the first place."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, code: str, where: str) -> None:
        self.counts[code] += 1
        self.first.setdefault(code, where)

    def findings(self, messages: Mapping[str, tuple[Literal["error", "warning", "info"], str]]) -> Iterator[Finding]:
        for code, (level, message) in messages.items():
            if self.counts[code]:
                yield Finding(level, code, message, self.first[code], self.counts[code])


MESSAGES: dict[str, tuple[Literal["error", "warning", "info"], str]] = {
    "empty": ("warning", "a text is empty"),
    "repeated-id": ("warning", "an id occurs again: predictions by id would be mixed up"),
    "repeated-example": ("info", "the same texts with the same label occur again"),
    "conflicting-label": ("warning", "the same texts occur with another label"),
    "mojibake": ("warning", "UTF-8 was read as Latin-1 somewhere (Ã©, â€™)"),
    "replacement-character": ("warning", "a character was lost to a wrong encoding (U+FFFD)"),
    "doubled-quotes": ("warning", 'a text in quotes with "" inside: the file is csv-quoted and was read without'),
    "answer-not-found": ("warning", "an answer does not occur in its context; it is not trained on"),
    "repeated-sentence": ("info", "a sentence occurs again on its side; mining rules treat duplicates differently"),
}


def check(
    task: TaskSpec,
    language: str,
    split: str,
    root: DataRoot | Path | str | Mapping[str, Any] | None,
    registry: TaskRegistry | None = None,
) -> list[Finding]:
    """What is odd about a split, errors first; an empty list is a clean bill of health. See `examine`."""
    return list(examine(task, language, split, root, registry).findings)


def examine(
    task: TaskSpec,
    language: str,
    split: str,
    root: DataRoot | Path | str | Mapping[str, Any] | None,
    registry: TaskRegistry | None = None,
) -> Checked:
    """Read a split through: counts, labels, types of columns, encoding, empty texts, repeated ids and examples.

    Raises:
        DataError: a language or split the task does not have.
    """
    resolved = resolve(task, language, split, root, registry)
    if not resolved.present:
        places = "; ".join(resolved.missing[:3])
        found = Finding("error", "missing", f"no data: looked for {places}", f"{task.name}/{language} {split}")
        return Checked(task.name, language, split, (found,))
    count, findings = _read_through(resolved)
    order = {"error": 0, "warning": 1, "info": 2}
    ordered = tuple(sorted(findings, key=lambda finding: order[finding.level]))
    return Checked(task.name, language, split, ordered, resolved.source.name, count, task.size(split, language))


def _read_through(resolved: Resolved) -> tuple[int | None, list[Finding]]:
    findings: list[Finding] = []
    if resolved.stand_in:
        findings.append(Finding("warning", "stand-in", f"not the official data: {' '.join(resolved.notes)}"))
    if not resolved.labelled:
        findings.append(Finding("info", "blanked", "the files hold no labels and no gold file was found"))
    try:
        count, more = _bitext(resolved) if resolved.task.format == "bitext" else _examples(resolved)
    except DataError as error:
        return None, [Finding("error", "unreadable", str(error), error.where), *findings]
    published = resolved.size
    if count == 0:
        findings.append(Finding("error", "no-examples", "there is no example"))
    elif published is not None and count != published and not resolved.stand_in:
        findings.append(Finding("warning", "count", f"{count} examples, {published} published"))
    return count, [*findings, *more]


def _examples(resolved: Resolved) -> tuple[int, list[Finding]]:
    task = resolved.task
    form = get_format(task.format)
    tally = _Tally()
    errors: list[Finding] = []
    ids: set[str] = set()
    labels: Counter[str] = Counter()
    seen: dict[int, str] = {}
    count = 0
    for row in read(resolved):
        count += 1
        try:
            example = form.parse(row, task)
        except DataError as error:
            if len(errors) < SHOWN_ERRORS:
                errors.append(Finding("error", "row", str(error), row.where))
            continue
        gold = form.gold(example, task)
        labels.update(label_names(gold, task.format))
        if example["id"] in ids:
            tally.add("repeated-id", row.where)
        ids.add(example["id"])
        texts = form.texts(example)
        for code in odd_texts(texts):
            tally.add(code, row.where)
        key = hash(tuple(texts))
        if key in seen:
            # A question asked twice may well have two right answers.
            same = seen[key] == repr(gold) or task.format in ("span", "ranking")
            tally.add("repeated-example" if same else "conflicting-label", row.where)
        seen[key] = repr(gold)
        if gold is not None and not task.searched and not form.usable(example):
            tally.add("answer-not-found", row.where)
    unseen = [label for label in task.labels if label not in labels] if resolved.labelled else []
    if unseen and len(task.labels) <= 20:
        errors.append(Finding("info", "unseen-label", f"no example of {', '.join(unseen)}"))
    return count, [*errors, *tally.findings(MESSAGES)]


def _bitext(resolved: Resolved) -> tuple[int, list[Finding]]:
    data = load_bitext(resolved)
    tally = _Tally()
    for name, side in (("source", data["source"]), ("target", data["target"])):
        seen: set[str] = set()
        for key, text in side:
            where = f"{name} {key}"
            if text in seen:
                tally.add("repeated-sentence", where)
            seen.add(text)
            for code in odd_texts([text]):
                tally.add(code, where)
    # Tatoeba's published size is its sentences, BUCC's its gold pairs.
    count = len(data["source"]) if data["gold"] is None else len(data["gold"])
    return count, list(tally.findings(MESSAGES))


def odd_texts(texts: list[str]) -> Iterator[str]:
    """The kinds of oddity that occur in the texts of one example, each once."""
    if any(not text.strip() for text in texts):
        yield "empty"
    if any("\ufffd" in text for text in texts):
        yield "replacement-character"
    if any(MOJIBAKE.search(text) for text in texts):
        yield "mojibake"
    if any(text.startswith('"') and text.endswith('"') and '""' in text[1:-1] for text in texts):
        yield "doubled-quotes"
