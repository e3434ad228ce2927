"""Compositions as trees of modules: what can stand in them, and walks over them. Torch-free.

How they are written is in expressions.py.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from adapterstilts.errors import RecipeError
from adapterstilts.settings import MERGES

SLOTS = ("language",)
FUSE_HOWS = ("gate", "weights", "attention")

_NAME = re.compile(r"[A-Za-z0-9_.+/-]+")


@dataclass(frozen=True)
class Leaf:
    """One module by name or hash; ``weight`` scales a weight delta."""

    name: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_name(self.name)
        if not math.isfinite(self.weight):
            raise RecipeError(f"the weight of `{self.name}` is {self.weight}", why="it must be a finite number")


@dataclass(frozen=True)
class Slot:
    """A place that is filled when the module is used: ``{language}``."""

    name: str = "language"

    def __post_init__(self) -> None:
        if self.name not in SLOTS:
            raise RecipeError(f"unknown slot `{{{self.name}}}`", why="the only slot is {language}", fix="{language}")


@dataclass(frozen=True)
class Stack:
    """Children from the bottom to the top; without children, the bare base."""

    children: tuple[Tree, ...] = ()


@dataclass(frozen=True)
class Fuse:
    """A trained mixture of frozen modules: alpha by a gate on the input, by plain weights, or AdapterFusion."""

    children: tuple[Tree, ...]
    how: str = "gate"

    def __post_init__(self) -> None:
        _check_operator("fuse", self.children, self.how, FUSE_HOWS)


@dataclass(frozen=True)
class Merge:
    """One new module made of several. ``how`` None: the family's default; ``weights`` None: those of the leaves.

    ``parameters`` are those of ``how``, sorted by name: rank, density, the task of a search.
    """

    children: tuple[Tree, ...]
    how: str | None = None
    weights: tuple[float, ...] | None = None
    parameters: tuple[tuple[str, str | float], ...] = ()

    def __post_init__(self) -> None:
        _check_operator("merge", self.children, self.how, tuple(MERGES))
        _check_parameters(self.how or "cat", dict(self.parameters))
        if self.weights is not None and len(self.weights) != len(self.children):
            raise RecipeError(f"merge of {len(self.children)} modules has {len(self.weights)} weights")
        if not all(map(math.isfinite, self.weights or ())):
            raise RecipeError("a weight of merge is not a finite number")


Tree = Leaf | Slot | Stack | Fuse | Merge
BASE = Stack()


def check_name(name: str) -> None:
    """Raise RecipeError unless ``name`` can name a module."""
    if not _NAME.fullmatch(name) or name == "base" or {"", ".", ".."} & set(name.split("/")):
        why = "`base` is the empty composition" if name == "base" else "letters, digits and _ . + / - are allowed"
        raise RecipeError(f"`{name}` cannot name a module", why=why)


def _check_operator(name: str, children: tuple[Tree, ...], how: str | None, known: Sequence[str]) -> None:
    if not children:
        raise RecipeError(f"{name} without modules", fix=f"{name}(a, b)")
    if BASE in children:
        raise RecipeError(f"`base` inside {name}", why=f"the bare base is no module, it adds nothing to a {name}")
    if how is not None and how not in known:
        can = f"it can be {', '.join(known)}"
        raise RecipeError(f"{name} has no how=`{how}`", why=can, fix=did_you_mean(how, known))


def _check_parameters(how: str, given: Mapping[str, Any]) -> None:
    taken = MERGES[how].model_fields
    for name in given:
        if name not in taken:
            why = f"it takes {', '.join(taken)}" if taken else "it takes none"
            raise RecipeError(f"how={how} has no parameter `{name}`", why=why, fix=did_you_mean(name, tuple(taken)))
    try:
        MERGES[how].model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name, why = str(first["loc"][0]), first["msg"]
        told = str(taken[name].description or "")
        raise RecipeError(f"`{name}` of how={how}: {why}", why=told or None, fix=f"{name}=...") from None


def did_you_mean(word: str, known: Sequence[str]) -> str | None:
    """A hint for a mistyped word, or None."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{near[0]}`?" if near else None


# -- walks ------------------------------------------------------------------------------------------------------------


def leaves(tree: Tree) -> list[str]:
    """The names of the modules, from the bottom up, each once. Slots are not among them."""
    if isinstance(tree, Leaf):
        return [tree.name]
    if isinstance(tree, Slot):
        return []
    return list(dict.fromkeys(name for child in tree.children for name in leaves(child)))


def nodes(tree: Tree) -> Iterator[Tree]:
    """The tree and everything in it, from the top."""
    yield tree
    for child in () if isinstance(tree, (Leaf, Slot)) else tree.children:
        yield from nodes(child)


def map_leaves(tree: Tree, change: Callable[[Leaf], Tree]) -> Tree:
    """The same tree with ``change(leaf)`` in the place of each leaf."""
    if isinstance(tree, Leaf):
        return change(tree)
    if isinstance(tree, Slot):
        return tree
    return replace(tree, children=tuple(map_leaves(child, change) for child in tree.children))


def scaled(tree: Tree, weight: float) -> Tree:
    """A module's tree with a weight on the whole of it."""
    return tree if weight == 1.0 else map_leaves(tree, lambda leaf: Leaf(leaf.name, leaf.weight * weight))


def has_slot(tree: Tree) -> bool:
    """Whether something in it is bound only when it is used."""
    if isinstance(tree, Leaf):
        return False
    return isinstance(tree, Slot) or any(has_slot(child) for child in tree.children)


def bind(tree: Tree, filling: Tree) -> Tree:
    """The same tree with ``filling`` in the place of every slot."""
    if isinstance(tree, Slot):
        return filling
    return tree if isinstance(tree, Leaf) else replace(tree, children=tuple(bind(c, filling) for c in tree.children))


def simplify(tree: Tree) -> Tree:
    """The shortest tree of the same meaning: nested stacks are flattened, a stack of one is that one."""
    if isinstance(tree, (Leaf, Slot)):
        return tree
    children = tuple(simplify(child) for child in tree.children)
    if not isinstance(tree, Stack):
        return replace(tree, children=children)
    flat: list[Tree] = []
    for child in children:
        flat.extend(child.children if isinstance(child, Stack) else [child])
    return flat[0] if len(flat) == 1 else Stack(tuple(flat))
