"""What a tree of modules adds at one place: one recursion for both families.

A place is a linear site, where deltas are added to W x, or the end of a sublayer, where bottlenecks are added to h. The
families differ in one thing: a bottleneck reads what those below it have written, a delta reads x whatever is added.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from adapterstilts.errors import RecipeError
from adapterstilts.modules.bottleneck import Sublayer
from adapterstilts.modules.composition import Fuse, Leaf, Merge, Slot, Stack, Tree, leaves
from adapterstilts.modules.delta import Site
from adapterstilts.modules.expressions import format_tree
from adapterstilts.modules.fusion import Mixture, Output, Product
from adapterstilts.modules.kinds import KINDS, PLAIN, Mapped
from adapterstilts.modules.leaf import Part

Added = Tensor | None  # None: nothing of the tree sits here
Parts = Mapping[str, tuple[Part, ...]]  # of each module
Mixtures = Mapping[tuple[str, str], Mixture]  # (fusion key, path of the place) -> its mixture


class Place(Protocol):
    """One place of the encoder during one forward pass."""

    def module(self, name: str, state: Tensor) -> Added:
        """What one module adds when it reads ``state``."""
        ...

    def after(self, state: Tensor, added: Added) -> Tensor:
        """What a module reads above others that have added this."""
        ...

    def at(self, tokens: Tensor) -> Place:
        """The same place for some of the tokens."""
        ...

    def product(self, name: str, state: Tensor) -> Product | None:
        """The same as a product that is not computed yet; None where a module is no plain low-rank map here."""
        ...

    def mix(self, fusion: Fuse, state: Tensor, outputs: Sequence[Output]) -> Tensor:
        """The trained mixture of what the parts of a fusion add."""
        ...


def added(tree: Tree, state: Tensor, place: Place) -> Added:
    """What a tree adds; modules that do not sit here add nothing, and count as zeros in a mixture."""
    if isinstance(tree, Leaf):
        alone = place.module(tree.name, state)
        return alone if alone is None or tree.weight == 1.0 else alone * tree.weight
    if isinstance(tree, Stack):
        total: Added = None
        for child in tree.children:
            total = plus(total, added(child, place.after(state, total), place))
        return total
    assert isinstance(tree, Fuse)  # slots are bound and merges made before a tree is activated
    parts = [_mixed(child, state, place) for child in tree.children]
    reference = next((part for part in parts if part is not None), None)
    if reference is None:
        return None
    width = len(reference.up) if isinstance(reference, Product) else reference.shape[-1]
    like = reference.inner if isinstance(reference, Product) else reference  # fp32, whatever the base is in
    nothing = Product(like.new_zeros(*state.shape[:-1], 0), like.new_zeros(width, 0))
    return place.mix(tree, state, [nothing if part is None else part for part in parts])


@dataclass(frozen=True)
class Shares:
    """Which tokens of a batch belong to which of several compositions; each token to one."""

    places: tuple[Tensor, ...]
    order: Tensor  # all of them, one composition after the other
    back: Tensor  # where each token is in that order

    @classmethod
    def of(cls, places: Sequence[Tensor]) -> Shares:
        order = torch.cat(list(places))
        return cls(tuple(places), order, torch.argsort(order))


def added_apart(trees: Sequence[Tree], shares: Shares, state: Tensor, place: Place) -> Added:
    """What several trees add to (1, T, d), each to tokens of its own."""
    counts = [len(places) for places in shares.places]
    own = torch.split(reordered(state, shares.order, shares.back), counts, 1)
    found = [
        added(tree, part, place.at(places)) if len(places) else None
        for tree, part, places in zip(trees, own, shares.places, strict=True)
    ]
    like = next((one for one in found if one is not None), None)
    if like is None:
        return None
    whole = [
        like.new_zeros(*part.shape[:-1], like.shape[-1]) if one is None else one
        for one, part in zip(found, own, strict=True)
    ]
    return reordered(torch.cat(whole, 1), shares.back, shares.order)


def reordered(state: Tensor, order: Tensor, back: Tensor) -> Tensor:
    """The tokens of (1, T, d) in another order, which ``back`` undoes."""
    found: Tensor = _Reordered.apply(state, order, back)  # type: ignore[no-untyped-call]
    return found


class _Reordered(torch.autograd.Function):
    """Its gradient is one copy, that of an index one addition for each token."""

    @staticmethod
    def forward(ctx: Any, state: Tensor, order: Tensor, back: Tensor) -> Tensor:
        ctx.back = back
        return state.index_select(1, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(1, ctx.back), None, None


def _mixed(tree: Tree, state: Tensor, place: Place) -> Output | None:
    """What a part of a fusion adds, as a product where it is one."""
    product = place.product(tree.name, state) if isinstance(tree, Leaf) else None
    if product is None:
        return added(tree, state, place)
    assert isinstance(tree, Leaf)
    return product if tree.weight == 1.0 else product.times(tree.weight)


def plus(one: Added, two: Added) -> Added:
    """The sum of what is there."""
    if one is None or two is None:
        return two if one is None else one
    return one + two


@dataclass(frozen=True)
class Linear:
    """A linear site: deltas read x, whatever stands below them."""

    site: Site
    parts: Parts
    mixtures: Mixtures
    path: str
    base: Mapped  # W x

    def at(self, tokens: Tensor) -> Linear:
        return replace(self, base=lambda: self.base().index_select(1, tokens))

    def module(self, name: str, state: Tensor) -> Added:
        total: Added = None
        for part in self.parts[name]:
            if part.family == "delta":
                total = plus(total, self.site.delta(part.slot, KINDS[part.method.name], state, self.base))
        return total

    def product(self, name: str, state: Tensor) -> Product | None:
        deltas = [part for part in self.parts[name] if part.family == "delta"]
        if len(deltas) != 1 or deltas[0].method.name not in PLAIN:
            return None
        return self.site.product(deltas[0].slot, state)

    def after(self, state: Tensor, added: Added) -> Tensor:
        return state

    def mix(self, fusion: Fuse, state: Tensor, outputs: Sequence[Output]) -> Tensor:
        return self.mixtures[fusion_key(fusion), self.path].mix(state, outputs)


@dataclass(frozen=True)
class End:
    """The end of a sublayer: bottlenecks read h with what those below them have added."""

    sublayer: Sublayer
    parts: Parts
    mixtures: Mixtures
    path: str

    def at(self, tokens: Tensor) -> End:
        return replace(self, sublayer=self.sublayer.at(tokens))

    def module(self, name: str, state: Tensor) -> Added:
        total: Added = None
        for slot in self._slots(name):
            total = plus(total, self.sublayer.added(slot, self.after(state, total)))
        return total

    def product(self, name: str, state: Tensor) -> Product | None:
        slots = self._slots(name)
        return self.sublayer.product(slots[0], state) if len(slots) == 1 else None

    def after(self, state: Tensor, added: Added) -> Tensor:
        return state if added is None else state + added

    def mix(self, fusion: Fuse, state: Tensor, outputs: Sequence[Output]) -> Tensor:
        # The mixture reads what the last module that sits here reads, as AdapterFusion does.
        last = [slot for name in leaves(fusion) for slot in self._slots(name)][-1]
        mixture = self.mixtures[fusion_key(fusion), self.path]
        return mixture.mix(self.sublayer.reads(last, state), outputs)

    def _slots(self, name: str) -> list[str]:
        slots = [part.slot for part in self.parts[name] if part.family == "bottleneck"]
        return [slot for slot in slots if self.sublayer.holds(slot)]


# -- fusions of a tree ------------------------------------------------------------------------------------------------


def children(tree: Tree) -> tuple[Tree, ...]:
    """The children of a live tree.

    Raises:
        RecipeError: a merge, which makes a module first.
    """
    if isinstance(tree, Merge):
        raise RecipeError(
            "a merge inside a live composition", why="merging makes a module first", fix="adapterstilts merge"
        )
    return () if isinstance(tree, (Leaf, Slot)) else tree.children


def fusions(tree: Tree) -> list[Fuse]:
    """The fusions of a tree, outer before inner."""
    inner = [fusion for child in children(tree) for fusion in fusions(child)]
    return [tree, *inner] if isinstance(tree, Fuse) else inner


def fusion_key(fusion: Fuse) -> str:
    """Names a fusion by what it mixes, so that its weights find their place in any larger tree."""
    return hashlib.sha256(format_tree(fusion).encode()).hexdigest()[:12]


def is_plain_sum(tree: Tree) -> bool:
    """Whether a tree is a sum without weights."""
    if isinstance(tree, Leaf):
        return tree.weight == 1.0
    return isinstance(tree, Stack) and all(is_plain_sum(child) for child in tree.children)
