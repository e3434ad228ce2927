"""Files that are wrong, one table over all readers: truncated, mixed up, of other columns, shuffled, doubled, empty."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from adapterstilts.tasks.spec import TaskSpec

Plain = dict[str, Any]


@dataclass(frozen=True)
class Broken:
    """``files``: name below raw/ -> content. ``line``: where the error must point, as the end of file:line."""

    task: Plain
    files: dict[str, str | bytes]
    line: str
    what: str


def made_task(plain: Plain, **more: Any) -> TaskSpec:
    """A task t with one source, raw/file."""
    source = {"name": "raw", "layout": "raw", "files": {"train": "file"}, **plain["source"]}
    rest = {key: value for key, value in plain.items() if key != "source"}
    return TaskSpec.model_validate({"name": "t", "languages": ["en"], "sources": [source], **rest, **more})


def classification(**source: Any) -> Plain:
    return {"format": "classification", "labels": ["a", "b"], "metric": "accuracy", "source": source}


def span(**source: Any) -> Plain:
    return {"format": "span", "metric": "squad", "source": {"reader": "squad", **source}}


def tagging(**source: Any) -> Plain:
    return {"format": "tagging", "labels": ["X", "Y"], "metric": "chunk_f1", "source": {"reader": "conll", **source}}


def choice(**source: Any) -> Plain:
    columns = {"prompt": "p", "choices": ["c0", "c1"], "label": "label"}
    return {"format": "multiple_choice", "metric": "accuracy", "source": {"columns": columns, **source}}


def copa(**source: Any) -> Plain:
    columns = {"prompt": "premise", "choices": ["choice1", "choice2"], "label": "label"}
    return choice(reader="copa_xml", columns=columns, label_map={"1": 0, "2": 1}, **source)


def text(**source: Any) -> Plain:
    return {"format": "masked_lm", "metric": "", "source": {"reader": "lines", "columns": {"text_a": "text"}, **source}}


def bitext(reader: str = "pairs", **source: Any) -> Plain:
    sides = {"source": "s", "target": "t"}
    files = {"train": sides if reader == "lines" else {**sides, "gold": "g"}}
    return {"format": "bitext", "metric": "bucc", "source": {"reader": reader, "files": files, **source}}


def ranking(reader: str) -> Plain:
    return {"format": "ranking", "metric": "map@20", "source": {"reader": reader}}


def parquet() -> Plain:
    source = {"kind": "hub", "layout": "", "files": {}, "repo": "o/d", "splits": {"train": "train"}}
    return classification(**source)


def one(task: Plain, content: str | bytes, line: str, what: str) -> Broken:
    return Broken(task, {"file": content, "gold": "a\nb\n"}, line, what)


def pairs(source: str, target: str, gold: str, line: str, what: str, reader: str = "pairs", **more: Any) -> Broken:
    return Broken(bitext(reader, **more), {"s": source, "t": target, "g": gold}, line, what)


TSV = {"reader": "tsv", "options": {"header": True}, "columns": {"text_a": "t", "label": "l"}}
BARE = {"reader": "tsv", "options": {"fewest": 2}, "columns": {"text_a": "0", "label": "1"}}
QUOTED = TSV | {"options": {"header": True, "quoting": "csv"}}
CSV = {"reader": "csv", "columns": {"text_a": "t", "label": "l"}}
JSON = {"reader": "json"}
GOLD = {"reader": "tsv", "blanked": ["train"], "gold": {"train": {"layout": "raw", "file": "gold"}},
        "columns": {"text_a": "0", "label": "1"}}  # fmt: skip
TAGS = {"blanked": ["train"], "gold": {"train": {"layout": "raw", "file": "gold", "form": "tags"}}}
ANSWERS = {"blanked": ["train"], "gold": {"train": {"layout": "raw", "file": "gold", "form": "squad"}}}


def squad(*ids: str, context: str = "so c it", answer: Any = "c", indent: int | None = 1) -> str:
    answers = [{"text": answer, "answer_start": 3}]
    questions = [{"question": "?", "id": key, "answers": answers} for key in ids]
    return json.dumps({"data": [{"paragraphs": [{"context": context, "qas": questions}]}]}, indent=indent)


def conllu(*words: str) -> str:
    return "".join("\t".join([word.split("/")[0], *"w_X__0___"]).replace("X", word[-1]) + "\n" for word in words)


ITEM = '<item id="{}" asks-for="cause" most-plausible-alternative="{}"><p>p</p><a1>x</a1><a2>y</a2></item>\n'
XML = f'<copa-corpus version="1.0">\n{ITEM.format(1, 1)}'

MENTIONS = (
    '{"context": {"language": "en", "text": "ab", "sentence_spans": [{"start": 0, "end": 2}]}, "mentions": '
    '[{"example_id": "m", "entity_id": "Q1", "mention_span": {"start": 0, "end": 1, "text": "b"}}]}\n'
)

BROKEN: dict[str, Broken] = {
    # ranking
    "xquad_r: without sentences": one(ranking("xquad_r"), squad("q"), "file:1", "not an XQuAD-R file"),
    "mewsli: a mention elsewhere": one(ranking("mewsli"), MENTIONS, "file:1", "the mention 'b' is not at its place"),
    "mewsli: another file": one(ranking("mewsli"), '{"id": "x"}\n', "file:1", "neither a Mewsli-X article"),
    # tsv
    "tsv: another column": one(classification(**TSV), "text\tl\nx\ta\n", "file:2", "no column `t`"),
    "tsv: a label outside the set": one(classification(**TSV), "t\tl\nx\ta\ny\tc\n", "file:3", "label `c` is none"),
    "tsv: columns swapped": one(classification(**TSV), "l\tt\nx\ta\n", "file:2", "label `x` is none"),
    "tsv: columns shuffled on the way": one(classification(**BARE), "x\ta\na\tx\n", "file:2", "label `x` is none"),
    "tsv: a column twice": one(classification(**TSV), "t\tt\nx\ta\n", "file:1", "two columns are called `t`"),
    "tsv: truncated": one(classification(**TSV), "t\tl\nx\ta\nlong te", "file:3", "1 columns, 2 expected"),
    "tsv: truncated, without header": one(classification(**BARE), "x\ta\nlong te", "file:2", "1 columns, 2 expected"),
    "tsv: a tab inside a text": one(classification(**TSV), "t\tl\nx\ty\ta\n", "file:2", "3 columns, 2 expected"),
    "tsv: header alone": one(classification(**TSV), "t\tl\n", "file", "the data set is empty"),
    "tsv: header in the middle": one(classification(**TSV), "t\tl\nx\ta\nt\tl\n", "file:3", "label `l` is none"),
    "tsv: latin-1 in one line": one(classification(**TSV), b"t\tl\nx\ta\nf\xfcr\ta\n", "file:3", "not UTF-8"),
    "tsv: cut inside a character": one(classification(**TSV), "t\tl\nx\ta\nfü".encode()[:-1], "file:3", "not UTF-8"),
    "tsv: utf-16": one(classification(**TSV), "t\tl\nx\ta\n".encode("utf-16"), "file:1", "UTF-16"),
    "tsv: a zip": one(classification(**TSV), b"PK\x03\x04\x14\x00\xff\xfe\n", "file:1", "not UTF-8"),
    "tsv: empty": one(classification(**TSV), "", "file", "the data set is empty"),
    # csv
    "csv: a quote that never ends": one(classification(**QUOTED), 't\tl\nx\ta\n"x\ta\n', "file:3", "csv quoting"),
    "csv: text behind a quote": one(classification(**CSV), 't,l\n"x"y,a\n', "file:2", "csv quoting"),
    "csv: another delimiter": one(classification(**CSV), "t;l\nx;a\n", "file:2", "no column `t`"),
    "csv: a comma without quotes": one(classification(**CSV), "t,l\nx, and y,a\n", "file:2", "3 columns, 2 expected"),
    "csv: mixed encoding": one(classification(**CSV), "t,l\nü,a\n".encode() + b"\xfc,a\n", "file:3", "not UTF-8"),
    # jsonl
    "jsonl: truncated": one(
        classification(), '{"text_a": "x", "label": "a"}\n{"text_a": \n', "file:2", "not readable as JSON"),
    "jsonl: no objects": one(classification(), '["x"]\n', "file:1", "no JSON object"),
    "jsonl: a list, not lines": one(classification(), '[\n{"text_a": "x"}\n]\n', "file:1", "not readable as JSON"),
    "jsonl: text that is a number list": one(classification(), '{"text_a": [1], "label": "a"}', "file:1", "not text"),
    "jsonl: no such choice": one(choice(), '{"p": "p", "c0": "x", "c1": "y", "label": 2}', "file:1", "is no choice"),
    "jsonl: a choice is missing": one(choice(), '\n{"p": "p", "c0": "x", "label": 1}', "file:2", "no column `c1`"),
    "jsonl: labels of nobody": one(classification(), '{"text_a": "x"}\n', "file", "without usable label"),
    # json
    "json: truncated": one(classification(**JSON), '[{"text_a":\n "x"}', "file:2", "not readable as JSON"),
    "json: no list": one(classification(**JSON), '{"items": []}', "file:1", "no list of objects"),
    "json: an item is none": one(classification(**JSON), '[\n{"text_a": "", "label": "a"},\n7]', "file:3", "no object"),
    "json: wrong label inside": one(
        classification(**JSON), json.dumps([{"text_a": "x", "label": k} for k in "ac"], indent=1), "file:6", "label `c`"
    ),
    "json: empty": one(classification(**JSON), "", "file:1", "not readable as JSON"),
    # squad
    "squad: another file": one(span(), '[{"question": "q"}]', "file:1", "no SQuAD file"),
    "squad: truncated": one(span(), squad("q")[:-4], "file:21", "not readable as JSON"),
    "squad: no ids": one(span(), squad("q").replace('"id"', '"key"'), "file:1", "article 0 lacks 'id'"),
    "squad: no context": one(span(), squad("q", context=" "), "file:10", "`context` is empty"),
    "squad: answers of another form": one(span(), squad("a", "b").replace('"text"', '"t"'), "file:10", "unknown form"),
    "squad: latin-1": one(span(), squad("q").encode().replace(b"so c", b"s\xf6 c"), "file:6", "not UTF-8"),
    "squad: no gold for a question": Broken(
        span(**ANSWERS), {"file": squad("a", "b"), "gold": squad("a")}, "file:20", "no gold answer for `b`"
    ),
    "squad: gold twice": Broken(
        span(**ANSWERS), {"file": squad("a"), "gold": squad("a", "a")}, "gold:20", "gold answers twice"
    ),
    # conll
    "conll: truncated": one(tagging(), "a\tX\n\na\tX\nb", "file:3", "2 words but 1 tags"),
    "conll: a tag outside the set": one(tagging(), "a\tX\n\nb\tZ\n", "file:3", "label `Z` is none"),
    "conll: no word": one(tagging(), "a\tX\n\tX\n", "file:2", "no word in column 0"),
    "conll: columns swapped": one(tagging(), "X\ta\n", "file:1", "label `a` is none"),
    "conll: spaces for tabs": one(tagging(), "a X\nb Y\n", "file", "without usable label"),
    "conll: empty": one(tagging(), "\n\n\n", "file", "the data set is empty"),
    "conll: gold shuffled": Broken(
        tagging(**TAGS), {"file": "a\nb\n\nc\n", "gold": "X\n\nX\nY\n"}, "file:1", "2 words but 1 tags"
    ),
    # conllu
    "conllu: token and tag alone": one(tagging(reader="conllu"), "a\tX\n", "file:1", "CoNLL-U has 10"),
    "conllu: truncated": one(tagging(reader="conllu"), conllu("1/X", "2/Y")[:-9], "file:2", "CoNLL-U has 10"),
    "conllu: a blank line is lost": one(
        tagging(reader="conllu"), "# a\n" + conllu("1/X", "2/X", "1/Y"), "file:2", "word 1 comes twice"
    ),
    "conllu: latin-1": one(tagging(reader="conllu"), b"# caf\xe9\n", "file:1", "not UTF-8"),
    # xml
    "xml: truncated": one(copa(), XML, "file:2", "not readable as XML"),
    "xml: another label": one(copa(), XML + ITEM.format(2, 3) + "</copa-corpus>", "file:3", "label `3` is no choice"),
    "xml: no items": one(copa(), "<copa-corpus></copa-corpus>", "file", "the data set is empty"),
    # lines
    "lines: empty": one(text(), "\n \n", "file", "the data set is empty"),
    "lines: mixed encoding": one(text(), "für\n".encode() + "für\n".encode("latin-1"), "file:2", "not UTF-8"),
    # gold by position
    "gold: too short": one(classification(**GOLD), "x\ny\nz\n", "gold:2", "only 2 gold labels"),
    "gold: too long": one(classification(**GOLD), "x\n", "gold:2", "2 gold labels for 1 rows"),
    "gold: of another task": Broken(classification(**GOLD), {"file": "x\n", "gold": "c\n"}, "file:1", "label `c`"),
    # bitext
    "bitext: gold of nobody": pairs("s1\tx\n", "t1\ty\n", "s1\tt1\n\ns1\tt2\n", "g:3", "names no sentence"),
    "bitext: gold with sides swapped": pairs("s1\tx\n", "t1\ty\n", "t1\ts1\n", "g:1", "names no sentence"),
    "bitext: no ids": pairs("s1 x\n", "t1\ty\n", "s1\tt1\n", "s:1", "no id<TAB>text"),
    "bitext: doubled": pairs("s1\tx\ns1\tx\n", "t1\ty\n", "s1\tt1\n", "s:2", "ids of the source side repeat"),
    "bitext: truncated": pairs("s1\tx\n", "t1\ty\nt2", "s1\tt1\n", "t:2", "no id<TAB>text"),
    "bitext: empty": pairs("", "t1\ty\n", "", "s:1", "source side is empty"),
    "tatoeba: a line is lost": pairs("x\ny\n", "a\n", "", "s:2", "not aligned", "lines", sort_target=True),
    "tatoeba: an empty line": pairs("x\n\n", "a\nb\n", "", "s:2", "sentence 1 of", "lines", sort_target=True),
    "tatoeba: an empty translation": pairs("x\ny\n", "b\n\n", "", "t:2", "is empty", "lines", sort_target=True),
    "tatoeba: empty": pairs("", "", "", "s:1", "source side is empty", "lines", sort_target=True),
    # parquet
    "parquet: truncated": Broken(
        parquet(), {"../hub/o/d/default/train.parquet": b"PAR1\x00\x01"}, "row 0", "not readable as parquet"
    ),
    "parquet: no parquet": Broken(
        parquet(), {"../hub/o/d/default/train.parquet": "t\tl\n"}, "row 0", "not readable as parquet"
    ),
}  # fmt: skip
