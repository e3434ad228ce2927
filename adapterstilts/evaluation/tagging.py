"""Chunks of a tag sequence as seqeval 0.0.x finds them: the F1 that XTREME reports for POS and NER.

For tags without a dash (UPOS) the first letter is read as an IOBES prefix and the whole tag as the type. So a run of
equal UPOS tags is one chunk, except SCONJ and SYM, whose ``S`` means "single". seqeval >= 1.0 gives other POS values.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapterstilts.errors import DataError

Chunk = tuple[str, int, int]  # type, first and last word


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """The chunks of one sentence under seqeval 0.0.12's rules (IOB2 and IOBES, lenient).

    An ``I-X`` after ``O`` or after another type opens a chunk. Sentences are independent: seqeval puts an ``O``
    between them.
    """
    found: list[Chunk] = []
    last, last_type, first = "O", "", 0
    for place, tag in enumerate([*tags, "O"]):
        letter, kind = tag[:1], tag.rpartition("-")[2]
        if _ends(last, letter, last_type != kind):
            found.append((last_type, first, place - 1))
        if _starts(last, letter, last_type != kind):
            first = place
        last, last_type = letter, kind
    return found


def _ends(last: str, letter: str, changed: bool) -> bool:
    if last in ("E", "S") or (last in ("B", "I") and letter in ("B", "S", "O")):
        return True
    return changed and last not in ("O", ".")


def _starts(last: str, letter: str, changed: bool) -> bool:
    if letter in ("B", "S") or (last in ("E", "S", "O") and letter in ("E", "I")):
        return True
    return changed and letter not in ("O", ".")


def tag_counts(prediction: Sequence[str] | None, gold: Sequence[str]) -> tuple[float, float, float, float, float]:
    """(correct, predicted, gold) chunks and (right, all) words of one sentence; a missing prediction claims nothing."""
    wanted = set(chunks(gold))
    if prediction is None:
        return 0.0, 0.0, float(len(wanted)), 0.0, float(len(gold))
    if len(prediction) != len(gold):
        raise DataError(
            f"{len(prediction)} predicted tags for a sentence of {len(gold)} words: {' '.join(gold[:8])} ...",
            why="a prediction needs one tag for each word",
            fix="prepare and predict again; words that the tokenizer drops must become <unk>",
        )
    claimed = set(chunks(prediction))
    right = sum(p == g for p, g in zip(prediction, gold, strict=True))
    return float(len(claimed & wanted)), float(len(claimed)), float(len(wanted)), float(right), float(len(gold))
