"""Stage train: base + composition + task mix -> module.

The new module starts fresh on top of the frozen composition ``below``, or goes on from the module ``start``. Fusions
that no parent has trained are trained together with it. Several stages on one base can share its forward pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterstilts.data.prepared import Prepared, read_prepared
from adapterstilts.encoder.base import Base, VocabularyHead, device
from adapterstilts.encoder.heads import MaskedHead, build_head
from adapterstilts.errors import StageFailed
from adapterstilts.evaluation.score import make_masking, score
from adapterstilts.modules.artifact import Module, golden_outputs, write_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf, Stack, simplify
from adapterstilts.modules.methods import default_rate
from adapterstilts.stages.loading import engine_facts, open_base
from adapterstilts.stages.memory import peak_memory
from adapterstilts.stages.specs import TrainSpec
from adapterstilts.stages.start import SELF, Start, read_start
from adapterstilts.training.course import Course, Fit, Share
from adapterstilts.training.held import hold_states
from adapterstilts.training.loop import fit
from adapterstilts.training.schedule import make_schedule, subset
from adapterstilts.training.together import Member, fit_together


@dataclass(frozen=True)
class Order:
    """A training stage: what it is told and given, and where it writes."""

    spec: TrainSpec
    parents: Mapping[str, Path]
    directory: Path
    work: Path
    progress: Callable[[float, str], None]


def run(
    spec: TrainSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """Train one module and write it; returns the facts of the manifest.

    Raises:
        StageFailed: the loss is no number, or training left the module's outputs as they were.
    """
    one = Training(Order(spec, parents, directory, work, progress))
    adapted = _adapted([one])
    if spec.engine.packed and not adapted.packed:
        progress(0.0, "runs padded: a method adds keys to every sequence")
    one.begin(adapted)
    schedule = make_schedule([len(share.chosen) for share in one.shares.values()], spec.settings, spec.seed)
    one.shares, one.dev, held = hold_states(adapted, one.shares, one.dev, schedule, spec.settings, work, progress)
    result = fit(
        adapted,
        one.heads,
        list(one.shares.values()),
        schedule,
        spec.settings,
        learning_rate=one.rate,
        seed=spec.seed,
        work=work,
        score=lambda: one.score(adapted),
        progress=progress,
    )
    return one.end(adapted, result, {"held": held})


def run_together(orders: Sequence[Order]) -> list[dict[str, Any]]:
    """Train the modules of several stages in one loop and write them; returns the facts of each.

    The stages share base, precision and engine; nothing drops out in them, and none trains a fusion (`plan.together`).

    Raises:
        StageFailed: as of `run`, for any of them.
    """
    trainings = [Training(order, f"{SELF}-{number}") for number, order in enumerate(orders)]
    adapted = _adapted(trainings)
    members = [Member(one.start.tree, one.start.trained, one.course(adapted)) for one in trainings]
    facts = []
    for one, result in zip(trainings, fit_together(adapted, members), strict=True):
        one.activate(adapted)
        facts.append(one.end(adapted, result, {"held": None, "together": len(trainings)}))
    return facts


class Training:
    """One module from its data to its artifact, around the loop that trains it.

    Args:
        name: of the leaf that trains, where it trains among those of others.
    """

    def __init__(self, order: Order, name: str | None = None) -> None:
        spec, parents = order.spec, order.parents
        self.order = order
        self.prepared = {share.key: read_prepared(parents[f"train:{share.key}"]) for share in spec.mix}
        given = [share.key for share in spec.mix if f"dev:{share.key}" in parents]
        self.dev = {key: read_prepared(parents[f"dev:{key}"]) for key in given}
        start = read_start(spec, parents)
        self.start = start if name is None else start.called(name)
        self.rate = spec.settings.learning_rate or default_rate(self.start.weights[self.start.trained].method)
        self.latest: dict[str, float] = {}

    def activate(self, adapted: Adapted) -> None:
        """Make its composition count, and its module train."""
        start = self.start
        adapted.activate(start.tree, frozenset({start.trained}), start.fusion, keep_fusion=start.heads is None)

    def begin(self, adapted: Adapted) -> None:
        """Make its heads and shares; its composition is active."""
        spec = self.order.spec
        self.before = golden_outputs(adapted)
        self.heads = _heads(self.prepared.values(), adapted.base, self.start.heads, spec.seed, spec.settings.dropout)
        self.shares = {
            share.key: _share(self.prepared[share.key], share.limit, adapted, spec.seed) for share in spec.mix
        }

    def course(self, adapted: Adapted) -> Course:
        """Its course among others."""
        self.activate(adapted)
        self.begin(adapted)
        spec = self.order.spec

        def scored() -> float:
            self.activate(adapted)
            return self.score(adapted)

        return Course(
            # As it is called alone: a stage goes on from its checkpoint, alone or together.
            {f"{SELF}/{path}": p for path, p in adapted.tensors(self.start.trained).items()},
            {name: head.to(adapted.model.device).eval() for name, head in self.heads.items()},
            list(self.shares.values()),
            make_schedule([len(share.chosen) for share in self.shares.values()], spec.settings, spec.seed),
            spec.settings,
            learning_rate=self.rate,
            seed=spec.seed,
            work=self.order.work,
            score=scored,
            progress=self.order.progress,
        )

    def score(self, adapted: Adapted) -> float:
        """The mean of its development scores."""
        self.latest.update(self._scores(adapted))
        return sum(self.latest.values()) / len(self.latest) if self.latest else 0.0

    def _scores(self, adapted: Adapted) -> dict[str, float]:
        limit = self.order.spec.settings.dev_limit
        return {
            key: score(
                adapted, self.heads[split.task.head_name], split, language=key.rpartition("/")[2], limit=limit
            ).value
            for key, split in self.dev.items()
        }

    def end(self, adapted: Adapted, result: Fit, engine: Mapping[str, Any]) -> dict[str, Any]:
        """Write the module, whose composition is active; returns its facts, with those of the engine.

        Raises:
            StageFailed: its outputs are what they were.
        """
        spec, start, directory = self.order.spec, self.start, self.order.directory
        if torch.equal(self.before, golden_outputs(adapted)):
            raise StageFailed(
                "training changed nothing", why="no gradient reached the module", fix="check method, sites and layers"
            )
        # The last planned score is that of the state which is kept, unless training went back to a better one.
        kept = spec.settings.select == "last" and bool(self.latest) and "dev" in result.metrics[-1]
        scores = self.latest if kept else self._scores(adapted)
        module = write_module(
            directory,
            adapted,
            trained=start.trained,
            parents=start.places,
            heads={name: _stored(head, self.prepared.values(), name) for name, head in self.heads.items()},
            base=spec.base.fingerprint,
            tokenizer=spec.base.tokenizer,
            shape=start.shape,
            filling=start.filling,
        )
        parameters = {
            "module": sum(p.numel() for p in adapted.trainable().values()),
            "heads": sum(p.numel() for head in self.heads.values() for p in head.parameters() if p.requires_grad),
        }
        warnings = _warnings(adapted, start)
        for text in warnings:
            self.order.progress(1.0, f"warning: {text}")
        with (directory / "metrics.jsonl").open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in result.metrics)
        return {
            "trained": module.trained,
            "steps": result.steps,
            "examples": {key: len(share.chosen) for key, share in self.shares.items()},
            "learning_rate": self.rate,
            "loss": result.loss,
            "converged": result.converged,
            "warnings": warnings,
            "engine": {**engine_facts(adapted), **engine},
            "dev": scores,
            "parameters": parameters,
            "peak_memory": peak_memory(),
            "device": str(adapted.model.device),
        }


def _adapted(trainings: Sequence[Training]) -> Adapted:
    """The base with the modules of all attached, the composition of the first one active."""
    first, spec = trainings[0].start, trainings[0].order.spec
    splits = [split for one in trainings for split in (*one.prepared.values(), *one.dev.values())]
    weights = {name: leaf for one in trainings for name, leaf in one.start.weights.items()}
    methods = [leaf.method for leaf in weights.values()]
    adapted = Adapted(
        open_base(spec.base, spec.settings.precision, spec.engine, splits, methods),
        weights,
        first.tree,
        train=frozenset({first.trained}),
        fusion=first.fusion,
        keep_fusion=first.heads is None,
        seed={one.start.trained: one.order.spec.seed for one in trainings},
        dropout=spec.settings.dropout,
        engine=spec.engine,
    )
    adapted.to(device())
    return adapted


def _warnings(adapted: Adapted, start: Start) -> list[str]:
    """What trained without an effect, although something else did. Leaves what is below the new module active."""
    found = [
        f"{fusion}: its mixture never moved from the even one; it says nothing of which module is used"
        for fusion in adapted.even_fusions()
    ]
    if isinstance(start.tree, Stack) and start.heads is None:
        whole = golden_outputs(adapted)
        below = simplify(Stack(tuple(child for child in start.tree.children if child != Leaf(start.trained))))
        adapted.activate(below, fusion={name: p.detach().clone() for name, p in adapted.fusion_tensors().items()})
        adapted.to(device())
        adapted.train_mode(False)
        if torch.equal(whole, golden_outputs(adapted)):
            found.append("the new module adds nothing: only the fusion below it and the head have learnt")
    return found


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
