"""What a composition computes and costs, from names and a config.json alone: nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from adapterstilts.api.formulas import bottleneck_formula, delta_formula, has_mixture, weights_formula
from adapterstilts.api.places import module_base
from adapterstilts.errors import RecipeError, StoreError
from adapterstilts.modules.composition import (
    BASE,
    Leaf,
    Slot,
    Stack,
    Tree,
    bind,
    has_slot,
    leaves,
    map_leaves,
    simplify,
)
from adapterstilts.modules.expressions import format_tree, parse
from adapterstilts.modules.methods import METHODS, families_of, method_named, parts_of
from adapterstilts.modules.sizes import base_shape, parameter_count, stored_bytes
from adapterstilts.plan.used import stored_facts
from adapterstilts.recipe.facts import impossible
from adapterstilts.recipe.facts import trained as fresh_facts
from adapterstilts.recipe.problems import nearest
from adapterstilts.settings import MethodSettings
from adapterstilts.store import Store

FAMILIES = {"weights": weights_formula, "delta": delta_formula, "bottleneck": bottleneck_formula}


def explain(expression: str, *, base: str | None = None, store: Store) -> dict[str, Any]:
    """What an expression over modules, or one stored module, computes, trains and costs.

    A leaf is a stored module or a method's name (a fresh module of it). In a stack only the last module trains. In an
    expression of names that are all unknown they stand for any module, and both families' formulas are given.

    Returns:
        {expression, base, families, formulas, modules: [{name, method, family, trains, parameters, bytes}], ...}

    Raises:
        RecipeError: an expression that cannot be read, a leaf that is neither a module nor a method, or a composition
            that planning refuses, for the same reason.
    """
    parsed = simplify(parse(expression))
    if _abstract(parsed, store):
        return _explained_names(parsed)
    tree, methods, stored = _resolved(parsed, store)
    _check(parsed, store)
    trains = _trained(tree)
    ref = base or (module_base(store, stored) if stored else None)
    shape = base_shape(ref) if ref else None
    rows = []
    for name, method in sorted(methods.items(), key=lambda item: _places(tree).index(item[0])):
        number = parameter_count(method, shape) if shape is not None else None
        called = "+".join(part.name for _, part in parts_of(method))
        row: dict[str, Any] = {"name": name, "method": called, "family": " and ".join(_families(method))}
        row["trains"] = name in trains
        row |= {"parameters": number, "bytes": None if shape is None else stored_bytes(method, shape)}
        rows.append(row | {"settings": method.parameters})
    families = [family for family in FAMILIES if any(family in families_of(method) for method in methods.values())]
    return {
        "schema_version": 1,
        "expression": format_tree(tree),
        "base": None if shape is None else {"name": shape.ref, "parameters": shape.parameters, "layers": shape.layers},
        "families": families,
        "formulas": _formulas(tree, methods),
        "modules": rows,
        "trainable": sum(row["parameters"] or 0 for row in rows if row["trains"]) if shape is not None else None,
        "notes": _notes(tree, families),
    }


def _check(tree: Tree, store: Store) -> None:
    """Raise what planning would say of the composition; a slot is taken as filled."""
    known = {}
    for name in leaves(tree):
        method = method_named(name)
        known[name] = (
            stored_facts(store, store.resolve(name)) if method is None else fresh_facts(method, BASE, frozenset(), {})
        )
    for problem in impossible(bind(tree, BASE), known):
        raise problem


def _families(method: MethodSettings) -> list[str]:
    return [family for family in FAMILIES if family in families_of(method)]


def _places(tree: Tree) -> list[str]:
    """The names of leaves and slots, from the bottom up."""
    if isinstance(tree, (Leaf, Slot)):
        return [tree.name if isinstance(tree, Leaf) else f"{{{tree.name}}}"]
    return [name for child in tree.children for name in _places(child)]


def _abstract(tree: Tree, store: Store) -> bool:
    """Whether an expression names no stored module and no method: then its names stand for any."""
    names = leaves(tree)
    return not isinstance(tree, Leaf) and bool(names) and not any(method_named(n) or n in store.names for n in names)


def _explained_names(tree: Tree) -> dict[str, Any]:
    names = leaves(tree)
    trains = _trained(tree)
    rows = [
        {"name": name, "method": None, "family": None, "trains": name in trains, "parameters": None} for name in names
    ]
    weighted = any(f"*{name}" in format_tree(tree) for name in names)
    formulas = {"delta": delta_formula(tree)}
    formulas |= {} if weighted else {"bottleneck": bottleneck_formula(tree)}
    return {
        "schema_version": 1,
        "expression": format_tree(tree),
        "base": None,
        "families": ["delta", "bottleneck"],
        "formulas": formulas,
        "modules": [{**row, "bytes": None, "settings": {}} for row in rows],
        "trainable": None,
        "notes": [
            f"{', '.join(names)}: not in the store, so any modules of one family",
            *_notes(tree, ["delta", "bottleneck"], both=False),
        ],
    }


def _resolved(tree: Tree, store: Store) -> tuple[Tree, dict[str, MethodSettings], list[str]]:
    """The tree down to single modules, their methods, and the stored modules that were named."""
    methods: dict[str, MethodSettings] = {}
    stored: list[str] = []

    def open_leaf(leaf: Leaf) -> Tree:
        name = leaf.name
        named = method_named(name)
        if named is not None:
            methods[name] = named
            return leaf
        try:
            hash = store.resolve(name)
        except StoreError:
            raise _unknown(name, store) from None
        stored.append(name)
        inner, inner_methods = _stored(name, hash, store)
        methods.update(inner_methods)
        return inner if leaf.weight == 1.0 else map_leaves(inner, lambda one: Leaf(one.name, one.weight * leaf.weight))

    return simplify(map_leaves(tree, open_leaf)), methods, stored


def _stored(name: str, hash: str, store: Store) -> tuple[Tree, dict[str, MethodSettings]]:
    """A stored module as a tree of names people know: the last leaf carries the module's own name."""
    module_base(store, [name])
    plain = json.loads((store.path(hash) / "module.json").read_text(encoding="utf-8"))
    known = _leaf_names(store)
    names = {leaf: name if leaf == plain["trained"] else known.get(leaf, leaf[:10]) for leaf in plain["leaves"]}
    tree = parse(plain["tree"])
    settings = {leaf: MethodSettings.model_validate(method) for leaf, method in plain["leaves"].items()}
    methods = {names[leaf]: settings[leaf] for leaf in leaves(tree)}
    for slot, filling in plain.get("slots", {}).items():
        methods[f"{{{slot}}}"] = settings[leaves(parse(filling))[-1]]  # what stood there in training, and its size
    return map_leaves(tree, lambda leaf: Leaf(names[leaf.name], leaf.weight)), methods


def _leaf_names(store: Store) -> dict[str, str]:
    """Leaf id -> the name of the module that trained it."""
    found: dict[str, str] = {}
    for name, hash in store.names.items():
        path = store.path(hash) / "module.json" if store.has(hash) else None
        if path is not None and path.is_file():
            found.setdefault(json.loads(path.read_text(encoding="utf-8"))["trained"], name)
    return found


def _unknown(name: str, store: Store) -> RecipeError:
    known = [*store.names, *METHODS]
    return RecipeError(
        f"`{name}` is neither a module of the store nor a method",
        why=f"modules: {', '.join(store.names) or 'none'}; methods: {', '.join(METHODS)}",
        fix=nearest(name, known, "adapterstilts ls modules"),
    )


def _trained(tree: Tree) -> set[str]:
    """The names whose parameters train when this is trained: the last of a stack, all that stands alone."""
    if isinstance(tree, Leaf):
        return {tree.name}
    if isinstance(tree, Stack) and tree.children:
        return _trained(tree.children[-1]) if isinstance(tree.children[-1], Leaf) else set()
    return set()


def _formulas(tree: Tree, methods: Mapping[str, MethodSettings]) -> dict[str, str]:
    if tree == BASE:
        return {"delta": "W x", "bottleneck": "h"}
    found: dict[str, str] = {}
    for family, formula in FAMILIES.items():

        def sits(name: str, family: str = family) -> bool:
            return name not in methods or family in families_of(methods[name])

        if any(family in families_of(method) for method in methods.values()):
            found[family] = formula(tree, sits)
    return found


def _notes(tree: Tree, families: list[str], both: bool = True) -> list[str]:
    notes = []
    if "weights" in families:
        notes.append("θ: all of the base's own weights; kept bit by bit as what changed, as large as the base")
        notes.append("training them holds 16 bytes a parameter (weights, gradient, two moments), not only their 4")
    if "delta" in families:
        notes.append("W: the frozen map at a linear site; Δ_m: what module m adds there (LoRA: s·B·A)")
    if "bottleneck" in families:
        notes.append("h: the hidden state behind a sublayer; g_m: bottleneck m with its residual")
    if has_mixture(tree):
        notes.append("α: softmax over the fused modules, trained per layer; the modules stay frozen")
    if isinstance(tree, Stack) and len(tree.children) > 1:
        notes.append("only the last module of a stack trains; a fresh one changes nothing before its first step")
    if has_slot(tree):
        notes.append("{language}: bound when it is used, to each language's own module; default: as in training")
    if both and len(families) > 1:
        notes.append("deltas are summed at their sites, bottlenecks run in order at theirs")
    return notes
