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
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

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


def read_file(path: Path) -> Located:
    """Read one YAML file.

    Raises:
        DataError: no such file. RecipeError: not YAML, not a mapping, or a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"cannot read the recipe `{path}`", why=error.strerror, fix="adapterstilts ls recipes"
        ) from None
    except UnicodeDecodeError as error:
        raise RecipeError("the recipe is not UTF-8 text", where=str(path), why=str(error)) from None
    return read_text(text, str(path))


def read_text(text: str, file: str) -> Located:
    """Read YAML text; ``file`` is the name in error messages."""
    value = read_value(text, file)
    if value.plain is None:
        value.plain = {}
    if not isinstance(value.plain, dict):
        raise RecipeError("a recipe is a mapping", where=file, why=f"this file holds a {type(value.plain).__name__}")
    return value


def read_value(text: str, file: str) -> Located:
    """Read any YAML value, as on the right of ``--set a.b=``."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        located = Located()
        located.plain = None if node is None else _plain(node, (), file, located.places, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = file if mark is None else f"{file}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError("this is not YAML", where=where, why=problem) from None
    finally:
        loader.dispose()
    return located


def _plain(node: yaml.Node, steps: Steps, file: str, places: dict[Steps, str], inside: tuple[int, ...]) -> Any:
    where = f"{file}:{node.start_mark.line + 1}"
    places.setdefault(steps, where)
    if id(node) in inside:
        raise RecipeError("an alias that contains itself", where=where)
    if len(steps) > 50:
        raise RecipeError("nested deeper than 50", where=where)
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
