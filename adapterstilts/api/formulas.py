"""What a composition computes at one place, as text. Modules that do not sit at the place add nothing there."""

from __future__ import annotations

from collections.abc import Callable

from adapterstilts.modules.composition import Fuse, Leaf, Merge, Slot, Stack, Tree
from adapterstilts.modules.expressions import format_tree

Sits = Callable[[str], bool]  # whether the module of a name, or of a slot, is of the family in question


def everywhere(name: str) -> bool:
    """Of modules that may be anything."""
    return True


def delta_formula(tree: Tree, sits: Sits = everywhere) -> str:
    """W x and what is added to it at a linear site."""
    terms = _delta(tree, sits, [0])
    return f"W x + {terms}" if terms else "W x"


def bottleneck_formula(tree: Tree, sits: Sits = everywhere) -> str:
    """What a hidden state h becomes behind a sublayer."""
    return _bottleneck(tree, "h", sits, [0])


def place_name(tree: Leaf | Slot) -> str:
    """How a formula calls a module or a slot."""
    return tree.name if isinstance(tree, Leaf) else f"{{{tree.name}}}"


def _delta(tree: Tree, sits: Sits, count: list[int]) -> str:
    if isinstance(tree, (Leaf, Slot)):
        name = place_name(tree)
        weight = f"{tree.weight:g} " if isinstance(tree, Leaf) and tree.weight != 1.0 else ""
        return f"{weight}Δ_{name} x" if sits(name) else ""
    if isinstance(tree, Merge):
        return f"{_merged(tree, 'Δ')} x" if _sits(tree, sits) else ""
    if isinstance(tree, Stack):
        return " + ".join(filter(None, (_delta(child, sits, count) for child in tree.children)))
    alpha = _alpha(count)
    terms = []
    for number, child in enumerate(tree.children, start=1):
        inner = _delta(child, sits, count)
        argument = "" if tree.how == "weights" else "(x)"
        terms += [f"{alpha}_{number}{argument} " + (f"({inner})" if " + " in inner else inner)] if inner else []
    return " + ".join(terms)


def _bottleneck(tree: Tree, inside: str, sits: Sits, count: list[int]) -> str:
    if isinstance(tree, (Leaf, Slot)):
        name = place_name(tree)
        return f"g_{name}({inside})" if sits(name) else inside
    if isinstance(tree, Merge):
        return f"{_merged(tree, 'g')}({inside})" if _sits(tree, sits) else inside
    if isinstance(tree, Stack):
        for child in tree.children:
            inside = _bottleneck(child, inside, sits, count)
        return inside
    alpha = _alpha(count)
    if not _sits(tree, sits):
        return inside
    terms = [_bottleneck(child, inside, sits, count) for child in tree.children]
    if tree.how == "attention":
        return f"AdapterFusion({inside}; {', '.join(terms)})"
    argument = "" if tree.how == "weights" else f"({inside})"
    return " + ".join(f"{alpha}_{number}{argument} {term}" for number, term in enumerate(terms, start=1))


def _sits(tree: Tree, sits: Sits) -> bool:
    if isinstance(tree, (Leaf, Slot)):
        return sits(place_name(tree))
    return any(_sits(child, sits) for child in tree.children)


def _alpha(count: list[int]) -> str:
    count[0] += 1
    return "α" if count[0] == 1 else f"α{chr(0x2080 + count[0])}"


def _merged(tree: Merge, symbol: str) -> str:
    return f"{symbol}_{{{format_tree(tree)}}}"


def has_mixture(tree: Tree) -> bool:
    """Whether a mixture is in a tree."""
    return isinstance(tree, Fuse) or any(map(has_mixture, getattr(tree, "children", ())))


def weights_formula(tree: Tree, sits: Sits = everywhere) -> str:
    """What stands in the place of the base's own weights θ."""
    names = [name for name in _names(tree) if sits(name)]
    return f"θ := θ_{names[0]}" if names else "θ"


def _names(tree: Tree) -> list[str]:
    if isinstance(tree, (Leaf, Slot)):
        return [place_name(tree)]
    return [name for child in tree.children for name in _names(child)]
