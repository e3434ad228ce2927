"""One reader per file format, not per task. Each yields rows with the file's own column names and file:line."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from adapterstilts.data.conllu import read_conllu
from adapterstilts.data.lines import Lines, json_of, lines_of
from adapterstilts.data.mewsli import read_mewsli
from adapterstilts.data.xquad_r import read_xquad_r
from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import Row

Options = Mapping[str, Any]
Reader = Callable[[Path, Options], Iterator[Row]]

csv.field_size_limit(2**31 - 1)


def read_tsv(path: Path, options: Options) -> Iterator[Row]:
    """Tab-separated. Options: ``quoting`` (none | csv), ``header`` (true | list of names | null: positions),
    ``skip_short`` (QQP's official file has lines cut in half, which everybody leaves out).

    XTREME writes XNLI and PAWS-X with csv quoting: read without, every quote in them stays doubled.
    """
    yield from _table(path, options, "\t", str(options.get("quoting", "none")))


def read_csv(path: Path, options: Options) -> Iterator[Row]:
    """Comma-separated with csv quoting; options as for tsv, plus ``delimiter``."""
    yield from _table(path, {"header": True, **options}, str(options.get("delimiter", ",")), "csv")


def _table(path: Path, options: Options, delimiter: str, quoting: str) -> Iterator[Row]:
    header = options.get("header")
    names = [str(name) for name in header] if isinstance(header, list | tuple) else None
    fewest = int(options.get("fewest", len(names) if names else 0))
    for number, cells in _quoted(path, delimiter) if quoting == "csv" else _plain(path, delimiter):
        if header is True and names is None:
            names = cells
            fewest = int(options.get("fewest", len(names)))
            if twice := [name for i, name in enumerate(names) if name in names[:i]]:
                why = "one of them would be lost; maybe the file has no header"
                raise DataError(f"two columns are called `{twice[0]}`", where=f"{path}:{number}", why=why)
            continue
        if not cells or cells == [""] or (options.get("skip_short") and len(cells) < fewest):
            continue
        if len(cells) < fewest or (names is not None and len(cells) > len(names)):
            raise DataError(
                f"{len(cells)} columns, {len(names) if names else fewest} expected",
                where=f"{path}:{number}",
                why="a line end or delimiter inside a field, or another file format",
                fix="check the line; quoted fields need `options: {quoting: csv}`",
            )
        keys = names if names is not None else [str(i) for i in range(len(cells))]
        yield Row(dict(zip(keys, cells, strict=False)), f"{path}:{number}")


def _plain(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in lines_of(path):
        yield number, line.split(delimiter)


def _quoted(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((f"{line}\n" for _, line in lines_of(path)), delimiter=delimiter, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError("broken csv quoting", where=f"{path}:{first}", why=str(error)) from error
        yield first, cells


def read_jsonl(path: Path, options: Options) -> Iterator[Row]:
    """One JSON object per line."""
    for number, line in lines_of(path):
        if not line.strip():
            continue
        values = json_of(line, path, number)
        if not isinstance(values, dict):
            raise DataError("a line that is no JSON object", where=f"{path}:{number}", why=f"found {line[:60]}")
        yield Row(values, f"{path}:{number}")


def _json(path: Path) -> tuple[Any, str]:
    """A whole JSON file, and its text to find lines in."""
    text = "\n".join(line for _, line in lines_of(path))
    return json_of(text, path), text


DECODER = json.JSONDecoder()
GAP, COLON = re.compile(r"[\s,{]*"), re.compile(r"[\s:]*")
ITEM = re.compile(r"[^\s,]")
XML_ITEM = re.compile(r"<item\b")
ID = re.compile(r'"id"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d+)')


def read_json(path: Path, options: Options) -> Iterator[Row]:
    """A JSON list of objects, or an object that holds one under ``key``."""
    plain, text = _json(path)
    key = str(options.get("key", "data"))
    items = plain.get(key) if isinstance(plain, dict) else plain
    if not isinstance(items, list):
        raise DataError("no list of objects", where=f"{path}:1", why=f"found {type(plain).__name__}")
    lines = Lines(path, text)
    lines.skip(_list_start(text, key))
    for item in items:
        where = lines.find(ITEM)
        lines.skip(DECODER.raw_decode(text, lines.place)[1])
        if not isinstance(item, dict):
            raise DataError("an item that is no object", where=where, why=f"found {str(item)[:60]}")
        yield Row(item, where)


def _list_start(text: str, key: str) -> int:
    """The place behind the bracket that opens the list: the whole text, or the value of a key of the outer object."""
    place = _after(GAP, text, 0)
    while text[place] == '"':
        name, place = DECODER.raw_decode(text, place)
        place = _after(COLON, text, place)
        if name == key:
            break
        _, place = DECODER.raw_decode(text, place)
        place = _after(GAP, text, place)
    return place + 1


def _after(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    return found.end() if found else place


def read_squad(path: Path, options: Options) -> Iterator[Row]:
    """SQuAD JSON (v1.1, v2.0 and their kin): one row per question with its context."""
    plain, text = _json(path)
    if not isinstance(plain, dict) or not isinstance(plain.get("data"), list):
        raise DataError("no SQuAD file", where=f"{path}:1", why="it has no list `data`", fix="maybe `reader: jsonl`")
    lines = Lines(path, text)
    where = f"{path}:1"
    for number, article in enumerate(plain["data"]):
        try:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    values = {**question, "context": paragraph["context"], "title": article.get("title", "")}
                    values.setdefault("answers", [])
                    where = lines.find(ID, question["id"])
                    yield Row(values, f"{where}: question {question['id']}")
        except (KeyError, TypeError) as error:
            raise DataError(f"article {number} lacks {error}", where=where, why="not in SQuAD's form") from error


def read_copa_xml(path: Path, options: Options) -> Iterator[Row]:
    """COPA's XML: premise, choice1, choice2, question (cause | effect), label (1 | 2)."""
    text = "\n".join(line for _, line in lines_of(path))
    try:
        items = ElementTree.fromstring(text).iter("item")
    except ElementTree.ParseError as error:
        raise DataError("not readable as XML", where=f"{path}:{error.position[0]}", why=error.msg) from error
    lines = Lines(path, text)
    for item in items:
        where = lines.find(XML_ITEM)
        lines.skip(lines.place + 1)
        texts = {tag: (item.findtext(tag) or "").strip() for tag in ("p", "a1", "a2")}
        values = {
            "id": item.get("id"),
            "premise": texts["p"],
            "choice1": texts["a1"],
            "choice2": texts["a2"],
            "question": item.get("asks-for"),
            "label": item.get("most-plausible-alternative"),
        }
        yield Row(values, where)


def read_conll(path: Path, options: Options) -> Iterator[Row]:
    """One token per line, blank line between sentences.

    Options: ``word`` and ``tag`` (positions, 0 and 1), ``comments`` (lines that start with it are skipped; none by
    default: # can be a word), ``strip_prefix`` (WikiANN writes ``lang:token``; the text up to the first colon goes).
    A file with one column has no tags.
    """
    word, tag = int(options.get("word", 0)), int(options.get("tag", 1))
    comment, strip = options.get("comments"), bool(options.get("strip_prefix", False))
    words: list[str] = []
    tags: list[str] = []
    first = 0
    for number, line in lines_of(path):
        if not line.strip():
            if words:
                yield Row(_sentence(words, tags, f"{path}:{first}"), f"{path}:{first}")
            words, tags = [], []
            continue
        if comment and line.startswith(comment):
            continue
        columns = line.split("\t")
        first = first if words else number
        token = columns[word] if word < len(columns) else ""
        if not token:
            raise DataError(f"no word in column {word}", where=f"{path}:{number}", why=f"the line is {line[:60]!r}")
        words.append(token.partition(":")[2] or token if strip else token)
        if tag < len(columns):
            tags.append(columns[tag].strip())
    if words:
        yield Row(_sentence(words, tags, f"{path}:{first}"), f"{path}:{first}")


def _sentence(words: list[str], tags: list[str], where: str) -> dict[str, Any]:
    if tags and len(tags) != len(words):
        raise DataError(f"{len(words)} words but {len(tags)} tags", where=where, why="a line without its tag")
    return {"words": words, "tags": tags or None}


def read_conllu_file(path: Path, options: Options) -> Iterator[Row]:
    """CoNLL-U by XTREME's rules (see conllu.py)."""
    yield from read_conllu(path, lines_of(path), options)


def read_lines(path: Path, options: Options) -> Iterator[Row]:
    """One text per line; blank lines are skipped."""
    for number, line in lines_of(path):
        if line.strip():
            yield Row({"text": line}, f"{path}:{number}")


def read_pairs(path: Path, options: Options) -> Iterator[Row]:
    """BUCC's id<TAB>text and id<TAB>id files."""
    for number, line in lines_of(path):
        first, tab, second = line.partition("\t")
        if not line.strip():
            continue
        if not tab or not second.strip():
            raise DataError("no id<TAB>text", where=f"{path}:{number}", why=f"the line is {line[:60]!r}")
        yield Row({"id": first, "text": second}, f"{path}:{number}")


READERS: dict[str, Reader] = {
    "tsv": read_tsv,
    "csv": read_csv,
    "jsonl": read_jsonl,
    "json": read_json,
    "squad": read_squad,
    "copa_xml": read_copa_xml,
    "conll": read_conll,
    "conllu": read_conllu_file,
    "lines": read_lines,
    "pairs": read_pairs,
    "xquad_r": read_xquad_r,
    "mewsli": read_mewsli,
}
