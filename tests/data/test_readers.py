"""File formats and what is said about broken files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.data.bitext import load_bitext
from adapterstilts.data.readers import READERS
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import resolve
from adapterstilts.errors import DataError
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec


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


def classification(**source: Any) -> dict[str, Any]:
    return {"format": "classification", "labels": ["a", "b"], "metric": "accuracy", "source": source}


def span(**source: Any) -> dict[str, Any]:
    return {"format": "span", "metric": "squad", "source": {"reader": "squad", **source}}


def tagging(**source: Any) -> dict[str, Any]:
    return {"format": "tagging", "labels": ["X", "Y"], "metric": "chunk_f1", "source": {"reader": "conll", **source}}


def choice(**source: Any) -> dict[str, Any]:
    columns = {"prompt": "p", "choices": ["c0", "c1"], "label": "label"}
    return {"format": "multiple_choice", "metric": "accuracy", "source": {"columns": columns, **source}}


TSV = {"reader": "tsv", "options": {"header": True}, "columns": {"text_a": "t", "label": "l"}}
QUOTED = TSV | {"options": {"header": True, "quoting": "csv"}}
GOLD = {
    "blanked": ["train"],
    "gold": {"train": {"layout": "raw", "file": "gold"}},
    "columns": {"text_a": "0", "label": "1"},
}
SQUAD = {"data": [{"paragraphs": [{"context": "c", "qas": [{"id": "q", "question": "?", "answers": []}]}]}]}
# what is wrong: (task, file, where in the message, what it says)
BAD = {
    "wrong column": (classification(**TSV), "text\tl\nx\ta\n", "file:2", "no column `t`"),
    "label outside the set": (classification(**TSV), "t\tl\nx\ta\ny\tc\n", "file:3", "label `c` is none"),
    "too few columns": (classification(**TSV), "t\tl\nx\n", "file:2", "1 columns, 2 expected"),
    "too many columns": (classification(**TSV), "t\tl\nx\ta\tb\n", "file:2", "3 columns, 2 expected"),
    "open quote": (classification(**QUOTED), 't\tl\n"x\ta\n', "file:2", "csv quoting"),
    "latin-1": (classification(**TSV), b"t\tl\nx\ta\nf\xfcr\ta\n", "file:3", "not UTF-8"),
    "utf-16": (classification(**TSV), "t\tl\nx\ta\n".encode("utf-16"), "file", "UTF-16"),
    "broken json line": (classification(), '{"text_a": "x", "label": "a"}\n{"text_a": \n', "file:2", "no JSON"),
    "json line no object": (classification(), '["x"]\n', "file:1", "no JSON object"),
    "json no list": (classification(reader="json"), '{"items": []}', "file", "no list of objects"),
    "broken json": (classification(reader="json"), '[{"a":\n 1}', "file:2", "not readable as JSON"),
    "not squad": (span(), '[{"question": "q"}]', "file", "no SQuAD file"),
    "squad without contexts": (span(), '{"data": [{"paragraphs": [{"qas": []}]}]}', "", ""),
    "squad without ids": (span(), json.dumps(SQUAD).replace('"id": "q", ', ""), "file", "article 0 lacks 'id'"),
    "empty context": (span(), json.dumps(SQUAD).replace('"c"', '""'), "question q", "`context` is empty"),
    "a tag is missing": (tagging(), "a\tX\nb\n\n", "file:1", "2 words but 1 tags"),
    "unknown tag": (tagging(), "a\tX\n\nb\tZ\n", "file:3", "label `Z` is none"),
    "no word": (tagging(), "a\tX\n\tX\n", "file:2", "no word in column 0"),
    "no conllu": (tagging(reader="conllu"), "a\tX\n", "file:1", "CoNLL-U has 10"),
    "broken xml": (choice(reader="copa_xml"), "<copa-corpus>\n<item>\n</copa-corpus>", "file:3", "not readable as XML"),
    "no such choice": (choice(), '{"p": "p", "c0": "x", "c1": "y", "label": 2}\n', "file:1", "label `2` is no choice"),
    "no choice column": (choice(), '{"p": "p", "c0": "x", "label": 1}\n', "file:1", "no column `c1`"),
    "too few gold labels": (classification(reader="tsv", **GOLD), "x\ny\nz\n", "gold", "only 2 gold labels"),
    "too many gold labels": (classification(reader="tsv", **GOLD), "x\n", "gold", "2 gold labels for 1 rows"),
}  # fmt: skip


def made_task(plain: dict[str, Any], **more: Any) -> TaskSpec:
    source = {"name": "raw", "layout": "raw", "files": {"train": "file"}, **plain["source"]}
    rest = {k: v for k, v in plain.items() if k != "source"}
    return TaskSpec.model_validate({"name": "t", "languages": ["en"], "sources": [source], **rest, **more})


@pytest.mark.parametrize("case", BAD)
def test_broken_files_are_explained(case: str, tmp_path: Path) -> None:
    plain, content, where, what = BAD[case]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "file").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "raw" / "gold").write_text("a\nb\n")
    examples: Callable[[], Any] = lambda: list(read_examples(resolve(made_task(plain), "en", "train", tmp_path)))  # noqa: E731
    if not what:
        assert examples() == []
        return
    with pytest.raises(DataError, match=what) as caught:
        examples()
    assert where in str(caught.value.where)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("source", "target", "gold", "what"),
    [
        ("s1\tx\n", "t1\ty\n", "s1\tt2\n", "names no sentence"),
        ("s1 x\n", "t1\ty\n", "s1\tt1\n", "no id<TAB>text"),
        ("s1\tx\ns1\tz\n", "t1\ty\n", "s1\tt1\n", "repeat"),
        ("", "t1\ty\n", "", "source side is empty"),
    ],
)
def test_broken_bitexts_are_explained(source: str, target: str, gold: str, what: str, tmp_path: Path) -> None:
    for name, text in (("source", source), ("target", target), ("gold", gold)):
        (tmp_path / "own" / "tatoeba").mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / "tatoeba" / f"test-de.{name}.tsv").write_text(text)
    with pytest.raises(DataError, match=what):
        load_bitext(resolve(TaskRegistry().get("tatoeba"), "de", "test", tmp_path))


def test_columns_through_lists_and_alternatives(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    row = {"q": {"stem": "s", "choices": [{"text": "x"}, {"text": "y"}]}, "answerKey": "B", "full": "f"}
    (tmp_path / "raw" / "file").write_text(json.dumps(row) + "\n")
    columns = {"prompt": "ctx_a|q.stem", "choices": "q.choices.text", "label": "answerKey", "ctx_b": "ctx_b|"}
    task = made_task(choice(columns=columns, label_map={"A": 0, "B": 1}))
    (example,) = read_examples(resolve(task, "en", "train", tmp_path))
    assert example == {"id": "0", "prompt": "s", "choices": ["x", "y"], "label": 1}
