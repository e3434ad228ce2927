"""LAReQA and Mewsli-X: what is read, what is right, one pool of all languages, scores that a few lines confirm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import adapterstilts
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import resolve
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.evaluation.metrics import METRICS
from adapterstilts.plan.graph import Cell, Plan
from adapterstilts.plan.runs import load_stage
from adapterstilts.results.submission import Choice, submission
from adapterstilts.retrieval.ranking import Texts, ranked, right_of
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.suites import Suite, get_suite

TASKS = TaskRegistry()
MAP = METRICS["map@20"]


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
        ([1, 2], set(), 0.0),  # the right one is not among the candidates
    ],
)
def test_average_precision_by_hand(found: list[int], right: set[int], value: float) -> None:
    assert MAP([found], [right], language="en")["map@20"] == pytest.approx(100 * value)


def test_average_precision_against_a_few_lines() -> None:
    random = np.random.default_rng(0)
    lists = [random.permutation(40).tolist() for _ in range(50)]
    rights = [set(random.choice(40, random.integers(1, 30), replace=False).tolist()) for _ in range(50)]
    expected = []
    for found, right in zip(lists, rights, strict=True):
        hit = np.isin(found[:20], list(right))
        precision = np.cumsum(hit) / np.arange(1, 21)
        expected.append(float((precision * hit).sum()) / min(20, len(right)))
    assert MAP.example_scores(lists, rights, language="en") == pytest.approx(expected, abs=1e-12)


def test_a_pool_in_parts_is_one_pool() -> None:
    random = np.random.default_rng(1)
    vectors, asked = random.normal(size=(50, 8)).astype(np.float32), random.normal(size=(9, 8)).astype(np.float32)
    names = [f"c{i}" for i in range(50)]
    labels = [[f"q{i % 9}"] for i in range(50)]
    queries = Texts([f"q{i}" for i in range(9)], [[f"q{i}"] for i in range(9)], {0: asked})
    whole = [Texts(names, labels, {0: vectors})]
    parts = [Texts(names[i:j], labels[i:j], {0: vectors[i:j]}) for i, j in ((0, 7), (7, 31), (31, 50))]
    assert list(ranked(queries, whole, 0)) == list(ranked(queries, parts, 0))
    assert right_of(whole) == right_of(parts)
    assert right_of(parts)["q3"] == {f"c{i}" for i in range(3, 50, 9)}
    centred = next(iter(ranked(queries, parts, 0, "centred")))
    assert len(centred) == len(set(centred)) == 20


# -- LAReQA -----------------------------------------------------------------------------------------------------------


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


def searched(
    root: Path, store: Path, task: str = "lareqa", base: str = "lab/s0", **options: Any
) -> list[dict[str, Any]]:
    rows = adapterstilts.retrieve(task, base=base, layers=1, data=str(root), store=store, **options)
    return [row for row in rows if row["variant"] == "raw"]


def without_context(tmp_path: Path) -> Path:
    path = tmp_path / "tasks" / "lareqa.yaml"
    path.parent.mkdir()
    path.write_text(TASKS.path("lareqa").read_text() + "source: sentences\n")
    return path


def test_the_pool_mixes_languages(root: Path, tmp_path: Path) -> None:
    rows = searched(root, tmp_path / "store", task_files=(without_context(tmp_path),))
    assert [(row["language"], row["n"], row["candidates"]) for row in rows] == [("en", 2, 6), ("de", 2, 6)]
    assert [row["value"] for row in rows] == [100.0] * 2
    assert [row["headline"] for row in rows] == [True, True]
    # Measuring one language leaves the pool what it is.
    alone = searched(root, tmp_path / "store", languages=["de"], task_files=(tmp_path / "tasks" / "lareqa.yaml",))
    assert [(row["language"], row["candidates"]) for row in alone] == [("de", 6)]
    with pytest.raises(DataError, match="no data for lareqa/el"):
        searched(root, tmp_path / "store", languages=["el"])


def test_a_candidate_is_a_sentence_with_its_paragraph(root: Path) -> None:
    pool = list(read_examples(resolve(TASKS.get("lareqa"), "de", "pool", root)))
    assert [(e["id"], e["text"], e["label"]) for e in pool] == [
        ("de_1_0", "wamo tesi lu.", []),
        ("de_1_1", "kanopi.", ["q1"]),
        ("de_1_2", "lu lu wamo.", ["q2"]),
    ]
    assert {e["context"] for e in pool} == {"wamo tesi lu. kanopi. lu lu wamo."}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"data": [{"paragraphs": [{"context": "a"}]}]}', "not an XQuAD-R file"),
        ('{"data": [}', "not readable as JSON"),
        ('{"data": [{"paragraphs": [{"context": "a", "sentence_breaks": [3], "qas": []}]}]}', "not an XQuAD-R file"),
    ],
)
def test_what_is_no_pool_is_one_clear_error(root: Path, text: str, where: str) -> None:
    (root / "xtreme/lareqa/xquad-r/de.json").write_text(text)
    with pytest.raises(DataError, match=where):
        list(read_examples(resolve(TASKS.get("lareqa"), "de", "pool", root)))


def test_counts_and_answers_of_the_real_files(shared_data: Path) -> None:
    task = TASKS.get("lareqa")
    for language in ("ar", "de", "en", "ru", "zh"):
        read = {split: list(read_examples(resolve(task, language, split, shared_data))) for split in task.splits}
        assert {split: len(found) for split, found in read.items()} == {
            split: task.size(split, language) for split in task.splits
        }
        # Every question is answered by exactly one sentence of its own language.
        answered = [key for candidate in read["pool"] for key in candidate["label"]]
        assert sorted(answered) == sorted(question["id"] for question in read["test"])


@pytest.mark.slow
def test_a_few_lines_agree_on_real_questions(shared_data: Path, shared_base: Path, tmp_path: Path) -> None:
    """Another scorer, on embeddings as the library gives them: ranks by sorting all cosines."""
    files = (without_context(tmp_path),)
    rows = searched(shared_data, tmp_path, base=str(shared_base), languages=["en"], task_files=files)
    task = TASKS.get("lareqa")
    codes = ("ar", "de", "en", "ru", "zh")
    pool = [e for code in codes for e in read_examples(resolve(task, code, "pool", shared_data))]
    questions = list(read_examples(resolve(task, "en", "test", shared_data)))
    loaded = adapterstilts.load("base", base=str(shared_base))
    x, y = (loaded.encode([e["text"] for e in s], layer=1) for s in (questions, pool))
    cosines = (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    right: dict[str, list[int]] = {}
    for number, candidate in enumerate(pool):
        for key in candidate["label"]:
            right.setdefault(key, []).append(number)
    total = 0.0
    for scores, question in zip(cosines, questions, strict=True):
        ranks = sorted(1 + int((scores > scores[row]).sum()) for row in right[question["id"]])
        total += sum((i + 1) / rank for i, rank in enumerate(ranks) if rank <= 20) / len(ranks)
    assert rows[0]["candidates"] == len(pool) == 6093
    assert rows[0]["value"] == pytest.approx(100 * total / len(questions), abs=0.05)


# -- Mewsli-X ---------------------------------------------------------------------------------------------------------


def news(text: str, language: str, mentions: list[tuple[str, str, str]]) -> dict[str, Any]:
    """An article of one or more sentences, each ending with a full stop; mentions (id, surface, entity)."""
    spans, start = [], 0
    for part in text.split(". "):
        end = start + len(part) + (0 if part.endswith(".") else 1)
        spans.append({"start": start, "end": end})
        start = end + 1
    context = {"document_title": "t", "document_url": "u", "document_id": f"{language}-1", "language": language}
    context |= {"text": text, "sentence_spans": spans}  # type: ignore[dict-item]
    named = []
    for name, surface, entity in mentions:
        at = text.index(surface)
        span = {"start": at, "end": at + len(surface), "text": surface}
        named.append({"example_id": name, "mention_span": span, "entity_id": entity, "metadata": {"curid": "1"}})
    return {"context": context, "mentions": named}


def entity(name: str, *sentences: str, language: str = "tr") -> dict[str, Any]:
    spans, text = [], ""
    for sentence in sentences:
        text += "\n" if text else ""
        spans.append({"start": len(text), "end": len(text) + len(sentence)})
        text += sentence
    plain = {"entity_id": name, "title": name, "description": text, "sentence_spans": spans}
    return plain | {"description_language": language, "description_url": "u"}


def written(path: Path, items: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items))


@pytest.fixture
def mewsli(tmp_path: Path) -> Path:
    folder = tmp_path / "xtreme" / "mewslix"
    # The description is the query itself: any encoder puts it first.
    articles = [
        news("Lu tesi. The {old} wamo fell. End.", "en", [("m1", "wamo", "Q7")]),
        news("Kanopi lu.", "de", [("m2", "Kanopi", "Q9"), ("m3", "lu", "Q404")]),
    ]
    written(folder / "wikinews_mentions-test.jsonl", articles)
    entities = [
        entity("Q1", "Rilu.", language="en"),
        entity("Q7", "wamo: The (old) { wamo } fell."),
        entity("Q9", "Kanopi: { Kanopi }", "lu.", language="yo"),
    ]
    written(folder / "candidate_set_entities.jsonl", entities)
    return tmp_path


def test_mentions_and_entities_read_as_the_official_script_makes_them(mewsli: Path) -> None:
    task = TASKS.get("mewslix")
    mentions = list(read_examples(resolve(task, "en", "test", mewsli)))
    assert [(e["id"], e["text"], e["label"]) for e in mentions] == [("m1", "wamo: The (old) { wamo } fell.", ["Q7"])]
    pool = list(read_examples(resolve(task, "en", "pool", mewsli)))  # descriptions of every language
    assert [e["id"] for e in pool] == ["Q1", "Q7", "Q9"]
    assert pool[2]["text"] == "Kanopi: { Kanopi } lu."


def test_entities_are_found_in_one_candidate_set(mewsli: Path, tmp_path: Path) -> None:
    rows = searched(mewsli, tmp_path / "store", task="mewslix", languages=["de", "en"])
    assert [(row["language"], row["metric"], row["candidates"]) for row in rows] == [
        ("de", "map@20", 3),
        ("en", "map@20", 3),
    ]
    # Q404 is no candidate: its mention counts, and nothing can be right.
    assert [row["value"] for row in rows] == [50.0, 100.0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda a: a["context"].update(text=""), "text is left out"),
        (lambda a: a["mentions"][0]["mention_span"].update(start=1), "not at its place"),
        (lambda a: a["context"].update(sentence_spans=[]), "in no sentence"),
        (lambda a: a["mentions"][0].pop("entity_id"), "neither a Mewsli-X article nor an entity"),
    ],
)
def test_what_does_not_fit_is_an_error_with_its_line(mewsli: Path, change: Any, what: str) -> None:
    broken = news("Wamo lu.", "en", [("m1", "lu", "Q7")])
    change(broken)
    path = mewsli / "xtreme/mewslix/wikinews_mentions-test.jsonl"
    written(path, [news("Lu.", "en", [("m0", "Lu", "Q1")]), broken])
    with pytest.raises(DataError, match=what) as error:
        list(read_examples(resolve(TASKS.get("mewslix"), "en", "test", mewsli)))
    assert error.value.where == f"{path}:2"


def test_without_candidates_nothing_is_planned(mewsli: Path, tmp_path: Path) -> None:
    (mewsli / "xtreme/mewslix/candidate_set_entities.jsonl").unlink()
    with pytest.raises(DataError, match="no data for mewslix/en pool"):
        searched(mewsli, tmp_path / "store", task="mewslix")


def test_the_submission_is_what_the_official_scorer_reads(mewsli: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    rows = searched(mewsli, store.root, task="mewslix", languages=["de", "en"])
    stage = load_stage(store, rows[0]["stage"])
    plan = Plan("r", (stage,), (Cell("lab/s0", "base", 0, "mewslix", stage.hash, "mewslix", "retrieve"),))
    path = tmp_path / "tasks" / "mewslix.yaml"
    path.parent.mkdir()
    suite = Suite(name="s", benchmark="xtreme-r", groups={"retrieval": ("mewslix",)})
    with pytest.raises(DataError, match="no predictions for ar, es"):
        submission(plan, store, TASKS, suite, Choice("base", "base", "lab/s0", 0))
    two = TASKS.get("mewslix").model_copy(update={"benchmarks": {"xtreme-r": ("de", "en")}})
    path.write_text(yaml.safe_dump(two.model_dump(mode="json", exclude={"name"})))
    files = submission(plan, store, TaskRegistry([path]), suite, Choice("base", "base", "lab/s0", 0))
    assert files.keys() == {"mewslix/test-de.json", "mewslix/test-en.json"}
    # The official reading: reciprocal rank of the first label among the 20 first ids, 0 where there is none.
    gold, value = {"m2": ["Q9"], "m3": ["Q404"]}, 0.0
    said = json.loads(files["mewslix/test-de.json"])
    for name, (right, *_) in gold.items():
        value += 1 / (1 + said[name][:20].index(right)) if right in said[name] else 0
    assert said.keys() == gold.keys() and rows[0]["value"] == pytest.approx(100 * value / 2)


def test_lareqa_has_no_file_in_a_submission() -> None:
    suite = get_suite("xtreme-r")
    assert "lareqa" in suite.tasks
    with pytest.raises(RecipeError, match="no file of lareqa"):
        submission(Plan("r", (), ()), Store(Path("unused")), TASKS, suite, Choice("a", "base", "b", 0), ["lareqa"])
