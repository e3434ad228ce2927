"""How compositions are written: ``stack({language}, fuse(a, 0.5*b, how=gate))``, read and written back. Torch-free.

    expression := [weight "*"] name | "{language}" | operator "(" expression, ... [, OPTION=VALUE] ... ")"

The operators are stack, fuse and merge; ``base`` is the empty composition. The same tree can be written as a YAML
mapping: ``{stack: [{language}, {fuse: [a, b], how: gate}]}``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

from adapterstilts.errors import RecipeError
from adapterstilts.modules.composition import BASE, Fuse, Leaf, Merge, Slot, Stack, Tree, did_you_mean
from adapterstilts.settings import MERGES

OPERATORS = ("stack", "fuse", "merge")
DEEPEST = 20

_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z0-9_.+/-]+)|(?P<slot>\{[^{}]*\})|(?P<mark>[(),*=\[\]]))")


class _Parser:
    """Recursive descent over the tokens of one text; every error names the column."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._split())
        self.next = 0

    def _split(self) -> Iterator[tuple[str, str, int]]:
        position, end = 0, len(self.text.rstrip())
        while position < end:
            match = _TOKEN.match(self.text, position)
            if match is None or match.lastgroup is None:
                position += len(self.text[position:]) - len(self.text[position:].lstrip())
                self.fail(f"unexpected `{self.text[position]}`", position)
            yield match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)
            position = match.end()
        yield "end", "", end

    def fail(self, what: str, column: int, fix: str | None = None) -> NoReturn:
        shown = self.text if len(self.text) < 80 else f"{self.text[max(0, column - 30) : column + 10]}..."
        fix = fix or "write a module's name, or stack(a, b), fuse(a, b), merge(a, b)"
        raise RecipeError(f"{what} at column {column + 1} of `{shown}`", fix=fix)

    def take(self, mark: str) -> None:
        kind, value, column = self.tokens[self.next]
        if kind != "mark" or value != mark:
            self.fail(f"expected `{mark}`, found {f'`{value}`' if value else 'the end'}", column)
        self.next += 1

    def sees(self, mark: str, ahead: int = 0) -> bool:
        token = self.tokens[min(self.next + ahead, len(self.tokens) - 1)]
        return token[0] == "mark" and token[1] == mark

    def number(self) -> float:
        kind, value, column = self.tokens[self.next]
        try:
            number = float(value) if kind == "name" else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"expected a number, found `{value}`", column)
        self.next += 1
        return number

    def expression(self, depth: int = 0) -> Tree:
        kind, value, column = self.tokens[self.next]
        if depth > DEEPEST:
            self.fail(f"nested deeper than {DEEPEST}", column)
        if kind == "slot":
            self.next += 1
            return self._made(lambda: Slot(value[1:-1].strip()), column)
        if kind != "name":
            self.fail(f"expected a module, found {f'`{value}`' if value else 'the end'}", column, "stack(a, b)")
        if self.sees("*", 1):
            weight = self.number()
            self.take("*")
            kind, name, place = self.tokens[self.next]
            if kind != "name" or name == "base" or self.sees("(", 1):
                self.fail("only a module can be weighted", place, "write the weight before the module's name")
            self.next += 1
            return Leaf(name, weight)
        self.next += 1
        if self.sees("("):
            return self._operator(value, column, depth)
        return BASE if value == "base" else Leaf(value)

    def _operator(self, name: str, column: int, depth: int) -> Tree:
        if name not in OPERATORS:
            self.fail(f"unknown operator `{name}`", column, did_you_mean(name, OPERATORS) or "stack, fuse or merge")
        self.take("(")
        children: list[Tree] = []
        options: dict[str, Any] = {}
        while not self.sees(")"):
            if self.sees("=", 1):
                self._option(name, options)
            else:
                children.append(self.expression(depth + 1))
            if not self.sees(")"):
                self.take(",")
        self.take(")")
        return self._made(lambda: _build(name, children, options), column)

    def _option(self, operator: str, options: dict[str, Any]) -> None:
        _, key, column = self.tokens[self.next]
        if key not in _OPTIONS[operator] or key in options:
            takes = ", ".join(_OPTIONS[operator]) or "no options"
            self.fail(f"{operator} cannot take `{key}=` here (it takes {takes})", column)
        self.next += 1
        self.take("=")
        if key != "weights":
            kind, value, column = self.tokens[self.next]
            if kind != "name":
                self.fail(f"expected a value after {key}=", column)
            named = key in ("how", "task")
            options[key] = value if named else self.number()
            self.next += named
            return
        self.take("[")
        numbers = []
        while not self.sees("]"):
            numbers.append(self.number())
            if not self.sees("]"):
                self.take(",")
        self.take("]")
        options["weights"] = tuple(numbers)

    def _made(self, make: Callable[[], Tree], column: int) -> Tree:
        try:
            return make()
        except RecipeError as error:
            where = f"{error.what} at column {column + 1} of `{self.text}`"
            raise RecipeError(where, why=error.why, fix=error.fix) from None


_PARAMETERS = tuple(dict.fromkeys(name for taken in MERGES.values() for name in taken.model_fields))
_OPTIONS: Mapping[str, tuple[str, ...]] = {"stack": (), "fuse": ("how",), "merge": ("how", "weights", *_PARAMETERS)}


def _build(operator: str, children: Sequence[Tree], options: Mapping[str, Any]) -> Tree:
    if operator == "stack":
        return Stack(tuple(children))
    if operator == "fuse":
        return Fuse(tuple(children), **options)
    parameters = {key: options[key] for key in options if key in _PARAMETERS}
    return Merge(tuple(children), options.get("how"), options.get("weights"), tuple(sorted(parameters.items())))


def parse(text: str) -> Tree:
    """The tree of an expression.

    Raises:
        RecipeError: with the column in ``text`` and, for a mistyped operator, what was meant.
    """
    parser = _Parser(text)
    tree = parser.expression()
    kind, value, column = parser.tokens[parser.next]
    if kind != "end":
        parser.fail(f"unexpected `{value}` after the expression", column)
    return tree


def from_plain(value: Any, depth: int = 0) -> Tree:
    """The tree of what YAML gives: an expression, or a mapping ``{stack: [..]}``.

    Raises:
        RecipeError: anything else, or a wrong key.
    """
    if isinstance(value, str):
        return parse(value)
    if depth > DEEPEST:
        raise RecipeError(f"a composition nested deeper than {DEEPEST}")
    if not isinstance(value, Mapping):
        raise RecipeError(f"`{value}` is no composition", fix="write a module's name, or stack(a, b), fuse(a, b)")
    if len(value) == 1 and next(iter(value.values())) is None:  # YAML reads an unquoted {language} as a mapping
        return Slot(str(next(iter(value))))
    operators = [key for key in value if key in OPERATORS]
    if len(operators) != 1:
        key = str(next(iter(value), ""))
        hint = did_you_mean(key, OPERATORS)
        raise RecipeError(f"unknown operator `{key}`", why="one of stack, fuse, merge", fix=hint)
    operator = operators[0]
    options = {key: item for key, item in value.items() if key != operator}
    for key in options:
        if key not in _OPTIONS[operator]:
            raise RecipeError(f"{operator} has no option `{key}`", fix=did_you_mean(str(key), _OPTIONS[operator]))
    if not isinstance(value[operator], (list, tuple)):
        raise RecipeError(f"{operator} needs a list of modules", fix=f"{{{operator}: [a, b]}}")
    if "weights" in options:
        try:
            options["weights"] = tuple(float(number) for number in options["weights"])
        except (TypeError, ValueError):
            raise RecipeError("`weights` is no list of numbers") from None
    if not isinstance(options.get("how", ""), str):
        raise RecipeError(f"`how` of {operator} is no name")
    return _build(operator, [from_plain(child, depth + 1) for child in value[operator]], options)


def format_tree(tree: Tree, rename: Mapping[str, str] | None = None) -> str:
    """The expression of a tree, its modules renamed if told; ``parse(format_tree(tree)) == tree``."""
    if isinstance(tree, Leaf):
        name = (rename or {}).get(tree.name, tree.name)
        return name if tree.weight == 1.0 else f"{tree.weight!r}*{name}"
    if isinstance(tree, Slot):
        return f"{{{tree.name}}}"
    if tree == BASE:
        return "base"
    parts = [format_tree(child, rename) for child in tree.children]
    if isinstance(tree, Fuse) and tree.how != "gate":
        parts.append(f"how={tree.how}")
    if isinstance(tree, Merge):
        parts += [f"how={tree.how}"] if tree.how is not None else []
        parts += [f"weights=[{', '.join(map(repr, tree.weights))}]"] if tree.weights is not None else []
        parts += [f"{name}={value}" for name, value in tree.parameters]
    return f"{type(tree).__name__.lower()}({', '.join(parts)})"
