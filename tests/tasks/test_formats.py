"""Row layouts, truncation, windows and decoding, on the tokenizer of the shipped base."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterstilts.data.tokenise import Tokenizer
from adapterstilts.errors import DataError
from adapterstilts.tasks.formats import get_format
from adapterstilts.tasks.formats.base import ExampleView, Row, pair_lengths
from adapterstilts.tasks.formats.span import best_windows, located, windows
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import FORMATS, TaskSpec
from tests.data.encoding import arrays_of, decoded_gold, gold_outputs

REGISTRY = TaskRegistry()
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=300)
WORDS = st.lists(
    st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "Cf")), min_size=1, max_size=60),
    min_size=1,
    max_size=80,
)


@pytest.fixture(scope="module")
def tokenizer(lab_base: Path) -> Tokenizer:
    return Tokenizer.from_directory(lab_base)


def task(name: str, **changes: Any) -> TaskSpec:
    return REGISTRY.get(name, {"settings": changes})


def test_rows_are_laid_out_as_xlmr_does(tokenizer: Tokenizer) -> None:
    example = {"id": "0", "text_a": "the cat", "text_b": "a dog", "label": "neutral"}
    row = get_format("classification").encode([example], tokenizer, task("mnli"))[0].rows[0].ids
    first, second = tokenizer.ids(["the cat", "a dog"])
    assert row == [tokenizer.bos, *first, tokenizer.eos, tokenizer.eos, *second, tokenizer.eos]
    single = get_format("classification").encode([example | {"text_b": None}], tokenizer, task("mnli"))[0].rows[0].ids
    assert single == [tokenizer.bos, *first, tokenizer.eos]


def test_pairs_are_cut_as_transformers_cuts_them(lab_base: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(lab_base, use_fast=True)
    ours = Tokenizer.from_transformers(theirs)
    sides = ["the", "the cat saw " * 3, "a dog " * 5, "some old house by the river " * 9]
    for length in (8, 9, 20, 33, 64):
        for text_a in sides:
            for text_b in sides:
                example = {"id": "0", "text_a": text_a, "text_b": text_b, "label": None}
                encoded = get_format("classification").encode([example], ours, task("mnli", max_length=length))[0]
                wanted = theirs(text_a, text_b, truncation="longest_first", max_length=length)["input_ids"]
                assert encoded.rows[0].ids == wanted
                assert encoded.truncated == (len(theirs(text_a, text_b)["input_ids"]) > length)


def test_special_tokens_spelt_in_a_text_are_unknown(tokenizer: Tokenizer) -> None:
    ids = tokenizer.ids(["one </s> two <mask> <s> <pad>"])[0]
    assert not {tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.mask} & set(ids)
    assert ids.count(tokenizer.unk) >= 4


def test_a_long_prompt_loses_its_front(tokenizer: Tokenizer) -> None:
    example = {"id": "0", "prompt": "the " * 50 + "end", "choices": ["a cat", "the dog " * 40], "label": 1}
    short, long = get_format("multiple_choice").encode([example], tokenizer, task("copa", max_length=24))[0].rows
    prompt, cat, dogs = tokenizer.ids([example["prompt"], *example["choices"]])
    room = 24 - 4
    kept = prompt[len(prompt) - (room - len(cat)) :]
    assert short.ids == [tokenizer.bos, *kept, tokenizer.eos, tokenizer.eos, *cat, tokenizer.eos]
    assert long.ids == [tokenizer.bos, tokenizer.eos, tokenizer.eos, *dogs[:room], tokenizer.eos]


def test_prompts_come_from_the_template() -> None:
    form = get_format("multiple_choice")
    values = {"id": 7, "premise": "It rained.", "question": "effect", "choices": ["Wet.", "Dry."], "label": 0}
    made = form.parse(Row(values, "f:1"), task("xcopa"))
    assert made == {"id": "7", "prompt": "It rained. What was the effect?", "choices": ["Wet.", "Dry."], "label": 0}
    ready = form.parse(Row({"id": "x", "prompt": "p", "choices": ["a", "b"], "label": None}, "f:1"), task("xcopa"))
    assert (ready["prompt"], ready["label"]) == ("p", None)
    official = {"id": 1, "ctx_a": "A man sits.", "ctx_b": "He", "choices": ["stands.", "eats."], "label": "1"}
    assert form.parse(Row(official, "f:1"), task("hellaswag"))["choices"] == ["He stands.", "He eats."]


def test_long_sentences_become_rows_and_come_back(tokenizer: Tokenizer) -> None:
    words = ["the", "cat", "\u200b", "saw", "x" * 400, "Paris"] * 12
    tags = ["DET", "NOUN", "X", "VERB", "PROPN", "PROPN"] * 12
    spec = task("udpos", max_length=16)
    example = {"id": "0", "words": words, "tags": tags}
    encoded = get_format("tagging").encode([example], tokenizer, spec)[0]
    assert len(encoded.rows) > 3
    assert all(len(row.ids) <= 16 - 1 for row in encoded.rows)  # XTREME reserves three tokens, a row has two
    assert sum((np.array(row.fields["word"]) >= 0).sum() for row in encoded.rows) == len(words)
    assert decoded_gold(spec, [example], tokenizer) == [tags]


def test_a_word_without_prediction_gets_the_fallback() -> None:
    view = ExampleView([np.arange(3, dtype=np.int32)], {"word": [np.array([-1, 0, -1])]})
    example = {"id": "0", "words": ["a", "b"], "tags": None}
    outputs = [np.float32([[0, 0, 0, 0, 0, 0, 0], [0, 9, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]])]
    assert get_format("tagging").decode(outputs, view, example, task("panx")) == ["B-PER", "O"]


CONTEXT = " ".join(f"word{i} and more" for i in range(60))


def span_example(**changes: Any) -> dict[str, Any]:
    at = CONTEXT.index("word41")
    return {
        "id": "0",
        "question": "which?",
        "context": CONTEXT,
        "answers": [{"text": "word41 and", "start": at}],
    } | changes


def test_windows_cover_the_context_and_find_the_answer(tokenizer: Tokenizer) -> None:
    spec = task("squad", max_length=64, stride=20)
    encoded = get_format("span").encode([span_example()], tokenizer, spec)[0]
    assert len(encoded.rows) > 5
    assert sum(row.fields["start"] > 0 for row in encoded.rows) >= 2
    characters = {i for row in encoded.rows for i in row.fields["char_start"] if i >= 0}
    assert characters == {i for i, _ in tokenizer.pieces([CONTEXT])[0].offsets}
    assert sum(int(row.fields["max_context"].sum()) for row in encoded.rows) == len(tokenizer.ids([CONTEXT])[0])
    (prediction,) = decoded_gold(spec, [span_example()], tokenizer)
    assert (prediction["text"], prediction["start"]) == ("word41 and", CONTEXT.index("word41"))


def test_unanswerable_questions(tokenizer: Tokenizer) -> None:
    example, spec = span_example(answers=[]), task("squad_v2")
    form = get_format("span")
    view = arrays_of(spec, [example], tokenizer).view(0)
    assert set(view.fields["start"]) == {0}
    assert form.decode(gold_outputs(spec, view), view, example, spec)["text"] == ""
    assert form.gold(example, spec) == []
    assert form.gold(example, task("squad")) is None
    uncertain = [np.zeros_like(output) for output in gold_outputs(spec, view)]
    assert form.decode(uncertain, view, example, task("squad"))["text"] != ""
    assert form.decode(uncertain, view, example, task("squad_v2", null_threshold=-1))["text"] != ""


def test_answers_are_never_longer_than_allowed(tokenizer: Tokenizer) -> None:
    example = span_example()
    arrays = arrays_of(task("squad"), [example], tokenizer)
    view = arrays.view(0)
    random = np.random.default_rng(0)
    for allowed in (1, 3, 30):
        spec = task("squad", max_answer=allowed)
        outputs = [random.normal(size=(len(ids), 2)).astype(np.float32) for ids in view.ids]
        prediction = get_format("span").decode(outputs, view, example, spec)
        assert prediction["text"] == CONTEXT[prediction["start"] : prediction["end"]]
        assert 0 < len(tokenizer.ids([prediction["text"]])[0]) <= allowed + 1


def test_misplaced_answers_are_found_again() -> None:
    assert located(("cat", 5), "the cat and a cat") == {"text": "cat", "start": 4}
    assert located(("cat", 13), "the cat and a cat") == {"text": "cat", "start": 14}
    lost = located(("dog", 3), "the cat")
    assert lost["start"] == -1
    assert not get_format("span").usable({"answers": [lost]})


@given(st.integers(0, 400), st.integers(1, 120), st.integers(1, 200))
def test_windows_have_no_gaps(length: int, room: int, stride: int) -> None:
    spans = windows(length, room, stride)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(end - begin <= room for begin, end in spans)
    assert all(later <= end for (_, end), (later, _) in pairwise(spans))
    best = best_windows(length, spans)
    assert all(spans[w][0] <= i < spans[w][1] for i, w in enumerate(best))


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 80))
def test_the_longer_text_is_cut_first(first: int, second: int, room: int) -> None:
    kept = pair_lengths(first, second, room)
    assert sum(kept) == min(first + second, room)
    assert kept[0] <= first
    assert kept[1] <= second
    if first + second > room:
        assert kept[0] == first or kept[1] == second or abs(kept[0] - kept[1]) <= 1


@settings(deadline=None, max_examples=40)
@given(text_a=TEXT, text_b=TEXT, words=WORDS, length=st.integers(8, 40))
def test_no_row_is_ever_too_long(tokenizer: Tokenizer, text_a: str, text_b: str, words: list[str], length: int) -> None:
    examples: dict[str, dict[str, Any]] = {
        "classification": {"id": "0", "text_a": text_a, "text_b": text_b, "label": None},
        "multiple_choice": {"id": "0", "prompt": text_a, "choices": [text_b, text_a], "label": 0},
        "tagging": {"id": "0", "words": words, "tags": None},
        "span": {"id": "0", "question": text_a, "context": text_b, "answers": []},
        "masked_lm": {"id": "0", "text_a": text_a, "text_b": None},
        "bitext": {"id": "0", "text": text_a},
        "ranking": {"id": "0", "text": text_a, "context": text_b, "label": None},
    }
    shipped = {
        "classification": "mnli",
        "multiple_choice": "copa",
        "tagging": "udpos",
        "span": "squad",
        "masked_lm": "mlm",
        "bitext": "tatoeba",
        "ranking": "lareqa",
    }
    for name in FORMATS:
        encoded = get_format(name).encode([examples[name]], tokenizer, task(shipped[name], max_length=length))[0]
        assert encoded.rows
        assert all(2 <= len(row.ids) <= length for row in encoded.rows)
        for field, kind in get_format(name).fields.items():
            if kind.level == "token":
                assert all(len(row.fields[field]) == len(row.ids) for row in encoded.rows)


def test_a_bitext_has_no_head() -> None:
    with pytest.raises(ValueError, match="retrieve stage"):
        get_format("bitext").decode([], ExampleView([], {}), {"id": "0", "text": "x"}, task("tatoeba"))
    with pytest.raises(ValueError, match="no format"):
        get_format("parsing")


@pytest.mark.parametrize(
    ("name", "values", "what"),
    [
        ("mnli", {"text_a": "a", "text_b": "b", "label": "maybe"}, "label `maybe` is none"),
        ("mnli", {"text_b": "b", "label": None}, "`text_a` is missing"),
        ("mnli", {"text_a": ["a"], "label": None}, "`text_a` is list, not text"),
        ("copa", {"prompt": "p", "choices": "ab", "label": 0}, "no list of texts"),
        ("copa", {"prompt": "p", "choices": ["a"], "label": 0}, "1 choice"),
        ("copa", {"prompt": "p", "choices": ["a", "b"], "label": 2}, "label `2` is no choice"),
        ("copa", {"choices": ["a", "b"], "label": 0}, "template names the field 'premise'"),
        ("udpos", {"words": [], "tags": []}, "without words"),
        ("udpos", {"words": ["a", "b"], "tags": ["X"]}, "2 words but 1 tags"),
        ("udpos", {"words": ["a"], "tags": ["NN"]}, "label `NN` is none"),
        ("ccg", {"words": ["a"], "tags": ["N"]}, "no labels yet"),
        ("squad", {"question": "q", "context": " ", "answers": []}, "`context` is empty"),
        ("squad", {"question": "q", "context": "c", "answers": [{"text": "c"}]}, "unknown form"),
        ("squad", {"question": "q", "context": "c", "answers": {"text": ["c"], "answer_start": []}}, "unknown form"),
        ("mlm", {"text_a": "  "}, "`text_a` is empty"),
        ("tatoeba", {"text": ""}, "`text` is empty"),
    ],
)
def test_rows_that_do_not_fit_are_explained(name: str, values: dict[str, Any], what: str) -> None:
    spec = REGISTRY.get(name)
    with pytest.raises(DataError, match=what) as caught:
        get_format(spec.format).parse(Row({"id": "0", **values}, "file.tsv:12"), spec)
    assert caught.value.where == "file.tsv:12"
