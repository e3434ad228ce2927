"""The one owner of the model: which modules are attached, which count, which train.

Order matters and is fixed here: adapters.init on the bare encoder, then bottlenecks, then peft. After every change
activation and requires_grad are set by us, for all parameters, because both libraries flip them on their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adapterstilts.encoder.base import Base
from adapterstilts.errors import RecipeError
from adapterstilts.modules import bottleneck, delta
from adapterstilts.modules.composition import (
    Fuse,
    Leaf,
    Merge,
    Slot,
    Stack,
    Tree,
    format_tree,
    has_slot,
    leaves,
    simplify,
)
from adapterstilts.modules.execution import Execution
from adapterstilts.modules.fusion import Gate, GateFusion, start_attention
from adapterstilts.modules.kinds import KINDS
from adapterstilts.modules.methods import fuse_problem, get_method, stack_problem
from adapterstilts.settings import EngineSettings, MethodSettings

DEFAULT_ENGINE = EngineSettings()
LIBRARY: Mapping[str, Any] = {"delta": delta, "bottleneck": bottleneck}


@dataclass(frozen=True)
class LeafWeights:
    """One module as trained: its method and its tensors; None for a fresh one."""

    method: MethodSettings
    tensors: Mapping[str, Tensor] | None = None

    @property
    def library(self) -> Any:
        return LIBRARY[get_method(self.method.name).family]


class Adapted(Execution):
    """A frozen base with modules attached and one composition active.

    Args:
        base: the encoder; it is changed in place and must not be used elsewhere.
        modules: leaf name -> weights; every leaf of ``tree`` must be among them.
        tree: what is active; None is the bare base.
        train: names of the leaves whose parameters train.
        fusion: stored mixtures of the tree's fusions; those not stored start even, and train when a leaf does.
        keep_fusion: stored mixtures stay as they are; False trains them too (a module that goes on training).
        seed: initialises fresh modules, each tensor by its own name, whatever the order of calls.
        dropout: inside the modules that train.
        engine: how it runs.

    Raises:
        RecipeError: a composition the families cannot express.
    """

    def __init__(
        self,
        base: Base,
        modules: Mapping[str, LeafWeights],
        tree: Tree | None,
        *,
        train: frozenset[str] = frozenset(),
        fusion: Mapping[str, Tensor] | None = None,
        keep_fusion: bool = True,
        seed: int = 0,
        dropout: float = 0.0,
        engine: EngineSettings = DEFAULT_ENGINE,
    ) -> None:
        self.base = base
        self.model = base.model
        self.modules = dict(modules)
        self.slots = {name: f"m{index}" for index, name in enumerate(modules)}
        self.gates: dict[tuple[str, str], Gate] = {}
        self.engine, self.ways = engine, set()
        self.packs = True
        families = [get_method(weights.method.name).family for weights in modules.values()]
        self.bottlenecks = "bottleneck" in families
        if self.bottlenecks:
            if self.model.dtype != torch.float32:
                raise RecipeError(
                    "a bottleneck on a bf16 base", why="its norms mix precisions", fix="set train.precision: fp32"
                )
            bottleneck.prepare(self.model)
        for family in ("bottleneck", "delta"):
            for name, weights in modules.items():
                if get_method(weights.method.name).family == family:
                    inside = dropout if name in train else 0.0
                    weights.library.inject(self.model, self.slots[name], weights.method, inside)
                    self._fill(name, weights, seed)
        self.activate(tree, train, fusion, keep_fusion)

    def _fill(self, name: str, weights: LeafWeights, seed: int) -> None:
        with torch.no_grad():
            slot = self.slots[name]
            for path, parameter in weights.library.tensors(self.model, slot).items():
                parameter.data = parameter.data.float()
                if weights.tensors is not None:
                    parameter.copy_(weights.tensors[path])
                    continue
                digest = hashlib.sha256(f"{seed}/{path}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
                weights.library.initialise(weights.method, path, parameter, generator)
            if weights.tensors is None:
                weights.library.start(self.model, slot, weights.method)

    def activate(
        self,
        tree: Tree | None,
        train: frozenset[str] = frozenset(),
        fusion: Mapping[str, Tensor] | None = None,
        keep_fusion: bool = True,
    ) -> None:
        """Make this composition count; exactly these leaves, and the fusions that are not stored, train.

        Raises:
            RecipeError: a leaf that is not attached, an open slot, or a composition the families cannot express.
        """
        self.tree = tree
        self.train_names = train
        self.gates = {}
        if tree is not None and has_slot(tree):
            raise RecipeError(
                "a composition with an open {language} slot", why="it is bound when the module is evaluated"
            )
        active = leaves(tree) if tree is not None else []
        for name in active:
            if name not in self.modules:
                raise RecipeError(f"the composition names `{name}`, which is not attached")
        self.packs = all(get_method(self.modules[name].method.name).packs for name in active)
        if any(weights.library is bottleneck for weights in self.modules.values()):
            bottleneck.activate(self.model, self._block(tree))
        if any(weights.library is delta for weights in self.modules.values()):
            self._activate_deltas(tree)
        self.model.requires_grad_(False)
        for name in train:
            for parameter in self.tensors(name).values():
                parameter.requires_grad_(True)
        stored = fusion or {}
        with torch.no_grad():
            for key, parameter in self.fusion_tensors().items():
                if key in stored:
                    parameter.copy_(stored[key])
                parameter.requires_grad_(bool(train) and not (keep_fusion and key in stored))

    # -- composition ------------------------------------------------------------------------------------------------

    def _activate_deltas(self, tree: Tree | None) -> None:
        order = leaves(tree) if tree is not None else []
        present = [name for name in order if self.modules[name].library is delta]
        delta.activate(self.model, [self.slots[name] for name in present])
        plain = all(delta.is_plain(self.modules[name].method) for name in present)
        if present and tree is not None and not (plain and _is_plain_sum(tree)):
            mixing = [f for f in fusions(tree) if any(self.modules[name].library is delta for name in leaves(f))]
            self._make_gates(mixing)
            delta.compose(self.model, lambda path, site, x, wx: self._delta(tree, path, site, x, wx))

    def _delta(self, tree: Tree, path: str, site: delta.Site, x: Tensor, wx: Tensor) -> Any:
        """What a tree adds to W x at one site; 0 where none of its modules sits."""
        if isinstance(tree, Leaf):
            if self.modules[tree.name].library is not delta:
                return 0
            output = site.delta(self.slots[tree.name], KINDS[self.modules[tree.name].method.name], x, wx)
            return 0 if output is None else output if tree.weight == 1.0 else output * tree.weight
        parts = [self._delta(child, path, site, x, wx) for child in _children(tree)]
        if isinstance(tree, Stack):
            return sum(parts)
        if not any(isinstance(part, Tensor) for part in parts):
            return 0
        assert isinstance(tree, Fuse)  # slots are bound and merges made before a tree is activated
        gate = self.gates[fusion_key(tree), path]
        reference = next(part for part in parts if isinstance(part, Tensor))
        return gate.mix(x, [part if isinstance(part, Tensor) else torch.zeros_like(reference) for part in parts])

    def _make_gates(self, found: list[Fuse]) -> None:
        if any(fusion.how == "attention" for fusion in found):
            raise RecipeError(
                "fuse with how=attention over weight deltas", why="AdapterFusion needs bottlenecks", fix="how=gate"
            )
        # Only where one of the modules sits: elsewhere a gate would mix nothing and never learn.
        self.gates = {
            (fusion_key(fusion), path): Gate(0 if fusion.how == "weights" else site.in_features, len(fusion.children))
            for path, layers in delta.sites(self.model).items()
            for site in [delta.Site(layers)]
            for fusion in found
            if any(site.holds(self.slots[name]) for name in leaves(fusion))
        }

    def _block(self, tree: Tree | None) -> Any:
        """The bottleneck part of a tree as a block of the adapters library."""
        if tree is None:
            return None
        if isinstance(tree, Leaf):
            if self.modules[tree.name].library is not bottleneck:
                return None
            if tree.weight != 1.0:
                raise RecipeError(f"`{tree.name}` is a bottleneck and cannot be weighted", why="only deltas can")
            return self.slots[tree.name]
        parts = [part for child in _children(tree) if (part := self._block(child)) is not None]
        if not parts:
            return None
        if not isinstance(tree, Fuse):
            if len(parts) > 1:
                self._check(stack_problem([self.modules[name].method.name for name in _over_each_other(tree)]))
            return bottleneck.stack(parts)
        if any(not isinstance(simplify(child), Leaf) for child in _children(tree)):
            raise RecipeError(
                "a fusion of stacked bottlenecks",
                why="only the top of each stack would be mixed",
                fix="fuse single modules, or merge a stack into one first",
            )
        self._check(fuse_problem([self.modules[name].method.name for name in leaves(tree)]))
        if len(parts) == 1:
            return parts[0]  # a fusion of one is that one, and the library has no such block
        block = bottleneck.fuse(self.model, parts, tree.how)
        for path, layer in bottleneck.fusion_layers(self.model, parts).items():
            if tree.how == "attention":
                start_attention(layer)
            elif not isinstance(layer, GateFusion):
                width = 0 if tree.how == "weights" else self.base.width
                bottleneck.replace_fusion(self.model, parts, path, GateFusion(Gate(width, len(parts))))
        return block

    @staticmethod
    def _check(problem: tuple[str, str, str] | None) -> None:
        if problem is not None:
            what, why, fix = problem
            raise RecipeError(what, why=why, fix=fix)

    # -- parameters -------------------------------------------------------------------------------------------------

    def tensors(self, name: str) -> dict[str, nn.Parameter]:
        """The parameters of one leaf by their stored names."""
        found: dict[str, nn.Parameter] = self.modules[name].library.tensors(self.model, self.slots[name])
        return found

    def fusion_tensors(self) -> dict[str, nn.Parameter]:
        """The parameters of all fusions of the active tree: '<fusion key>/<layer path>/<name>'."""
        if self.tree is None:
            return {}
        found = {
            f"{key}/{path}/{name}": p for (key, path), gate in self.gates.items() for name, p in gate.named_parameters()
        }
        for fusion in fusions(self.tree):
            slots = [self.slots[name] for name in leaves(fusion) if self.modules[name].library is bottleneck]
            for path, layer in bottleneck.fusion_layers(self.model, slots).items() if slots else ():
                found |= {f"{fusion_key(fusion)}/{path}/{name}": value for name, value in layer.named_parameters()}
        return found

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that trains, by a name that is stable across processes."""
        found = {f"{name}/{path}": p for name in sorted(self.train_names) for path, p in self.tensors(name).items()}
        found |= {f"fusion/{name}": p for name, p in self.fusion_tensors().items() if p.requires_grad}
        return found

    def to(self, device: torch.device) -> None:
        """Move the base, its modules and the fusions."""
        self.model.to(device)
        for gate in self.gates.values():
            gate.to(device)

    def train_mode(self, on: bool, *, base_dropout: bool = False) -> None:
        """Dropout of the trained modules (and, if told, of the base) on or off."""
        self.model.train(on and base_dropout)
        if on and not base_dropout:
            for name in self.train_names:
                slot = self.slots[name]
                for path, module in self.model.named_modules():
                    if isinstance(module, nn.Dropout) and slot in path.split("."):
                        module.train(True)


def _children(tree: Tree) -> tuple[Tree, ...]:
    if isinstance(tree, Merge):
        raise RecipeError(
            "a merge inside a live composition", why="merging makes a module first", fix="adapterstilts merge"
        )
    return () if isinstance(tree, (Leaf, Slot)) else tree.children


def _over_each_other(tree: Tree) -> list[str]:
    """The leaves that stand over each other; the modules of a fusion stand side by side and count as one."""
    if isinstance(tree, Fuse):
        return leaves(tree)[:1]
    return [tree.name] if isinstance(tree, Leaf) else [n for child in _children(tree) for n in _over_each_other(child)]


def _is_plain_sum(tree: Tree) -> bool:
    if isinstance(tree, Leaf):
        return tree.weight == 1.0
    return isinstance(tree, Stack) and all(_is_plain_sum(child) for child in tree.children)


def fusions(tree: Tree) -> list[Fuse]:
    """The fusions of a tree, outer before inner."""
    inner = [fusion for child in _children(tree) for fusion in fusions(child)]
    return [tree, *inner] if isinstance(tree, Fuse) else inner


def fusion_key(fusion: Fuse) -> str:
    """Names a fusion by what it mixes, so that its weights find their place in any larger tree."""
    return hashlib.sha256(format_tree(fusion).encode()).hexdigest()[:12]
