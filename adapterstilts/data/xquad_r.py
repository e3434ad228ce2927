"""Reader of XQuAD-R (LAReQA): questions, and as split ``pool`` the sentences of all paragraphs that may answer them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterstilts.data.lines import json_of, lines_of
from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import Row

Span = tuple[int, int]


def read_xquad_r(path: Path, options: Mapping[str, Any]) -> Iterator[Row]:
    """SQuAD-like JSON whose paragraphs carry ``sentence_breaks``: (start, end) in the context.

    A question asks for its own id, and a sentence answers the questions whose answer begins in it; so the sentences
    of all languages that answer one question share its id. Questions whose answer begins in no sentence are left out,
    as XTREME's utils_lareqa.py does. Ids of sentences are that script's: language, paragraph, sentence.

    Raises:
        DataError: not such a file.
    """
    wants_pool = options["split"] == "pool"
    try:
        articles = json_of("\n".join(line for _, line in lines_of(path)), path)["data"]
        paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
        for number, paragraph in enumerate(paragraphs, start=1):
            spans: list[Span] = [(begin, end) for begin, end in paragraph["sentence_breaks"]]
            answered = [(question, _sentence(question, spans)) for question in paragraph["qas"]]
            if wants_pool:
                yield from _sentences(paragraph["context"], spans, answered, f"{options['language']}_{number}", path)
                continue
            for question, place in answered:
                if place is not None:
                    values = {"id": question["id"], "text": question["question"], "label": [question["id"]]}
                    yield Row(values, f"{path}: question {question['id']}")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        why = f"{type(error).__name__}: {error}"
        raise DataError("not an XQuAD-R file", where=f"{path}:1", why=why) from error


def _sentence(question: Mapping[str, Any], spans: list[Span]) -> int | None:
    start = question["answers"][0]["answer_start"]
    return next((place for place, (begin, end) in enumerate(spans) if begin <= start < end), None)


def _sentences(
    context: str, spans: list[Span], answered: list[tuple[Mapping[str, Any], int | None]], name: str, path: Path
) -> Iterator[Row]:
    for place, (begin, end) in enumerate(spans):
        right = [question["id"] for question, found in answered if found == place]
        values = {"id": f"{name}_{place}", "text": context[begin:end], "context": context, "label": right}
        yield Row(values, f"{path}: sentence {name}_{place}")
