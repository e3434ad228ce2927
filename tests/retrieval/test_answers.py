"""LAReQA: the pool, what is right, and the mean average precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import adapterstilts
from adapterstilts.api.answers import lareqa
from adapterstilts.data.root import DataRoot
from adapterstilts.data.xquad_r import pool_files, read_pool
from adapterstilts.errors import DataError
from adapterstilts.retrieval.answers import average_precision


@pytest.mark.parametrize(
    ("found", "right", "value"),
    [
        ([7, 1, 2], {7}, 1.0),
        ([1, 7, 2], {7}, 0.5),
        ([1, 7, 2, 8], {7, 8}, (1 / 2 + 2 / 4) / 2),
        ([7, 1], {7, 9}, 0.5),
        ([1, 2], {9}, 0.0),
        ([*range(20), 99], {99}, 0.0),  # rank 21
        (list(range(20)), set(range(30)), 1.0),
    ],
)
def test_average_precision_by_hand(found: list[int], right: set[int], value: float) -> None:
    assert average_precision(found, right) == pytest.approx(value)


def article(sentences: list[str], questions: list[tuple[str, str, str]]) -> dict[str, object]:
    context, breaks = "", []
    for sentence in sentences:
        context += " " if context else ""
        breaks.append([len(context), len(context) + len(sentence)])
        context += sentence
    qas = [
        {"id": name, "question": text, "answers": [{"text": answer, "answer_start": context.index(answer)}]}
        for name, text, answer in questions
    ]
    paragraph = {"context": context, "sentences": sentences, "sentence_breaks": breaks, "qas": qas}
    return {"data": [{"paragraphs": [paragraph]}]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "xtreme" / "lareqa" / "xquad-r"
    folder.mkdir(parents=True)
    # The question is the sentence itself: any encoder puts the two sentences that are equal to it first.
    sentences = ["wamo tesi lu.", "kanopi.", "lu lu wamo."]
    for language in ("en", "de"):
        made = article(sentences, [("q1", "kanopi.", "kanopi"), ("q2", "lu lu wamo.", "lu lu")])
        (folder / f"{language}.json").write_text(json.dumps(made))
    return tmp_path


def test_the_pool_mixes_languages(root: Path, tmp_path: Path) -> None:
    rows = lareqa(root, base="lab/s0", store=tmp_path / "store", layer=1)
    assert [(row["language"], row["n"], row["candidates"]) for row in rows] == [
        ("de", 2, 6),
        ("en", 2, 6),
        ("mean", 4, 6),
    ]
    assert [row["value"] for row in rows] == [100.0] * 3
    alone = lareqa(root, languages=["de"], base="lab/s0", store=tmp_path / "store", layer=1, context=True)
    assert alone[0]["candidates"] == 3
    with pytest.raises(DataError, match="no XQuAD-R of sw"):
        lareqa(root, languages=["sw"], base="lab/s0", store=tmp_path / "store")


def test_what_is_no_pool_is_one_clear_error(root: Path) -> None:
    path = pool_files(DataRoot.of(root))["de"]
    path.write_text('{"data": [{"paragraphs": [{"context": "a"}]}]}')
    with pytest.raises(DataError, match="not an XQuAD-R file"):
        read_pool("de", path)


def test_answers_lie_in_their_sentences(shared_data: Path) -> None:
    files = pool_files(DataRoot.of(shared_data))
    for language in ("en", "zh"):
        pool = read_pool(language, files[language])
        articles = json.loads(files[language].read_text())["data"]
        answers = {
            question["id"]: question["answers"][0]["text"]
            for paragraph in (p for a in articles for p in a["paragraphs"])
            for question in paragraph["qas"]
        }
        inside = [any(answers[name] in pool.sentences[row] for row in rows) for name, rows in pool.answers.items()]
        assert len(inside) == 1190 and np.mean(inside) > 0.97  # a few answers go over a sentence's end


def test_a_few_lines_agree(shared_data: Path, tmp_path: Path) -> None:
    """Another scorer, on embeddings as the library gives them: ranks by sorting all cosines."""
    rows = lareqa(shared_data, languages=["en"], base="lab/s0", store=tmp_path, layer=1, kind="fp32")
    pool = read_pool("en", pool_files(DataRoot.of(shared_data))["en"])
    loaded = adapterstilts.load("base", base="lab/s0")
    x, y = (loaded.encode([t.strip() for t in s], layer=1) for s in ([q for _, q in pool.questions], pool.sentences))
    cosines = (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    total = 0.0
    for scores, (name, _) in zip(cosines, pool.questions, strict=True):
        ranks = sorted(1 + int((scores > scores[row]).sum()) for row in pool.answers[name])
        total += sum((i + 1) / rank for i, rank in enumerate(ranks) if rank <= 20) / len(ranks)
    assert rows[0]["value"] == pytest.approx(100 * total / len(pool.questions), abs=0.05)
