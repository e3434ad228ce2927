"""What training starts from: a fresh leaf over a frozen composition, or a module that trains on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterstilts.errors import RecipeError
from adapterstilts.modules.artifact import Module, read_module
from adapterstilts.modules.composition import Leaf, Stack, Tree, bind, has_slot, leaves, map_leaves, scaled, simplify
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import resolve
from adapterstilts.stages.specs import TrainSpec

SELF = "self"  # the new leaf, until its weights give it an id


@dataclass(frozen=True)
class Start:
    """What training starts from."""

    tree: Tree
    trained: str
    weights: Mapping[str, LeafWeights]
    fusion: Mapping[str, Tensor]
    heads: Module | None  # the continued module, whose heads and fusions go on training
    places: Mapping[str, Path]  # leaf id -> its directory
    shape: Tree | None = None  # the tree with its {language} slot open, and what fills it in training
    filling: Tree | None = None

    def called(self, name: str) -> Start:
        """The same with another name for the leaf that trains; its weights say what it is called in the end."""

        def named(tree: Tree) -> Tree:
            return map_leaves(tree, lambda leaf: Leaf(name, leaf.weight) if leaf.name == self.trained else leaf)

        weights = {name if leaf == self.trained else leaf: kept for leaf, kept in self.weights.items()}
        shape = None if self.shape is None else named(self.shape)
        return replace(self, tree=named(self.tree), trained=name, weights=weights, shape=shape)


def read_start(spec: TrainSpec, parents: Mapping[str, Path]) -> Start:
    """What a training stage starts from.

    Raises:
        RecipeError: it says neither a method nor a module, or has no module for its slot.
    """

    def read(role: str) -> Module:
        return read_module(parents[role], base=spec.base.fingerprint)

    chosen = [] if spec.filling is None else [read("bind:language")]
    if spec.start is not None:
        module = read("start")
        used = [*chosen, module]
        own = Start(module.tree, module.trained, _weights(used), module.fusion(), module, _places(used))
        return _filled(own, chosen, used)
    if spec.method is None:
        raise RecipeError("a training stage needs a method or a module to continue from")
    fresh = LeafWeights(resolve(spec.method))
    if spec.below is None:
        return Start(Leaf(SELF), SELF, {SELF: fresh}, {}, None, {})
    expression = parse(spec.below)
    modules = {name: read(f"module:{name}") for name in leaves(expression)}
    below = map_leaves(expression, lambda leaf: scaled(modules[leaf.name].tree, leaf.weight))
    used = [*chosen, *modules.values()]
    fusion = {key: tensor for module in used for key, tensor in module.fusion().items()}
    tree = simplify(Stack((below, Leaf(SELF))))
    return _filled(Start(tree, SELF, {**_weights(used), SELF: fresh}, fusion, None, _places(used)), chosen, used)


def _weights(modules: Iterable[Module]) -> dict[str, LeafWeights]:
    return {name: leaf for module in modules for name, leaf in module.weights().items()}


def _filled(start: Start, chosen: Sequence[Module], used: Sequence[Module]) -> Start:
    """The start with its {language} slot, if it has one, filled by the module chosen for that, or as in a parent."""
    if not has_slot(start.tree):
        return start
    inherited = next((module.filling for module in used if module.filling is not None), None)
    filling = chosen[0].bound() if chosen else inherited
    if filling is None:
        raise RecipeError("a {language} slot without a module for the training language", fix="slots: {language: ...}")
    tree = simplify(bind(start.tree, filling))
    weights = {name: start.weights[name] for name in leaves(tree)}
    return replace(start, tree=tree, weights=weights, shape=start.tree, filling=filling)


def _places(modules: Any) -> dict[str, Path]:
    return {leaf: module.directory / "leaves" / leaf for module in modules for leaf in leaves(module.bound())}
