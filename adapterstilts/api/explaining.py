"""What a composition computes and costs, from names and a config.json alone: nothing is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapterstilts.api.places import module_base
from adapterstilts.encoder.reference import locate
from adapterstilts.errors import DataError, RecipeError, StoreError
from adapterstilts.modules.composition import (
    BASE,
    Fuse,
    Leaf,
    Merge,
    Slot,
    Stack,
    Tree,
    format_tree,
    has_slot,
    leaves,
    map_leaves,
    parse,
    simplify,
)
from adapterstilts.modules.methods import METHODS, get_method, resolve
from adapterstilts.recipe.problems import nearest
from adapterstilts.settings import MethodSettings
from adapterstilts.store import Store

BYTES = 4  # modules are kept in fp32


@dataclass(frozen=True)
class Shape:
    """The numbers of an encoder that decide parameter counts."""

    ref: str
    width: int
    feedforward: int
    layers: int
    vocabulary: int
    positions: int

    @property
    def parameters(self) -> int:
        """Of the frozen encoder without pooler."""
        d, f = self.width, self.feedforward
        layer = 4 * (d * d + d) + (d * f + f) + (f * d + d) + 4 * d
        return (self.vocabulary + self.positions + 1) * d + 2 * d + self.layers * layer


# Published configurations, so that the production bases can be explained without a network.
_PUBLISHED = {
    "FacebookAI/xlm-roberta-base": (768, 3072, 12, 250002, 514),
    "FacebookAI/xlm-roberta-large": (1024, 4096, 24, 250002, 514),
}


def base_shape(ref: str) -> Shape:
    """The shape of a base from its config.json, or of a published one.

    Raises:
        DataError: not there, and not one whose shape is known.
    """
    found = locate(ref)
    if found.directory is None:
        if found.repository in _PUBLISHED:
            return Shape(ref, *_PUBLISHED[str(found.repository)])
        path = _cached_config(str(found.repository), found.revision)
    else:
        path = found.directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")
    try:
        return Shape(ref, *(int(config[name]) for name in names))
    except KeyError as error:
        raise DataError(f"the base has no {error}", where=str(path), why="it is no encoder of the XLM-R kind") from None


def _cached_config(repository: str, revision: str | None) -> Path:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, "config.json", revision=revision)
    if isinstance(path, str):
        return Path(path)
    raise DataError(
        f"the shape of `{repository}` is not known here", why="its config.json is not cached", fix="--base DIR"
    )


# -- parameters -------------------------------------------------------------------------------------------------------


def parameter_count(method: MethodSettings, shape: Shape) -> int | None:
    """Parameters of one module of a resolved method; None for a method whose size is only known when it is built."""
    chosen = method.parameters
    layers = len(chosen["layers"]) if chosen.get("layers") is not None else shape.layers
    d, f = shape.width, shape.feedforward
    sides = {"intermediate": (d, f), "output": (f, d)}  # every other site is d x d
    sites = [(site, *sides.get(site, (d, d))) for site in chosen.get("sites", ())]
    if method.name in ("lora", "rslora", "pissa"):
        return layers * sum(int(chosen["r"]) * (a + b) for _, a, b in sites)
    if method.name == "dora":
        return layers * sum(int(chosen["r"]) * (a + b) + b for _, a, b in sites)
    if method.name == "vera":
        return layers * sum(int(chosen["r"]) + b for _, _, b in sites)
    if method.name == "ia3":
        return layers * sum(a if site in chosen["inputs"] else b for site, a, b in sites)
    if method.name == "prefix_tuning":
        inner, out = int(chosen["inner"]), layers * 2 * d
        return int(chosen["length"]) * d + (d * inner + inner) + (inner * out + out)
    inner = max(1, int(d // chosen["reduction"]))
    places = layers * (1 if method.name in ("seq_bn", "seq_bn_inv", "par_bn") else 2)
    if method.name == "compacter":
        return places * 3 * (d + inner) + int(chosen["dim"]) ** 3
    half = d // 2
    coupled = half // int(chosen["inv_reduction"]) if "inv_reduction" in chosen else 0
    mapped = 2 * (2 * half * coupled + coupled + half) if coupled else 0
    return places * (2 * d * inner + inner + d) + mapped


def stored_bytes(method: MethodSettings, shape: Shape) -> int | None:
    """Bytes of a stored module: what trains, and of PiSSA also where it started."""
    count = parameter_count(method, shape)
    return None if count is None else count * BYTES * (2 if method.name == "pissa" else 1)


# -- formulas ---------------------------------------------------------------------------------------------------------


def delta_formula(tree: Tree, count: list[int] | None = None) -> str:
    """What is added to W x at a linear site."""
    count = [0] if count is None else count
    if isinstance(tree, Leaf):
        return ("" if tree.weight == 1.0 else f"{tree.weight:g} ") + f"Δ_{tree.name} x"
    if isinstance(tree, Slot):
        return f"Δ_{{{tree.name}}} x"
    if isinstance(tree, Stack):
        return " + ".join(delta_formula(child, count) for child in tree.children)
    if isinstance(tree, Fuse):
        count[0] += 1
        gate = _alpha(count[0]) + ("_{}" if tree.how == "weights" else "_{}(x)")
        terms = []
        for number, child in enumerate(tree.children, start=1):
            inner = delta_formula(child, count)
            terms.append(f"{gate.replace('{}', str(number))} " + (f"({inner})" if " + " in inner else inner))
        return " + ".join(terms)
    return _merged(tree, "Δ") + " x"


def bottleneck_formula(tree: Tree, inside: str = "h", count: list[int] | None = None) -> str:
    """What a hidden state h becomes behind a sublayer."""
    count = [0] if count is None else count
    if isinstance(tree, Leaf):
        return f"g_{tree.name}({inside})"
    if isinstance(tree, Slot):
        return f"g_{{{tree.name}}}({inside})"
    if isinstance(tree, Stack):
        for child in tree.children:
            inside = bottleneck_formula(child, inside, count)
        return inside
    if isinstance(tree, Fuse):
        count[0] += 1
        own = _alpha(count[0])
        terms = [bottleneck_formula(child, inside, count) for child in tree.children]
        if tree.how == "attention":
            return f"AdapterFusion({inside}; {', '.join(terms)})"
        argument = "" if tree.how == "weights" else f"({inside})"
        return " + ".join(f"{own}_{number}{argument} {term}" for number, term in enumerate(terms, start=1))
    return f"{_merged(tree, 'g')}({inside})"


def _alpha(number: int) -> str:
    return "α" if number == 1 else f"α{chr(0x2080 + number)}"


def _merged(tree: Merge, symbol: str) -> str:
    return f"{symbol}_{{{format_tree(tree)}}}"


# -- the whole --------------------------------------------------------------------------------------------------------


def explain(expression: str, *, base: str | None = None, store: Store) -> dict[str, Any]:
    """What an expression over modules, or one stored module, computes, trains and costs.

    A leaf is a stored module or a method's name (a fresh module of it). In a stack only the last module trains. In an
    expression of names that are all unknown they stand for any module, and both families' formulas are given.

    Returns:
        {expression, base, families, formulas, modules: [{name, method, family, trains, parameters, bytes}], ...}

    Raises:
        RecipeError: an expression that cannot be read, or a leaf that is neither a module nor a method.
    """
    parsed = simplify(parse(expression))
    if _abstract(parsed, store):
        return _explained_names(parsed)
    tree, methods, stored = _resolved(parsed, store)
    trains = _trained(tree)
    ref = base or (module_base(store, stored) if stored else None)
    shape = base_shape(ref) if ref else None
    rows = []
    for name, method in sorted(methods.items(), key=lambda item: _places(tree).index(item[0])):
        known = get_method(method.name)
        number = parameter_count(method, shape) if shape is not None else None
        row: dict[str, Any] = {"name": name, "method": method.name, "family": known.family, "trains": name in trains}
        row |= {"parameters": number, "bytes": None if shape is None else stored_bytes(method, shape)}
        rows.append(row | {"settings": method.parameters})
    families = sorted({row["family"] for row in rows}, reverse=True)
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


def _places(tree: Tree) -> list[str]:
    """The names of leaves and slots, from the bottom up."""
    if isinstance(tree, (Leaf, Slot)):
        return [tree.name if isinstance(tree, Leaf) else f"{{{tree.name}}}"]
    return [name for child in tree.children for name in _places(child)]


def _abstract(tree: Tree, store: Store) -> bool:
    """Whether an expression names no stored module and no method: then its names stand for any."""
    names = leaves(tree)
    return not isinstance(tree, Leaf) and bool(names) and not any(n in METHODS or n in store.names for n in names)


def _explained_names(tree: Tree) -> dict[str, Any]:
    names = leaves(tree)
    trains = _trained(tree)
    rows = [
        {"name": name, "method": None, "family": None, "trains": name in trains, "parameters": None} for name in names
    ]
    weighted = any(f"*{name}" in format_tree(tree) for name in names)
    formulas = {"delta": f"W x + {delta_formula(tree)}"}
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
        if name in METHODS:
            methods[name] = resolve(MethodSettings(name=name))
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
    found = {}
    for family in ("delta", "bottleneck"):
        part = _of_family(tree, methods, family)
        if part is None:
            continue
        found[family] = f"W x + {delta_formula(part)}" if family == "delta" else bottleneck_formula(part)
    return found


def _of_family(tree: Tree, methods: Mapping[str, MethodSettings], family: str) -> Tree | None:
    """The part of a tree that acts at the places of one family."""
    if isinstance(tree, Leaf):
        return tree if get_method(methods[tree.name].name).family == family else None
    if isinstance(tree, Slot):
        held = methods.get(f"{{{tree.name}}}")
        return tree if held is None or get_method(held.name).family == family else None
    parts = [part for child in tree.children if (part := _of_family(child, methods, family)) is not None]
    if not parts or (all(isinstance(part, Slot) for part in parts) and family == "bottleneck" and leaves(tree)):
        return None
    if isinstance(tree, Stack):
        return simplify(Stack(tuple(parts)))
    return replace(tree, children=tuple(parts))


def _notes(tree: Tree, families: list[str], both: bool = True) -> list[str]:
    notes = []
    if "delta" in families:
        notes.append("W: the frozen map at a linear site; Δ_m: what module m adds there (LoRA: s·B·A)")
    if "bottleneck" in families:
        notes.append("h: the hidden state behind a sublayer; g_m: bottleneck m with its residual")
    if "α" in delta_formula(tree):
        notes.append("α: softmax over the fused modules, trained per layer; the modules stay frozen")
    if isinstance(tree, Stack) and len(tree.children) > 1:
        notes.append("only the last module of a stack trains; a fresh one changes nothing before its first step")
    if has_slot(tree):
        notes.append("{language}: bound when it is used, to each language's own module; default: as in training")
    if both and len(families) > 1:
        notes.append("deltas are summed at their sites, bottlenecks run in order at theirs")
    return notes
