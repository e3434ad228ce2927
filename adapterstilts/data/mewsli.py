"""Reader of Mewsli-X: mentions in news articles, and the descriptions of the entities they may mean.

The files are those that google-research's get-mewsli-x.sh makes and XTREME-R's download leaves (``mewsli-x.md`` there
describes them). Texts are built as XTREME's utils_mewslix.py builds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterstilts.data.lines import json_of, lines_of
from adapterstilts.errors import DataError
from adapterstilts.tasks.formats.base import Row

BRACED = re.compile(r"\{(.*?)\}")


def read_mewsli(path: Path, options: Mapping[str, Any]) -> Iterator[Row]:
    """One row a mention (``wikinews_mentions-*.jsonl``) or a candidate (``candidate_set_entities.jsonl``).

    A mention asks for its entity's id, and a candidate answers to its own. ``language`` is that of the article or of
    the description.

    Raises:
        DataError: a line that is neither, offsets that do not fit, articles without their text.
    """
    for number, line in lines_of(path):
        where = f"{path}:{number}"
        if not line.strip():
            continue
        try:
            plain = json_of(line, path, number)
            if "mentions" in plain:
                yield from _mentions(plain["context"], plain["mentions"], where)
            else:
                yield _entity(plain, where)
        except DataError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise DataError("neither a Mewsli-X article nor an entity", where=where, why=why) from error


def _mentions(context: Mapping[str, Any], mentions: list[Mapping[str, Any]], where: str) -> Iterator[Row]:
    if mentions and not context["text"]:
        fix = "run get-mewsli-x.sh: it takes the texts from the dumps of WikiNews"
        raise DataError("the article's text is left out", where=where, why="the released files hold offsets", fix=fix)
    for mention in mentions:
        values = {
            "id": mention["example_id"],
            "text": marked(context, mention["mention_span"], where),
            "label": [mention["entity_id"]],
            "language": context["language"],
        }
        yield Row(values, where)


def marked(context: Mapping[str, Any], span: Mapping[str, Any], where: str) -> str:
    """``mention: the sentence with the { mention } in braces``: in front too, so that truncation keeps it.

    Raises:
        DataError: the mention is not at its place, or in no single sentence.
    """
    text, start, end = context["text"], span["start"], span["end"]
    if text[start:end] != span["text"]:
        why = f"the text has {text[start:end]!r} there"
        raise DataError(f"the mention {span['text']!r} is not at its place", where=where, why=why)
    around = next((s for s in context["sentence_spans"] if s["start"] <= start and end <= s["end"]), None)
    if around is None:
        raise DataError(f"the mention {span['text']!r} is in no sentence", where=where)
    before, after = (BRACED.sub(r"(\1)", part) for part in (text[around["start"] : start], text[end : around["end"]]))
    return _plain(f"{span['text']}: {before} {{ {span['text']} }} {after}")


def _entity(plain: Mapping[str, Any], where: str) -> Row:
    text = " ".join(plain["description"][span["start"] : span["end"]] for span in plain["sentence_spans"])
    name = plain["entity_id"]
    return Row({"id": name, "text": _plain(text), "label": [name], "language": plain["description_language"]}, where)


def _plain(text: str) -> str:
    return " ".join(text.splitlines()).replace("  ", " ").strip()
