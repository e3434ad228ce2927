"""XQuAD-R (LAReQA): questions, and the sentences of all paragraphs as candidates for their answers."""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from adapterstilts.data.root import DataRoot
from adapterstilts.errors import DataError

PLACE = "lareqa/xquad-r"


@dataclass(frozen=True)
class AnswerPool:
    """One language's file. ``answers``: question id -> rows of ``sentences`` that hold its answers."""

    language: str
    questions: tuple[tuple[str, str], ...]  # (id, text)
    sentences: tuple[str, ...]
    contexts: tuple[str, ...]  # the paragraph of each sentence
    answers: dict[str, frozenset[int]]


def pool_files(root: DataRoot) -> dict[str, Path]:
    """language -> file, of the first folder of the XTREME layout that has any."""
    for folder in root.folders("xtreme"):
        if found := sorted((folder / PLACE).glob("*.json")):
            return {path.stem: path for path in found}
    return {}


def read_pool(language: str, path: Path) -> AnswerPool:
    """Read SQuAD-like JSON whose paragraphs carry ``sentences`` and ``sentence_breaks`` (start, end in the context).

    Raises:
        DataError: not such a file, or an answer outside every sentence.
    """
    questions: list[tuple[str, str]] = []
    sentences: list[str] = []
    contexts: list[str] = []
    answers: dict[str, frozenset[int]] = {}
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
            first, starts = len(sentences), [start for start, _ in paragraph["sentence_breaks"]]
            sentences += paragraph["sentences"]
            contexts += [paragraph["context"]] * len(paragraph["sentences"])
            for question in paragraph["qas"]:
                questions.append((question["id"], question["question"]))
                rows = [bisect_right(starts, answer["answer_start"]) - 1 for answer in question["answers"]]
                if min(rows) < 0:
                    raise DataError(f"the answer of question {question['id']} is in no sentence", where=str(path))
                answers[question["id"]] = frozenset(first + row for row in rows)
    except (ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise DataError("not an XQuAD-R file", where=str(path), why=why) from error
    return AnswerPool(language, tuple(questions), tuple(sentences), tuple(contexts), answers)
