"""The one owner of the model: which modules are attached, which count, which train.

Order matters and is fixed here: adapters.init on the bare encoder, then bottlenecks, then peft. After every change
activation and requires_grad are set by us, for all parameters, because both libraries flip them on their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterstilts.encoder.base import Base
from adapterstilts.encoder.batch import Batch, joined
from adapterstilts.encoder.precision import DTYPES
from adapterstilts.errors import RecipeError
from adapterstilts.modules import bottleneck, delta, full
from adapterstilts.modules.budget import Budget
from adapterstilts.modules.composition import Leaf, Stack, Tree, has_slot, leaves
from adapterstilts.modules.execution import Execution
from adapterstilts.modules.expressions import format_tree
from adapterstilts.modules.forward import (
    Added,
    End,
    Linear,
    Place,
    Shares,
    added,
    added_apart,
    children,
    fusion_key,
    fusions,
    is_plain_sum,
)
from adapterstilts.modules.fusion import Mixture, make_mixture
from adapterstilts.modules.kinds import Mapped
from adapterstilts.modules.leaf import LIBRARY, LeafWeights, Part, attached, stored
from adapterstilts.modules.methods import Family, apart_problem, fuse_problem, get_method, stack_problem
from adapterstilts.settings import EngineSettings

DEFAULT_ENGINE = EngineSettings()
EVEN = 1e-4  # largest parameter of a mixture that has not moved


class Adapted(Execution):
    """A frozen base with modules attached and one composition active.

    Args:
        base: the encoder; it is changed in place and must not be used elsewhere.
        modules: leaf name -> weights; every leaf of ``tree`` must be among them.
        tree: what is active; None is the bare base.
        train: names of the leaves whose parameters train.
        fusion: stored mixtures of the tree's fusions; those not stored start even, and train when a leaf does.
        keep_fusion: stored mixtures stay as they are; False trains them too (a module that goes on training).
        seed: initialises fresh modules, each tensor by its own name, whatever the order of calls; or one for each leaf.
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
        seed: int | Mapping[str, int] = 0,
        dropout: float = 0.0,
        engine: EngineSettings = DEFAULT_ENGINE,
    ) -> None:
        self.base = base
        self.model = base.model
        self.modules = dict(modules)
        self.engine, self.ways = engine, set()
        self.lean = not engine.recompute
        self.parts = {
            name: attached(weights.method, f"m{index}") for index, (name, weights) in enumerate(modules.items())
        }
        self.mixtures: dict[tuple[str, str], Mixture] = {}
        self.apart: tuple[Tree, ...] = ()  # compositions that each count for tokens of their own
        self.shares: dict[int, Shares] = {}  # theirs while a batch runs: of all tokens, of the rows' first
        self.packs = True
        families = {part.family for parts in self.parts.values() for part in parts}
        self.whole = "weights" in families
        self.bottlenecks = "bottleneck" in families
        if self.whole:
            full.prepare(self.model)
        if self.bottlenecks:
            bottleneck.prepare(self.model)
        for family in LIBRARY:
            for name, weights in modules.items():
                for part in self._parts(name, family):
                    part.library.inject(self.model, part.slot, part.method, dropout if name in train else 0.0)
                    self._fill(part, weights.of_part(part.key), seed if isinstance(seed, int) else seed.get(name, 0))
            if family == "weights" and self.whole:
                self._replace(tree)  # what starts from W starts from this one
        # Walks over a model with fifty modules take longer than all else that activating does.
        self.sites = delta.sites(self.model)
        self.sublayers = bottleneck.sublayers(self.model) if self.bottlenecks else {}
        held = [*self.model.parameters(), *(full.everything(self.model) if self.whole else ())]
        self.parameters = tuple({id(parameter): parameter for parameter in held}.values())
        self.activate(tree, train, fusion, keep_fusion)

    def _parts(self, name: str, family: Family) -> list[Part]:
        return [part for part in self.parts[name] if part.family == family]

    def _fill(self, part: Part, tensors: Mapping[str, Tensor] | None, seed: int) -> None:
        with torch.no_grad():
            for path, parameter in part.library.tensors(self.model, part.slot).items():
                parameter.data = parameter.data.float()
                if tensors is not None:
                    part.library.fill(parameter, tensors[path])
                    continue
                digest = hashlib.sha256(f"{seed}/{part.full(path)}".encode()).digest()
                generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
                part.library.initialise(part.method, path, parameter, generator)
            if tensors is None:
                part.library.start(self.model, part.slot, part.method)

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
        self.tree, self.apart = tree, ()
        self.train_names = train
        if tree is not None and has_slot(tree):
            raise RecipeError(
                "a composition with an open {language} slot", why="it is bound when the module is evaluated"
            )
        active = leaves(tree) if tree is not None else []
        for name in active:
            if name not in self.modules:
                raise RecipeError(f"the composition names `{name}`, which is not attached")
        parts = [part for name in active for part in self.parts[name]]
        self.packs = all(get_method(part.method.name).packs for part in parts)
        self._check(tree)
        self._compose(tree, parts)
        for parameter in self.parameters:
            parameter.requires_grad_(False)
        for name in train:
            for parameter in self.tensors(name).values():
                parameter.requires_grad_(True)
        kept = fusion or {}
        with torch.no_grad():
            for key, parameter in self.fusion_tensors().items():
                if key in kept:
                    parameter.copy_(kept[key])
                parameter.requires_grad_(bool(train) and not (keep_fusion and key in kept))

    def activate_apart(
        self, trees: Sequence[Tree], fusion: Mapping[str, Tensor] | None = None, train: frozenset[str] = frozenset()
    ) -> None:
        """Make several compositions count, each for tokens of its own (``encode_apart``, ``logits_apart``).

        Raises:
            RecipeError: as of ``activate``, and for what does not act on single tokens (``apart_problem``).
        """
        problem = apart_problem(name for tree in trees for name in self._methods(tree))
        if problem is not None:
            what, why, fix = problem
            raise RecipeError(what, why=why, fix=fix)
        self.activate(Stack(tuple(trees)), train, fusion)
        self.apart = tuple(trees)
        delta.compose(self.sites, self._at_site, lean=self.lean)

    def encode_apart(self, batch: Batch, tokens: Sequence[Tensor]) -> Tensor:
        """(T, d) as of ``encode``: ``tokens`` are the places of those of each active composition."""
        self.shares = {len(batch.ids): Shares.of(tokens)}
        try:
            return self.encode(batch)
        finally:
            self.shares = {}

    def logits_apart(self, heads: Sequence[Any], batches: Sequence[Batch | None]) -> list[tuple[int, Tensor]]:
        """What heads say of their own batches, all in one pass: each batch belongs to the composition of its place.

        Returns:
            (place, logits) of those that have a batch.
        """
        there = [(place, own) for place, own in enumerate(batches) if own is not None]
        batch, tokens = joined([own for _, own in there])
        firsts = self.engine.first_only and all(heads[place].reads_first for place, _ in there)
        counts = [len(own.starts) for _, own in there]
        rows = torch.split(torch.arange(len(batch.starts), device=batch.ids.device), counts)
        nothing = rows[0][:0]
        self.shares = {}
        for found in (tokens, rows) if firsts else (tokens,):
            given = dict(zip((place for place, _ in there), found, strict=True))
            whole = Shares.of([given.get(place, nothing) for place in range(len(batches))])
            self.shares[len(whole.order)] = whole
        try:
            states = self.encode_firsts(batch) if firsts else self.encode(batch)
        finally:
            self.shares = {}
        own_states = torch.split(states, counts) if firsts else [states[own] for own in tokens]
        pairs = zip(there, own_states, strict=True)
        return [(place, heads[place](part, own.firsts() if firsts else own)) for (place, own), part in pairs]

    # -- composition ------------------------------------------------------------------------------------------------

    def _check(self, tree: Tree | None) -> None:
        if tree is None:
            return
        problems = [stack_problem(self._methods(tree))]
        problems += [fuse_problem(self._methods(fusion), fusion.how) for fusion in fusions(tree)]
        for what, why, fix in filter(None, problems):
            raise RecipeError(what, why=why, fix=fix)
        for leaf in _weighted(tree):
            for part in self.parts[leaf.name]:
                if part.family != "delta":
                    called = f"`{leaf.name}` is a {part.method.name} and cannot be weighted"
                    raise RecipeError(called, why="only deltas can")

    def _methods(self, tree: Tree) -> list[str]:
        return [part.method.name for name in leaves(tree) for part in self.parts[name]]

    def _replace(self, tree: Tree | None) -> None:
        names = leaves(tree) if tree is not None else []
        full.activate(self.model, [part.slot for name in names for part in self._parts(name, "weights")])

    def _compose(self, tree: Tree | None, parts: list[Part]) -> None:
        """Put the tree into the forward pass of every place, and its mixtures beside."""
        self.mixtures = {}
        if self.whole:
            self._replace(tree)
        if self.bottlenecks:
            bottleneck.activate(self.model, [part.slot for part in parts if part.family == "bottleneck"])
            bottleneck.compose(self.sublayers, self._at_end, lean=self.lean)
            for path, layer in self.sublayers.items():
                self._mix(path, self.base.width, layer.adapters)
        deltas = [part for part in parts if part.family == "delta"]
        delta.activate(self.sites, [part.slot for part in deltas])
        full_precision = DTYPES[self.base.precision] == torch.float32  # else what peft raises is kept raised
        plain = full_precision and all(delta.is_plain(part.method) for part in deltas)
        if deltas and tree is not None and not (plain and is_plain_sum(tree)):
            delta.compose(self.sites, self._at_site, lean=self.lean)
            for path, layers in self.sites.items():
                site = delta.Site(layers)
                self._mix(path, site.in_features, {part.slot for part in deltas if site.holds(part.slot)})

    def _mix(self, path: str, width: int, held: Collection[str]) -> None:
        # Only where one of the modules sits: elsewhere a mixture would mix nothing and never learn.
        for fusion in fusions(self.tree) if self.tree is not None else ():
            if any(part.slot in held for name in leaves(fusion) for part in self.parts[name]):
                key = fusion_key(fusion), path
                self.mixtures[key] = make_mixture(fusion.how, width, len(fusion.children))

    def _at_site(self, path: str, site: delta.Site, x: Tensor, base: Mapped) -> Added:
        return self._added(x, Linear(site, self.parts, self.mixtures, path, base))

    def _at_end(self, path: str, sublayer: bottleneck.Sublayer, state: Tensor) -> Added:
        return self._added(state, End(sublayer, self.parts, self.mixtures, path))

    def _added(self, state: Tensor, place: Place) -> Added:
        if self.apart:
            return added_apart(self.apart, self.shares[state.shape[1]], state, place)
        return None if self.tree is None else added(self.tree, state, place)

    # -- parameters -------------------------------------------------------------------------------------------------

    def tensors(self, name: str) -> dict[str, nn.Parameter]:
        """The parameters of one leaf by their stored names."""
        return {path: p for part in self.parts[name] for path, p in part.tensors(self.model).items()}

    def stored(self, name: str) -> LeafWeights:
        """One leaf as it is kept on disk."""
        return stored(self.model, self.parts[name])

    def fusion_tensors(self) -> dict[str, nn.Parameter]:
        """The parameters of all fusions of the active tree: '<fusion key>/<path of the place>/<name>'."""
        return {
            f"{key}/{path}/{name}": parameter
            for (key, path), mixture in self.mixtures.items()
            for name, parameter in mixture.named_parameters()
        }

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every parameter that trains, by a name that is stable across processes."""
        found = {f"{name}/{path}": p for name in sorted(self.train_names) for path, p in self.tensors(name).items()}
        found |= {f"fusion/{name}": p for name, p in self.fusion_tensors().items() if p.requires_grad}
        return found

    def budget(self, steps: int) -> Budget | None:
        """The rank budget of the module that trains for so many updates, if its method has one.

        Raises:
            StageFailed: too few updates.
        """
        for name in self.train_names:
            for part in self.parts[name]:
                if part.method.name == "adalora":
                    return Budget(part.method, part.library.tensors(self.model, part.slot), steps)
        return None

    def penalty(self) -> Tensor | None:
        """What the mixtures that train add to the loss; None: nothing."""
        training = [mixture for mixture in self.mixtures.values() if next(mixture.parameters()).requires_grad]
        found = [penalty for mixture in training if (penalty := mixture.penalty()) is not None]
        return torch.stack(found).sum() if found else None

    def even_fusions(self) -> list[str]:
        """The fusions that train and whose mixtures are still where they started."""
        training = {key: m for key, m in self.mixtures.items() if next(m.parameters()).requires_grad}
        moved = {key for (key, _), mixture in training.items() if mixture.unevenness() > EVEN}
        still = {key for key, _ in training} - moved
        return [format_tree(f) for f in fusions(self.tree) if fusion_key(f) in still] if self.tree is not None else []

    def to(self, device: torch.device) -> None:
        """Move the base, its modules and the fusions."""
        self.model.to(device)
        for parameter in full.everything(self.model) if self.whole else ():
            parameter.data = parameter.data.to(device)
        for mixture in self.mixtures.values():
            mixture.to(device)

    def train_mode(self, on: bool, *, base_dropout: bool = False) -> None:
        """Dropout of the trained modules (and, if told, of the base) on or off."""
        self.model.train(on and base_dropout)
        if on and not base_dropout:
            trained = {part.slot for name in self.train_names for part in self.parts[name]}
            for path, module in self.model.named_modules():
                if isinstance(module, nn.Dropout) and not trained.isdisjoint(path.split(".")):
                    module.train(True)


def _weighted(tree: Tree) -> Iterator[Leaf]:
    if isinstance(tree, Leaf):
        yield from [tree] if tree.weight != 1.0 else []
        return
    for child in children(tree):
        yield from _weighted(child)
