"""Stage train: base + composition + task mix -> module.

The new module starts fresh on top of the frozen composition ``below``, or goes on from the module ``start``. Fusions
that no parent has trained are trained together with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterstilts.data.prepared import Prepared, read_prepared
from adapterstilts.encoder.base import Base, VocabularyHead, device
from adapterstilts.encoder.heads import MaskedHead, build_head
from adapterstilts.errors import RecipeError, StageFailed
from adapterstilts.evaluation.score import make_masking, score
from adapterstilts.modules.artifact import Module, golden_outputs, read_module, write_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf, Stack, Tree, bind, has_slot, leaves, map_leaves, scaled, simplify
from adapterstilts.modules.expressions import parse
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import default_rate, resolve
from adapterstilts.stages.loading import engine_facts, open_base
from adapterstilts.stages.memory import peak_memory
from adapterstilts.stages.specs import TrainSpec
from adapterstilts.training.held import hold_states
from adapterstilts.training.loop import Share, fit
from adapterstilts.training.schedule import make_schedule, subset

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


def run(
    spec: TrainSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """Train one module and write it; returns the facts of the manifest.

    Raises:
        StageFailed: the loss is no number, or training left the module's outputs as they were.
    """
    settings = spec.settings
    prepared = {share.key: read_prepared(parents[f"train:{share.key}"]) for share in spec.mix}
    dev = {share.key: read_prepared(parents[f"dev:{share.key}"]) for share in spec.mix if f"dev:{share.key}" in parents}
    start = _start(spec, parents)
    methods = [weights.method for weights in start.weights.values()]
    base = open_base(spec.base, settings.precision, spec.engine, [*prepared.values(), *dev.values()], methods)
    adapted = Adapted(
        base,
        start.weights,
        start.tree,
        train=frozenset({start.trained}),
        fusion=start.fusion,
        keep_fusion=start.heads is None,
        seed=spec.seed,
        dropout=settings.dropout,
        engine=spec.engine,
    )
    adapted.to(device())
    if spec.engine.packed and not adapted.packed:
        progress(0.0, "runs padded: a method adds keys to every sequence")
    before = golden_outputs(adapted)
    heads = _heads(prepared.values(), base, start.heads, spec.seed, settings.dropout)
    shares = {share.key: _share(prepared[share.key], share.limit, adapted, spec.seed) for share in spec.mix}
    schedule = make_schedule([len(share.chosen) for share in shares.values()], settings, spec.seed)
    shares, dev, held = hold_states(adapted, shares, dev, schedule, settings, work, progress)

    def dev_scores() -> dict[str, float]:
        return {
            key: score(
                adapted, heads[split.task.head_name], split, language=key.rpartition("/")[2], limit=settings.dev_limit
            ).value
            for key, split in dev.items()
        }

    latest: dict[str, float] = {}

    def scored() -> float:
        latest.update(dev_scores())
        return _mean(latest.values())

    rate = settings.learning_rate or default_rate(start.weights[start.trained].method)
    result = fit(
        adapted,
        heads,
        list(shares.values()),
        schedule,
        settings,
        learning_rate=rate,
        seed=spec.seed,
        work=work,
        score=scored,
        progress=progress,
    )
    if torch.equal(before, golden_outputs(adapted)):
        raise StageFailed(
            "training changed nothing", why="no gradient reached the module", fix="check method, sites and layers"
        )
    # The last planned score is that of the state which is kept, unless training went back to a better one.
    kept = settings.select == "last" and bool(latest) and "dev" in result.metrics[-1]
    scores = latest if kept else dev_scores()
    module = write_module(
        directory,
        adapted,
        trained=start.trained,
        parents=start.places,
        heads={name: _stored(head, prepared.values(), name) for name, head in heads.items()},
        base=spec.base.fingerprint,
        tokenizer=spec.base.tokenizer,
        shape=start.shape,
        filling=start.filling,
    )
    parameters = {
        "module": sum(p.numel() for p in adapted.trainable().values()),
        "heads": sum(p.numel() for head in heads.values() for p in head.parameters() if p.requires_grad),
    }
    warnings = _warnings(adapted, start)
    for text in warnings:
        progress(1.0, f"warning: {text}")
    with (directory / "metrics.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in result.metrics)
    return {
        "trained": module.trained,
        "steps": result.steps,
        "examples": {key: len(share.chosen) for key, share in shares.items()},
        "learning_rate": rate,
        "loss": result.loss,
        "converged": result.converged,
        "warnings": warnings,
        "engine": engine_facts(adapted) | {"held": held},
        "dev": scores,
        "parameters": parameters,
        "peak_memory": peak_memory(),
        "device": str(adapted.model.device),
    }


def _warnings(adapted: Adapted, start: Start) -> list[str]:
    """What trained without an effect, although something else did. Leaves what is below the new module active."""
    found = [
        f"{fusion}: its mixture never moved from the even one; it says nothing of which module is used"
        for fusion in adapted.even_fusions()
    ]
    if isinstance(start.tree, Stack) and start.trained == SELF:
        whole = golden_outputs(adapted)
        below = simplify(Stack(tuple(child for child in start.tree.children if child != Leaf(SELF))))
        adapted.activate(below, fusion={name: p.detach().clone() for name, p in adapted.fusion_tensors().items()})
        adapted.to(device())
        adapted.train_mode(False)
        if torch.equal(whole, golden_outputs(adapted)):
            found.append("the new module adds nothing: only the fusion below it and the head have learnt")
    return found


def _start(spec: TrainSpec, parents: Mapping[str, Path]) -> Start:
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


def _share(prepared: Prepared, limit: int | None, adapted: Adapted, seed: int) -> Share:
    arrays, task = prepared.arrays, prepared.task
    return Share(arrays, subset(len(arrays), limit, seed), task.head_name, make_masking(prepared, adapted))


def _heads(prepared: Any, base: Base, start: Module | None, seed: int, dropout: float) -> dict[str, nn.Module]:
    """One head per head name of the mix; a head that the continued module already has goes on from there."""
    heads: dict[str, nn.Module] = {}
    for split in prepared:
        task = split.task
        if task.head_name in heads:
            continue
        heads[task.head_name] = make_head(task, base, dropout)
        if start is not None and task.head_name in start.heads:
            heads[task.head_name].load_state_dict(start.head(task.head_name), strict=task.format != "masked_lm")
        else:
            _initialise(heads[task.head_name], seed)
    return heads


def make_head(task: Any, base: Base, dropout: float = 0.0) -> nn.Module:
    """The untrained head of a task on a base."""
    if task.format == "masked_lm":
        return MaskedHead(VocabularyHead(base))
    return build_head(task.format, base.width, len(task.labels), pool=task.settings.pool, dropout=dropout)


def _initialise(head: nn.Module, seed: int) -> None:
    """N(0, 0.02) weights and zero biases, as RoBERTa's heads, from the seed and the tensor's name."""
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(head.named_parameters())):
            if not parameter.requires_grad:
                continue
            generator = torch.Generator().manual_seed(seed * 1000 + number)
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.02, generator=generator)
            else:
                parameter.zero_()


def _stored(head: nn.Module, prepared: Any, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    task = next(split.task for split in prepared if split.task.head_name == name)
    tensors: dict[str, Tensor] = {path: p for path, p in head.named_parameters() if p.requires_grad}
    return {"format": task.format, "labels": list(task.labels), "pool": task.settings.pool}, tensors


def _mean(values: Any) -> float:
    numbers: Sequence[float] = list(values)
    return sum(numbers) / len(numbers) if numbers else 0.0
