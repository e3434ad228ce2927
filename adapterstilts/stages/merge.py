"""Stage merge: modules -> one module, and its error against the exact weighted sum."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapterstilts.data.prepared import read_prepared
from adapterstilts.encoder.base import device, load_base
from adapterstilts.encoder.batch import by_length, collate, lengths_of
from adapterstilts.errors import StageFailed
from adapterstilts.evaluation.score import make_masking
from adapterstilts.modules.artifact import Module, family, read_module, write_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf, Stack, scaled
from adapterstilts.modules.merge import merge, merge_whole
from adapterstilts.modules.search import Candidate, search
from adapterstilts.settings import SearchSettings
from adapterstilts.stages.loading import open_base
from adapterstilts.stages.specs import MergeSpec
from adapterstilts.stages.train import make_head
from adapterstilts.training.schedule import subset

MERGED = "merged"
Progress = Callable[[float, str], None]
Heads = dict[str, tuple[dict[str, Any], Mapping[str, Tensor]]]


def run(
    spec: MergeSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Merge the parents ``module:<hash>`` in the order of ``spec.of``.

    An average keeps the average of the heads that all of them have, a search the head that it measured with.
    """
    modules = [read_module(parents[f"module:{name}"], base=spec.base.fingerprint) for name in spec.of]
    weights = spec.weights
    heads: Heads = {}
    facts: dict[str, Any] = {}
    if spec.how == "search":
        weights, heads, facts = _search(spec, modules, parents["dev"], directory, progress)
    elif spec.how == "average":
        heads = _average_heads(modules, weights)
    if family(modules[0]) == {"weights"}:
        base = load_base(spec.base.ref)
        merged = merge_whole(base, modules, weights)
    else:
        # Of the word embeddings only the rows that its golden outputs need.
        base = load_base(spec.base.ref, used=())
        merged = merge(modules, weights, spec.how, spec.parameters, spec.seed)
    adapted = Adapted(base, {MERGED: merged.weights}, Leaf(MERGED))
    module = write_module(
        directory,
        adapted,
        trained=MERGED,
        parents={},
        heads=heads,
        base=spec.base.fingerprint,
        tokenizer=spec.base.tokenizer,
    )
    progress(1.0, "merged")
    about = {"trained": module.trained, "error": merged.error, "how": spec.how, "weights": list(weights)}
    return {**about, "heads": sorted(heads), **facts}


def _average_heads(modules: Sequence[Module], weights: Sequence[float]) -> Heads:
    """The weighted averages of the heads that all modules have, where they are heads of one kind."""
    found: Heads = {}
    for name, about in modules[0].heads.items():
        if all(module.heads.get(name) == about for module in modules):
            parts = [module.head(name) for module in modules]
            shapes = [{key: tensor.shape for key, tensor in part.items()} for part in parts]
            if all(shape == shapes[0] for shape in shapes):
                means = {
                    key: torch.stack([w * part[key] for w, part in zip(weights, parts, strict=True)]).sum(0)
                    for key in parts[0]
                }
                found[name] = (about, means)
    return found


def _search(
    spec: MergeSpec, modules: Sequence[Module], data: Path, directory: Path, progress: Progress
) -> tuple[tuple[float, ...], Heads, dict[str, Any]]:
    """Weights that make a few development examples likely, under the head of the first module that has it.

    Every candidate is one change of weights in the attached modules; search.jsonl lists them all.
    """
    settings, prepared = SearchSettings.model_validate(spec.parameters), read_prepared(data)
    task, arrays = prepared.task, prepared.arrays
    owner = next((module for module in modules if task.head_name in module.heads), None)
    if owner is None and task.format != "masked_lm":
        why = "candidates are measured with a head that one of them was trained with"
        raise StageFailed(f"no module of this search has a head for `{task.name}`", why=why)
    base = open_base(spec.base, modules[0].precision, spec.engine, [prepared])
    attached = {name: leaf for module in modules for name, leaf in module.weights().items()}
    adapted = Adapted(base, attached, None, engine=spec.engine)
    adapted.to(device())
    head: Any = make_head(task, base)
    heads: Heads = {}
    if owner is not None:
        heads = {task.head_name: (owner.heads[task.head_name], owner.head(task.head_name))}
        head.load_state_dict(heads[task.head_name][1], strict=task.format != "masked_lm")
    head.to(adapted.model.device).eval()
    examples = subset(len(arrays), settings.examples, spec.seed)
    parts = by_length(lengths_of(arrays.rows, arrays.examples)[examples], spec.engine.tokens)
    batches = [
        collate(arrays.ids, arrays.rows, arrays.examples, arrays.fields, examples[part], pad_id=base.pad_id)
        for part in parts
    ]
    masking = make_masking(prepared, adapted)
    if masking is not None:
        batches = [
            masking.apply(batch, np.random.default_rng([spec.seed, number])) for number, batch in enumerate(batches)
        ]
    batches = [batch.to(adapted.model.device) for batch in batches]

    @torch.no_grad()
    def loss(weights: tuple[float, ...]) -> float:
        trees = [scaled(module.bound(), weight) for module, weight in zip(modules, weights, strict=True)]
        adapted.activate(Stack(tuple(trees)))
        adapted.train_mode(False)
        sums = [head.loss(adapted.logits(head, batch), batch) for batch in batches]
        return float(sum(float(total) for total, _ in sums) / max(1, sum(units for _, units in sums)))

    with (directory / "search.jsonl").open("w", encoding="utf-8") as file:

        def told(candidate: Candidate, done: float) -> None:
            file.write(json.dumps({"weights": candidate.weights, "loss": candidate.loss}) + "\n")
            progress(done, f"loss {candidate.loss:.3f}")

        limits = settings.model_dump(include={"steps", "penalty", "bound"})
        best = search(loss, len(modules), told=told, **limits)
    return best.weights, heads, {"loss": best.loss, "examples": len(examples)}
