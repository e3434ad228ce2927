"""What is known of a module before it exists, and which compositions its family makes impossible."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from adapterstilts.errors import RecipeError
from adapterstilts.modules.composition import (
    Fuse,
    Leaf,
    Merge,
    Slot,
    Stack,
    Tree,
    bind,
    has_slot,
    leaves,
    nodes,
    simplify,
)
from adapterstilts.modules.methods import Family, families_of, fuse_problem, get_method, resolve, rows_of, stack_problem
from adapterstilts.recipe.schema import Arm, ModuleEntry, Recipe
from adapterstilts.settings import MethodSettings
from adapterstilts.tasks.spec import split_task

Shape = Literal["single", "stack", "fuse"]
_CALLED = {"delta": "a weight delta", "bottleneck": "a bottleneck", "weights": "a whole base"}


@dataclass(frozen=True)
class Facts:
    """One module. ``families`` has two members for a stack of both; ``method`` is None when it is not one method.

    ``methods`` are the names of all methods in it, bottom first; ``open``: it has a {language} slot.
    """

    families: frozenset[Family]
    method: MethodSettings | None = None
    shape: Shape = "single"
    tasks: frozenset[str] = frozenset()
    below: frozenset[str] = frozenset()
    methods: tuple[str, ...] = ()
    open: bool = False


def trained(
    method: MethodSettings, on: Tree, tasks: frozenset[str], known: Mapping[str, Facts], filling: str | None = None
) -> Facts:
    """A fresh module of a method on a composition, ``filling`` in its slot."""
    is_open = has_slot(on) or any(known[name].open for name in _names(on) if name in known)
    on = on if filling is None else bind(on, Leaf(filling))
    parts = [known[name] for name in _names(on) if name in known]
    families = families_of(method).union(*(part.families for part in parts))
    below = frozenset(_names(on)).union(*(part.below for part in parts))
    fused = _has_fuse(on) or any(part.shape == "fuse" for part in parts)
    shape: Shape = "fuse" if fused else "single" if on == Stack() else "stack"
    methods = (*_stacked(on, known), *(row.name for row in rows_of(method)))
    return Facts(families, method, shape, tasks, below, methods, is_open)


def merged(tree: Merge, known: Mapping[str, Facts]) -> Facts:
    """The module that a merge makes: one leaf, with the heads that an average shares or that a search used."""
    names = tuple(_names(tree))
    parts = [known[name] for name in names if name in known]
    families = frozenset[Family]().union(*(part.families for part in parts))
    how = tree.how or default_how(names, known)
    low_rank = all("cat" in get_method(name).merges for part in parts for name in part.methods)
    method = parts[0].method if parts and (how == "linear" or not low_rank) else None
    methods = (("lora",) if low_rank else parts[0].methods) if parts else ()
    tasks = frozenset[str]()
    if how == "average" and parts:
        tasks = frozenset.intersection(*(part.tasks for part in parts))
    elif how == "search":
        tasks = frozenset({split_task(str(dict(tree.parameters)["task"]))[0]})
    return Facts(families, method, tasks=tasks, methods=methods)


def default_how(names: tuple[str, ...], known: Mapping[str, Facts]) -> str:
    """``cat``, the exact sum, for low-rank deltas; ``average`` for what has no sum."""
    methods = [method for name in names if name in known for method in known[name].methods]
    sums = all("cat" in get_method(method).merges or not get_method(method).merges for method in methods)
    return "cat" if sums else "average"


def impossible(tree: Tree, known: Mapping[str, Facts], filling: Sequence[str] = ()) -> Iterator[RecipeError]:
    """What in a composition the families cannot express. Modules that are not known are taken as possible.

    Args:
        filling: the modules that can stand in {language}; the composition must be possible with each of them.
    """
    tree = simplify(tree)
    if has_slot(tree):
        found = {str(problem): problem for problem in _impossible_slot(tree, known, filling)}
        for name in filling:
            found |= {str(problem): problem for problem in impossible(bind(tree, Leaf(name)), known)}
        yield from found.values()
        return
    yield from _twice(tree, known)
    problem = None if isinstance(tree, Merge) else stack_problem(_stacked(tree, known))
    if problem is not None:
        yield RecipeError(problem[0], why=problem[1], fix=problem[2])
    for node in nodes(tree):
        if isinstance(node, Leaf) and node.weight != 1.0 and _families(node, known) - {"delta"}:
            (family, *_) = sorted(_families(node, known) - {"delta"})
            yield RecipeError(f"`{node.name}` is {_CALLED[family]} and cannot be weighted", why="only deltas scale")
        elif isinstance(node, Fuse):
            yield from _impossible_fuse(node, known)
        elif isinstance(node, Merge):
            yield from _impossible_merge(node, known)


def _impossible_slot(tree: Tree, known: Mapping[str, Facts], filling: Sequence[str]) -> Iterator[RecipeError]:
    if not filling:
        yield RecipeError(
            "{language} is not bound", why="no module is named for each language", fix="slots: {language: {en: NAME}}"
        )
    slots = sum(isinstance(node, Slot) for node in nodes(tree))
    if slots + sum(known[name].open for name in _names(tree) if name in known) > 1:
        yield RecipeError("{language} stands twice", why="its module would count twice", fix="keep one slot")
    for node in nodes(tree):
        if isinstance(node, (Fuse, Merge)) and has_slot(node):
            what = type(node).__name__.lower()
            why = f"what a {what} makes belongs to the modules that were in it"
            yield RecipeError(f"{{language}} inside {what}", why=why, fix="stack({language}, ...)")


def _impossible_fuse(node: Fuse, known: Mapping[str, Facts]) -> Iterator[RecipeError]:
    yield from _open_inside("fuse", node, known)
    problem = fuse_problem(_methods(node, known), node.how)
    if problem is not None:
        yield RecipeError(problem[0], why=problem[1], fix=problem[2])
    if any(isinstance(child, Leaf) and child.weight != 1.0 for child in node.children):
        yield RecipeError("a weight inside fuse", why="fuse learns its weights", fix="drop the weight, or use stack")


def _impossible_merge(node: Merge, known: Mapping[str, Facts]) -> Iterator[RecipeError]:
    if any(not isinstance(child, Leaf) for child in node.children):
        yield RecipeError("merge of a composition", why="merge takes modules", fix="give the inner part a name first")
        return
    yield from _one_family("merge", node.children, known)
    yield from _open_inside("merge", node, known)
    if node.weights is not None and any(isinstance(child, Leaf) and child.weight != 1.0 for child in node.children):
        yield RecipeError("merge has weights twice", why="before the modules and as weights=[..]", fix="keep one")
    parts = [known[name] for name in _names(node) if name in known]
    names = tuple(_names(node))
    how = node.how or default_how(names, known)
    families = _families(node, known)
    if len(families) != 1:
        return
    if how == "search":
        yield from _impossible_search(node)
    used = list(dict.fromkeys(_methods(node, known)))
    for method in used:
        can = get_method(method).merges
        if not can:
            yield RecipeError(f"a merge of {method}", why="the parts of it cannot be added up", fix="stack or fuse")
        elif how not in can:
            why = f"it can be merged by {', '.join(can)}"
            yield RecipeError(f"{method} cannot be merged by `{how}`", why=why, fix=f"how: {can[0]}")
    if any(part.shape == "fuse" for part in parts):
        yield RecipeError("a merge of a fused module", why="its weights depend on the input", fix="merge its parts")
    if any("cat" not in get_method(method).merges for method in used):
        if any(part.shape == "stack" for part in parts):
            yield RecipeError("an average of stacked modules", why="only single ones have equal places", fix="fuse")
        methods = [part.method for part in parts if part.method is not None]
        if any(method != methods[0] for method in methods):
            yield RecipeError("an average of unequal modules", why="their shapes differ", fix="use one method")
        return
    ranks = {part.method.parameters.get("r") for part in parts if part.method is not None}
    if how == "linear" and len(ranks) > 1:
        yield RecipeError("a linear merge of unequal ranks", why="A and B are added one by one", fix="how: cat")


def _impossible_search(node: Merge) -> Iterator[RecipeError]:
    if node.weights is not None or any(isinstance(child, Leaf) and child.weight != 1.0 for child in node.children):
        yield RecipeError("a search with weights", why="it finds them", fix="drop the weights")


def _open_inside(operator: str, node: Tree, known: Mapping[str, Facts]) -> Iterator[RecipeError]:
    for name in _names(node):
        if name in known and known[name].open:
            yield RecipeError(f"`{name}` inside {operator}", why="its {language} slot is bound later", fix="stack it")


def _one_family(operator: str, children: tuple[Tree, ...], known: Mapping[str, Facts]) -> Iterator[RecipeError]:
    first: dict[Family, str] = {}
    for name in (name for child in children for name in _names(child)):
        for family in known[name].families if name in known else ():
            first.setdefault(family, name)
    if len(first) > 1:
        each = " and ".join(
            f"`{name}` is {_CALLED[family]}" for family, name in sorted(first.items(), key=lambda i: i[1])
        )
        why = f"{each}: they act at different places"
        yield RecipeError(f"{operator} of two families", why=why, fix="stack or fuse them")


def _twice(tree: Tree, known: Mapping[str, Facts]) -> Iterator[RecipeError]:
    seen: dict[str, str] = {}
    for name in _names(tree, each=True):
        for part in (name, *sorted(known[name].below if name in known else ())):
            if part in seen:
                why = f"it is part of `{seen[part]}` and of `{name}`" if seen[part] != name else "it is named twice"
                yield RecipeError(
                    f"`{part}` would count twice", why=why, fix="name each module once; 2*a weights a delta"
                )
                return
            seen[part] = name


def _names(tree: Tree, each: bool = False) -> list[str]:
    names = [node.name for node in nodes(tree) if isinstance(node, Leaf)]
    return names if each else list(dict.fromkeys(names))


def _families(tree: Tree, known: Mapping[str, Facts]) -> frozenset[Family]:
    return frozenset[Family]().union(*(known[name].families for name in _names(tree) if name in known))


def _methods(tree: Tree, known: Mapping[str, Facts]) -> list[str]:
    return [method for name in _names(tree) if name in known for method in known[name].methods]


def _stacked(tree: Tree, known: Mapping[str, Facts]) -> list[str]:
    """The methods of a live tree, bottom first: a merge makes one module of several."""
    if isinstance(tree, Merge):
        return _methods(tree, known)[:1]
    if isinstance(tree, (Stack, Fuse)):
        return [method for child in tree.children for method in _stacked(child, known)]
    return _methods(tree, known)


def _has_fuse(tree: Tree) -> bool:
    return any(isinstance(node, Fuse) for node in nodes(tree))


# -- the modules of a recipe -------------------------------------------------------------------------------------------


def module_facts(recipe: Recipe, used: Mapping[str, Facts] | None = None) -> dict[str, Facts]:
    """What is known of each module of a valid recipe."""
    known: dict[str, Facts] = dict(used or {})
    for name in order(recipe):
        entry = recipe.modules[name]
        if not entry.use:
            known[name] = facts_of(recipe, entry, known)
    return known


def order(recipe: Recipe) -> list[str]:
    """The modules, each after those it needs; members of a circle are left out."""
    done: dict[str, None] = {}
    waiting = dict(recipe.modules)
    while True:
        ready = [name for name, entry in waiting.items() if not set(needs(entry, recipe)) & set(waiting)]
        if not ready:
            return list(done)
        for name in ready:
            del waiting[name]
            done[name] = None


def needs(entry: ModuleEntry | Arm, recipe: Recipe) -> list[str]:
    """The modules that a module or an arm names, those that can fill its slot among them."""
    names = [entry.continue_] if entry.continue_ else []
    names += leaves(entry.on) + (list(recipe.filling.values()) if has_slot(entry.on) else [])
    return [*names, *entry.merge] if isinstance(entry, ModuleEntry) else names


def merge_tree(entry: ModuleEntry) -> Merge:
    """The merge of an entry as a tree."""
    parameters = tuple(sorted(entry.parameters.items()))
    return Merge(tuple(Leaf(name) for name in entry.merge), entry.how, entry.weights, parameters)


def facts_of(recipe: Recipe, entry: ModuleEntry | Arm, known: Mapping[str, Facts]) -> Facts:
    """What is known of a module before it is trained or merged; ``known`` holds the modules it needs."""
    if isinstance(entry, ModuleEntry) and entry.merge:
        return merged(merge_tree(entry), known)
    own = frozenset(split_task(item.task)[0] for item in entry.train)
    if entry.continue_:
        start = known.get(entry.continue_, Facts(frozenset()))
        return replace(start, tasks=own)
    filling = next(iter(recipe.filling.values()), None)
    return trained(resolve(entry.method or recipe.method), entry.on, own, known, filling)
