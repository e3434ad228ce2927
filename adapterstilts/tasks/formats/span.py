"""Extractive question answering: a question, a context in windows, an answer as characters of the context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import (
    EncodedExample,
    EncodedRow,
    Example,
    ExampleView,
    FieldType,
    Pieces,
    Row,
    Tokenizer,
    special_tokens,
    text_of,
)
from adapterstilts.tasks.formats.realign import realigned
from adapterstilts.tasks.spec import TaskSpec

NOWHERE = -1  # start of an answer whose text does not occur in the context
Ints = NDArray[np.int32]


class Span:
    """``<s> question </s></s> window </s>``. Windows advance by ``stride`` subwords, as in XTREME's script.

    (transformers' run_qa.py calls the *overlap* stride; with 384 / 128 that makes fewer windows.)
    """

    name: ClassVar[str] = "span"
    fields: ClassVar[Mapping[str, FieldType]] = {
        "start": FieldType("row"),
        "end": FieldType("row"),
        "char_start": FieldType("token", "int32"),
        "char_end": FieldType("token", "int32"),
        "max_context": FieldType("token", "int32"),
    }

    def parse(self, row: Row, task: TaskSpec) -> Example:
        context = text_of(row, "context", empty=False)
        return {
            "id": str(row.values["id"]),
            "question": text_of(row, "question"),  # CMRC 2018 has two empty ones
            "context": context,
            "answers": [located(answer, context) for answer in answers_of(row)],
        }

    def encode(self, examples: Sequence[Example], tokenizer: Tokenizer, task: TaskSpec) -> list[EncodedExample]:
        settings = task.settings
        # A question never takes more than half of a row, or no window would be left in a short one.
        longest = min(settings.max_question, (settings.max_length - special_tokens(paired=True)) // 2)
        questions = tokenizer.ids([e["question"] for e in examples])
        distinct = list(dict.fromkeys(e["context"] for e in examples))
        contexts = {
            text: (np.array(pieces.ids, dtype=np.int32), *_characters(pieces))
            for text, pieces in zip(distinct, tokenizer.pieces(distinct), strict=True)
        }
        made = []
        for example, question in zip(examples, questions, strict=True):
            ids, starts, ends = contexts[example["context"]]
            room = settings.max_length - special_tokens(paired=True) - len(question[:longest])
            span = token_span(starts, ends, example["answers"][0]) if example["answers"] else None
            prefix = [tokenizer.bos, *question[:longest], tokenizer.eos, tokenizer.eos]
            spans = windows(len(ids), room, settings.stride)
            best = best_windows(len(ids), spans)
            rows = []
            for number, (begin, end) in enumerate(spans):
                offset = len(prefix) - begin
                inside = span is not None and begin <= span[0] and span[1] < end
                first, last = (span[0] + offset, span[1] + offset) if span is not None and inside else (0, 0)
                rows.append(
                    EncodedRow(
                        [*prefix, *ids[begin:end].tolist(), tokenizer.eos],
                        {
                            "start": first,
                            "end": last,
                            "char_start": _framed(starts[begin:end], len(prefix), -1),
                            "char_end": _framed(ends[begin:end], len(prefix), -1),
                            "max_context": _framed(best[begin:end] == number, len(prefix), 0),
                        },
                    )
                )
            unknown = question.count(tokenizer.unk) + int((ids == tokenizer.unk).sum())
            lost = len(question) > longest
            made.append(EncodedExample(rows, {}, len(question) + len(ids), unknown, truncated=lost))
        return made

    def texts(self, example: Example) -> list[str]:
        return [example["question"], example["context"]]

    def usable(self, example: Example) -> bool:
        """An answer that is not in the context cannot be trained on (SQuAD's script skips it too)."""
        return not example["answers"] or example["answers"][0]["start"] != NOWHERE

    def decode(
        self, outputs: Sequence[NDArray[np.float32]], view: ExampleView, example: Example, task: TaskSpec
    ) -> dict[str, Any]:
        """[len, 2] per window -> {text, score, start, end, null_score}: the best span over all windows.

        Per window the ``n_best`` starts times the ``n_best`` ends; a span counts when it lies in the context, its end
        is not before its start, it is at most ``max_answer`` subwords long and its window is the best for its start
        (``max_context``). Score = start + end logit. The text is cut from the context by character offsets;
        with ``xtreme_compat`` by whitespace words, as the official pipeline does, which costs Chinese about 11 F1.
        ``null_score`` is the lowest score of ``<s>`` over the windows; with a ``null_threshold`` the answer is empty
        when best - null <= threshold. No valid span: empty text.
        """
        settings = task.settings
        best, start, end = -np.inf, 0, 0
        null = min(float(output[0, 0] + output[0, 1]) for output in outputs)
        fields = (view.fields[name] for name in ("char_start", "char_end", "max_context"))
        for output, char_start, char_end, max_context in zip(outputs, *fields, strict=True):
            firsts = _largest(output[:, 0], settings.n_best)
            lasts = _largest(output[:, 1], settings.n_best)
            firsts = firsts[(char_start[firsts] >= 0) & (max_context[firsts] == 1)]
            lasts = lasts[char_start[lasts] >= 0]
            if not len(firsts) or not len(lasts):
                continue
            length = lasts[None, :] - firsts[:, None] + 1
            scores = output[firsts, 0][:, None] + output[lasts, 1][None, :]
            scores = np.where((length >= 1) & (length <= settings.max_answer), scores, -np.inf)
            row, column = np.unravel_index(int(np.argmax(scores)), scores.shape)
            if scores[row, column] > best:
                best = float(scores[row, column])
                start, end = int(char_start[firsts[row]]), int(char_end[lasts[column]])
        empty = best == -np.inf
        if settings.null_threshold is not None:
            empty = empty or best - null <= settings.null_threshold
        cut = realigned if settings.xtreme_compat else _cut
        text = "" if empty else cut(example["context"], start, end)
        score = null if best == -np.inf else best
        return {"text": text, "score": score, "start": start, "end": end, "null_score": null}

    def gold(self, example: Example, task: TaskSpec) -> list[str] | None:
        """All gold texts. [] = unanswerable; None = blanked, which a task without unanswerable questions can tell."""
        if not example["answers"] and task.settings.null_threshold is None:
            return None
        return [answer["text"] for answer in example["answers"]]


def answers_of(row: Row) -> list[tuple[str, int]]:
    """(text, start) of all answers: SQuAD's list, the Hub's columns or [start, text] pairs. Blanked ones go."""
    raw = row.values.get("answers")
    try:
        if isinstance(raw, dict):
            pairs = list(zip(raw["text"], raw["answer_start"] if "answer_start" in raw else raw["start"], strict=True))
        else:
            pairs = [_answer(item) for item in raw or ()]
        return [(str(text), int(start)) for text, start in pairs if text]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "answers of an unknown form",
            where=row.where,
            why=f"found {raw!r:.80}; known: [{{text, answer_start}}], {{text: [], answer_start: []}}, [[start, text]]",
        ) from error


def _answer(item: Any) -> tuple[Any, Any]:
    if isinstance(item, dict):
        return item["text"], item["answer_start"] if "answer_start" in item else item["start"]
    start, text = item
    return text, start


def located(answer: tuple[str, int], context: str) -> dict[str, Any]:
    """An answer at its place; one that is not there is looked up at the nearest place its text occurs."""
    text, start = answer
    if context[start : start + len(text)] != text:
        before, after = context.rfind(text, 0, max(start, 0) + len(text)), context.find(text, max(start, 0))
        found = [place for place in (before, after) if place >= 0]
        start = min(found, key=lambda place: abs(place - start)) if found else NOWHERE
    return {"text": text, "start": start}


def token_span(starts: Ints, ends: Ints, answer: dict[str, Any]) -> tuple[int, int] | None:
    """First and last context token that an answer touches."""
    if answer["start"] == NOWHERE:
        return None
    touching = np.flatnonzero((ends > answer["start"]) & (starts < answer["start"] + len(answer["text"])))
    return (int(touching[0]), int(touching[-1])) if len(touching) else None


def windows(length: int, room: int, stride: int) -> list[tuple[int, int]]:
    """[begin, end) of the windows over a context; without gaps, also when ``stride`` is larger than the room."""
    spans = [(0, min(room, length))]
    while spans[-1][1] < length:
        begin = spans[-1][0] + min(stride, room)
        spans.append((begin, min(begin + room, length)))
    return spans


def best_windows(length: int, spans: Sequence[tuple[int, int]]) -> Ints:
    """Per context token the window in which it has most context on its poorer side (+ 1 % of the window's length)."""
    position = np.arange(length)
    best = np.zeros(length, dtype=np.int32)
    score = np.full(length, -np.inf)
    for number, (begin, end) in enumerate(spans):
        here = np.minimum(position - begin, end - 1 - position) + 0.01 * (end - begin)
        better = (position >= begin) & (position < end) & (here > score)
        best[better] = number
        score[better] = here[better]
    return best


def _characters(pieces: Pieces) -> tuple[Ints, Ints]:
    offsets = np.array(pieces.offsets, dtype=np.int32).reshape(-1, 2)
    return offsets[:, 0], offsets[:, 1]


def _cut(context: str, start: int, end: int) -> str:
    return context[start:end]


def _framed(values: NDArray[Any], before: int, fill: int) -> Ints:
    framed = np.full(before + len(values) + 1, fill, dtype=np.int32)
    framed[before:-1] = values
    return framed


def _largest(values: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    return np.argsort(-values, kind="stable")[:count]


FORMAT = Span()
