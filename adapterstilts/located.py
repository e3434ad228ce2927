"""YAML with places: plain data, and for every key and item the file and line it stands on.

Scalars follow YAML 1.2: ``on`` and ``no`` are words (a key of ours, the code of Norwegian), ``3e-5`` is a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from adapterstilts.errors import DataError, RecipeError

try:
    from yaml import CSafeLoader as Loader  # about ten times faster
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as Loader  # type: ignore[assignment]

DEEPEST = 50  # the C loader's own recursion ends in a crash
MOST = 200_000  # values, aliases written out: a few lines of aliases can stand for a billion

Step = str | int
Steps = tuple[Step, ...]

_INTEGER = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ["map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value"]
}
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}


@dataclass
class Located:
    """Plain data and the places of its parts."""

    plain: Any = field(default_factory=dict)
    places: dict[Steps, str] = field(default_factory=dict)

    def where(self, steps: Steps) -> str | None:
        """The place of a part, or of the nearest part around it that has one."""
        for length in range(len(steps), -1, -1):
            if steps[:length] in self.places:
                return self.places[steps[:length]]
        return None


def scalar(text: str) -> Any:
    """The value of an unquoted YAML word."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0 if text[:2] in ("0x", "0o") else 10)
    if _FLOAT.fullmatch(text):
        return float(text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").lower().lstrip("."))
    return text


def read_file(path: Path, kind: str) -> Located:
    """Read one YAML file that holds a mapping; ``kind`` is what errors call it: recipe, task, suite.

    Raises:
        DataError: no such file. RecipeError: not YAML, not a mapping, or a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"cannot read the {kind} `{path}`", why=error.strerror, fix=f"adapterstilts ls {kind}s"
        ) from None
    except UnicodeDecodeError as error:
        why = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise RecipeError(f"the {kind} is not UTF-8 text", where=str(path), why=why) from None
    value = read_value(text, str(path))
    if value.plain is None:
        value.plain = {}
    if not isinstance(value.plain, dict):
        why = f"this file holds a {type(value.plain).__name__}"
        raise RecipeError(f"a {kind} is a mapping", where=f"{path}:1", why=why)
    return value


def read_value(text: str, file: str) -> Located:
    """Read any YAML value, as on the right of ``--set a.b=``."""
    located = Located(None, {(): f"{file}:1"})
    try:
        _check_bounds(text, file)
        node = yaml.compose(text, Loader)
        located.plain = None if node is None else _plain(node, (), file, located.places, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = file if mark is None else f"{file}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise RecipeError("this is not YAML", where=where, why=problem) from None
    return located


def _check_bounds(text: str, where: str) -> None:
    """Refuse what is too deep or too much, by walking the events: that needs no recursion and expands no alias."""
    sizes: dict[str, int] = {}  # anchor -> values
    open_nodes: list[tuple[str | None, int]] = []  # (anchor, values before it)
    total = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.AliasEvent):
            total += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, total))
            total += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes |= {anchor: total - before} if anchor else {}
        place = f"{where}:{event.start_mark.line + 1 if event.start_mark else 1}"
        if len(open_nodes) > DEEPEST:
            raise RecipeError(f"nested deeper than {DEEPEST}", where=place, fix="write it flatter")
        if total > MOST:
            raise RecipeError(f"more than {MOST} values", where=place, why="aliases count as what they stand for")


def _plain(node: yaml.Node, steps: Steps, file: str, places: dict[Steps, str], inside: tuple[int, ...]) -> Any:
    where = f"{file}:{node.start_mark.line + 1}"
    places.setdefault(steps, where)
    if id(node) in inside:
        raise RecipeError("an alias that contains itself", where=where, fix="write it out")
    if node.tag not in _TAGS:
        raise RecipeError(f"the tag `{node.tag}` has no meaning here", where=where, fix="remove it")
    if isinstance(node, yaml.ScalarNode):
        return scalar(node.value) if not node.style else node.value
    inside = (*inside, id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*steps, index), file, places, inside) for index, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = _key(key_node, file)
        inner = (*steps, key)
        if key in result:
            why = f"first at {places[inner]}"
            raise RecipeError(f"the key `{key}` stands twice", where=line, why=why, fix="keep one")
        places[inner] = line
        result[key] = _plain(value_node, inner, file, places, inside)
    return result


def _key(node: yaml.Node, file: str) -> tuple[str, str]:
    where = f"{file}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.ScalarNode):
        raise RecipeError("a key must be a word", where=where, fix="quote it")
    return node.value, where


def walk(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Every part of plain data with its steps, parents first."""
    yield steps, value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, (*steps, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, (*steps, index))
