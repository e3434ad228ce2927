"""Several compositions over the same batch: the layers that compute the same under all of them run once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from adapterstilts.encoder.batch import Batch
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import BASE, Leaf, Stack, Tree, leaves, nodes
from adapterstilts.modules.expressions import format_tree
from adapterstilts.modules.methods import families_of, get_method, layers_of, parts_of
from adapterstilts.settings import MethodSettings


@dataclass(frozen=True)
class Branch:
    """A composition of modules that are attached; None is the bare base. ``fusion``: its trained mixtures."""

    tree: Tree | None
    fusion: Mapping[str, Tensor] = field(default_factory=dict)


def branched(
    adapted: Adapted, branches: Sequence[Branch], batch: Batch, stop: int
) -> Iterator[tuple[int, int, Tensor]]:
    """(branch, layer, hidden states (T, d) in fp32) for every branch and layer up to ``stop``.

    The same values as each branch alone gives. Afterwards one of the branches is active.
    """
    level = min(stop, common_level(adapted, branches))
    hidden = None
    if level >= 0:
        _activate(adapted, branches[0])
        for layer, hidden in enumerate(adapted.states(batch, stop=level)):
            yield from ((index, layer, hidden[0].float()) for index in range(len(branches)))
    for index, branch in enumerate(branches):
        if hidden is None or level < stop:
            _activate(adapted, branch)
        if hidden is None:
            yield from ((index, layer, states) for layer, states in enumerate(adapted.layers(batch, stop)))
        elif level < stop:
            above = adapted.states(batch, stop=stop, below=(level, hidden))
            yield from ((index, layer, states[0].float()) for layer, states in enumerate(above, start=level + 1))


def common_level(adapted: Adapted, branches: Sequence[Branch]) -> int:
    """The highest layer whose hidden states are the same in all branches; 0 is the embedding output, -1 none.

    One branch shares everything with itself. What only runs padded shares nothing.
    """
    methods = {name: weights.method for name, weights in adapted.modules.items()}
    used = {name for branch in branches for name in _names(branch.tree)}
    if not adapted.engine.packed or not all(_packs(methods[name]) for name in used):
        return -1
    for level in range(adapted.base.layers + 1):
        if len({_does(branch.tree, methods, level) for branch in branches}) > 1:
            return level - 1
    return adapted.base.layers


def _activate(adapted: Adapted, branch: Branch) -> None:
    if adapted.tree is not branch.tree:
        adapted.activate(branch.tree, fusion=branch.fusion)
        adapted.to(adapted.model.device)
        adapted.train_mode(False)


def _names(tree: Tree | None) -> list[str]:
    return [] if tree is None else leaves(tree)


def _packs(method: MethodSettings) -> bool:
    return all(get_method(part.name).packs for _, part in parts_of(method))


def beneath(adapted: Adapted) -> tuple[int, list[str]]:
    """How many layers lie below the last of the active modules to begin, and what the embeddings and each of them do.

    Modules that begin above the same layers may share these. A weight or a fusion in them ends them; what runs padded
    has none.
    """
    methods = {name: weights.method for name, weights in adapted.modules.items()}
    if adapted.tree is None or not adapted.packed:
        return 0, []
    levels = range(adapted.base.layers + 1)
    last = max(next(level for level in levels if _sits(methods[name], level)) for name in leaves(adapted.tree))
    does: list[str] = []
    for level in range(last):
        here = _here(adapted.tree, methods, level)
        if here and not _plain(adapted.tree):
            break
        does.append(" ".join(here))
    return max(len(does) - 1, 0), does


def _does(tree: Tree | None, methods: Mapping[str, MethodSettings], level: int) -> str:
    """What a composition does between one layer's output and the next one's; equal texts compute the same."""
    if tree is None or tree == BASE:
        return ""
    here = _here(tree, methods, level)
    if not here:
        return ""
    return " ".join(here) if _plain(tree) else format_tree(tree)


def _here(tree: Tree, methods: Mapping[str, MethodSettings], level: int) -> list[str]:
    return [name for name in leaves(tree) if _sits(methods[name], level)]


def _plain(tree: Tree) -> bool:
    """Whether modules act one after the other, each with its own weight."""
    return all(isinstance(node, Stack) or (isinstance(node, Leaf) and node.weight == 1.0) for node in nodes(tree))


def _sits(method: MethodSettings, level: int) -> bool:
    """Whether a module changes the embeddings (0) or the layer that gives hidden state ``level``."""
    for _, part in parts_of(method):
        if "weights" in families_of(part):
            return True
        if part.name.endswith("_inv") if level == 0 else level - 1 in layers_of(part, level):
            return True
    return False
