"""File formats and what is said about broken files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.data.readers import READERS
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import resolve
from adapterstilts.tasks.registry import TaskRegistry
from tests.data.broken import choice, made_task


def values(reader: str, path: Path, **options: Any) -> list[dict[str, Any]]:
    return [dict(row.values) for row in READERS[reader](path, options)]


def test_csv_quoting(tmp_path: Path) -> None:
    path = tmp_path / "dev-ko.tsv"
    path.write_bytes(b'"He said ""come"" here."\ta, b\tneutral\r\n"two\tcells"\t"a\nbreak"\tneutral\r\n')
    quoted = values("tsv", path, quoting="csv")
    assert quoted[0] == {"0": 'He said "come" here.', "1": "a, b", "2": "neutral"}
    assert quoted[1] == {"0": "two\tcells", "1": "a\nbreak", "2": "neutral"}
    assert values("tsv", path)[0]["0"] == '"He said ""come"" here."'


def test_xtreme_xnli_has_no_doubled_quotes(shared_data: Path) -> None:
    task = TaskRegistry().get("xnli")
    examples = list(read_examples(resolve(task, "ko", "dev", shared_data)))
    assert examples[0]["text_a"] == '그리고 그가 말했다, "엄마, 저 왔어요."'
    assert not any('""' in example["text_a"] or "\r" in str(example["label"]) for example in examples)


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\u2028still one\x85\n\ntwo\r\n".encode())
    assert [row["text"] for row in values("lines", path)] == ["one\u2028still one\x85", "two"]


def test_conll(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("# \tPUNCT\nen:New York\tPROPN\n\n\na:b:c\tX")
    assert values("conll", path)[0] == {"words": ["# ", "en:New York"], "tags": ["PUNCT", "PROPN"]}
    stripped = values("conll", path, strip_prefix=True, comments="# ")
    assert [sentence["words"] for sentence in stripped] == [["New York"], ["b:c"]]
    (tmp_path / "words").write_text("a\nb\n")
    assert values("conll", tmp_path / "words") == [{"words": ["a", "b"], "tags": None}]


def conllu(*tokens: str) -> str:
    lines = []
    for token in tokens:
        index, form, tag, head = token.split("/")
        lines.append("\t".join([index, form, "_", tag, "_", "_", head, "_", "_", "_"]))
    return "# text\n" + "\n".join(lines) + "\n\n"


def test_conllu_keeps_the_id_of_each_sentence_and_of_no_other(tmp_path: Path) -> None:
    words = conllu("1/a/X/0").removeprefix("# text\n")
    (tmp_path / "a.conllu").write_text(f"# newdoc id = n01\n# sent_id = n01001\n{words}{words}#sent_id=w02\n{words}")
    assert [row.get("sent_id") for row in values("conllu", tmp_path / "a.conllu")] == ["n01001", None, "w02"]


@pytest.mark.parametrize(
    ("language", "tokens", "words", "tags"),
    [
        # The part closest to the root decides, whatever its tag.
        ("de", ["1-2/zum/_/_", "1/zu/ADP/3", "2/dem/DET/1", "3/Haus/NOUN/0"], ["zum", "Haus"], ["ADP", "NOUN"]),
        # Equally close: precedence (NOUN before DET).
        ("tr", ["1-2/x/_/_", "1/x/DET/3", "2/y/NOUN/3", "3/z/VERB/0"], ["x", "z"], ["NOUN", "VERB"]),
        # Another list for French: PRON before NOUN.
        ("fr", ["1-2/x/_/_", "1/x/NOUN/3", "2/y/PRON/3", "3/z/VERB/0"], ["x", "z"], ["PRON", "VERB"]),
        ("de", ["1-2/x/_/_", "1/x/NOUN/3", "2/y/PRON/3", "3/z/VERB/0"], ["x", "z"], ["NOUN", "VERB"]),
        # Tags outside the list come last.
        ("es", ["1-2/x/_/_", "1/x/NOUN/3", "2/y/DET/3", "3/z/VERB/0"], ["x", "z"], ["DET", "VERB"]),
        # Empty nodes go, spaces and zero-width non-joiners inside words too.
        ("fa", ["1/a b\u200cc/NOUN/0", "1.1/e/VERB/_", "2/d/X/1"], ["abc", "d"], ["NOUN", "X"]),
    ],
)
def test_fused_words(language: str, tokens: list[str], words: list[str], tags: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.conllu").write_text(conllu(*tokens))
    assert values("conllu", tmp_path / "a.conllu", language=language) == [{"words": words, "tags": tags}]


def test_sentences_without_text_are_dropped(tmp_path: Path) -> None:
    withheld = conllu("1/_/NOUN/0", "2/_/X/1", "3/./PUNCT/1")
    kept = conllu("1/_/NOUN/0", "2/b/X/1", "3/./PUNCT/1")
    (tmp_path / "a.conllu").write_text(withheld + kept)
    assert [row["words"] for row in values("conllu", tmp_path / "a.conllu")] == [["_", "b", "."]]


def test_copa_xml(shared_data: Path) -> None:
    first = values("copa_xml", shared_data / "raw/copa/copa-dev.xml")[0]
    assert first["premise"] == "My body cast a shadow over the grass."
    assert (first["question"], first["label"], first["choice1"]) == ("cause", "1", "The sun was rising.")


def test_columns_through_lists_and_alternatives(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    row = {"q": {"stem": "s", "choices": [{"text": "x"}, {"text": "y"}]}, "answerKey": "B", "full": "f"}
    (tmp_path / "raw" / "file").write_text(json.dumps(row) + "\n")
    columns = {"prompt": "ctx_a|q.stem", "choices": "q.choices.text", "label": "answerKey", "ctx_b": "ctx_b|"}
    task = made_task(choice(columns=columns, label_map={"A": 0, "B": 1}))
    (example,) = read_examples(resolve(task, "en", "train", tmp_path))
    assert example == {"id": "0", "prompt": "s", "choices": ["x", "y"], "label": 1}
