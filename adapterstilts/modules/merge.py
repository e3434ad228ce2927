"""Merging modules into one without training, and how far the result is from the exact weighted sum.

Deltas (s B A per site):
    cat      ranks add up; exactly the weighted sum (the default)
    svd      the best approximation of the sum at a given rank
    linear   A and B mixed separately, as peft's `linear`: cheap, with cross terms
    ties, dare_ties, dare_linear, magnitude    on the full deltas (Yadav et al. 2023, arXiv 2306.01708; Yu et al. 2023,
             arXiv 2311.03099), then brought to the rank by svd
    average  the exact weighted mean: ``cat`` with weights that sum to 1
    search   ``cat`` with weights that were searched for (modules/search.py)
IA3 and bottlenecks: the weighted average of parameters of equal shape (``average``); of IA3 it is the exact mean, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapterstilts.encoder.base import Base
from adapterstilts.errors import RecipeError
from adapterstilts.modules import delta, full
from adapterstilts.modules.artifact import Module, family
from adapterstilts.modules.composition import Leaf, Stack, Tree
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import SITES, get_method
from adapterstilts.settings import MethodSettings

Factors = tuple[Tensor, Tensor]  # A (r, in) and s B (out, r)


@dataclass(frozen=True)
class Merged:
    """The merged leaf and its relative Frobenius error against the exact weighted sum (None: not defined)."""

    weights: LeafWeights
    error: float | None


def merge(
    modules: Sequence[Module], weights: Sequence[float], how: str, parameters: Mapping[str, Any], seed: int
) -> Merged:
    """Merge modules of one family.

    Args:
        parameters: ``rank`` (svd and after ties/dare; default the largest of the parts), ``density`` (default 0.5).
        seed: of dare's random drops.

    Raises:
        RecipeError: families mixed, a fused module, or shapes that cannot be averaged.
    """
    families = set().union(*(family(module) for module in modules))
    if len(families) > 1:
        raise RecipeError(
            "a merge of deltas and bottlenecks", why="they act at different places", fix="stack or fuse them"
        )
    if families == {"weights"}:
        raise RecipeError("a merge of full modules without their base", why="see merge_whole")
    used = [get_method(method.name) for module in modules for method in module.methods.values()]
    for method in used:
        if how not in method.merges:
            why = f"it can be merged by {', '.join(method.merges)}" if method.merges else "its parts cannot be added up"
            raise RecipeError(f"{method.name} cannot be merged by `{how}`", why=why, fix="stack or fuse it")
    if any("cat" not in method.merges for method in used):
        return _average(modules, weights)
    how = "cat" if how in ("average", "search") else how
    parts = [
        (w * scale, factors) for module, w in zip(modules, weights, strict=True) for scale, factors in _parts(module)
    ]
    paths = sorted({path for _, factors in parts for path in factors})
    rank = int(parameters.get("rank") or max(a.shape[0] for _, factors in parts for a, _ in factors.values()))
    total = sum(max(a.shape[0] for a, _ in factors.values()) for _, factors in parts)
    torch.manual_seed(seed)
    result: dict[str, Factors] = {}
    squared_error = squared_norm = 0.0
    for path in paths:
        here = [(w, *factors[path]) for w, factors in parts if path in factors]
        exact = torch.cat([a for _, a, _ in here]), torch.cat([w * b for w, _, b in here], dim=1)
        a, b = _site(how, here, exact, rank, float(parameters.get("density", 0.5)))
        result[path] = _pad((a, b), total if how == "cat" else rank)
        squared_error += _distance((a, b), exact) ** 2
        squared_norm += _distance(exact, None) ** 2
    settings = _method(paths, total if how == "cat" else rank)
    tensors: dict[str, Tensor] = {}
    for path, (a, b) in result.items():
        tensors |= {f"{path}.lora_A.weight": a, f"{path}.lora_B.weight": b}
    error = math.sqrt(squared_error / squared_norm) if squared_norm else 0.0
    return Merged(LeafWeights(settings, tensors), error)


def _parts(module: Module) -> list[tuple[float, dict[str, Factors]]]:
    """A module that is a sum of deltas as its weighted leaves."""

    def walk(tree: Tree) -> list[Leaf]:
        if isinstance(tree, Leaf):
            return [tree]
        if isinstance(tree, Stack):
            return [leaf for child in tree.children for leaf in walk(child)]
        raise RecipeError("a merge of a fused module", why="its weights depend on the input", fix="merge its parts")

    return [(leaf.weight, delta.factors(module.directory / "leaves" / leaf.name)) for leaf in walk(module.bound())]


def _site(how: str, parts: list[tuple[float, Tensor, Tensor]], exact: Factors, rank: int, density: float) -> Factors:
    if how == "cat":
        return exact
    if how == "svd":
        return _truncate(exact, rank)
    if how == "linear":
        if len({a.shape for _, a, _ in parts}) > 1:
            raise RecipeError(
                "a linear merge of unequal ranks", why="A and B are added element by element", fix="how: cat"
            )
        roots = [math.copysign(math.sqrt(abs(w)), w) for w, _, _ in parts]
        a = sum(abs(root) * part[1] for root, part in zip(roots, parts, strict=True))
        b = sum(root * part[2] for root, part in zip(roots, parts, strict=True))
        assert isinstance(a, Tensor) and isinstance(b, Tensor)
        return a, b
    combine = _library(how)
    full = combine([b @ a for _, a, b in parts], torch.tensor([w for w, _, _ in parts]), density)
    u, s, v = torch.linalg.svd(full, full_matrices=False)
    return v[:rank], u[:, :rank] * s[:rank]


def _library(how: str) -> Callable[[list[Tensor], Tensor, float], Tensor]:
    from peft.utils import merge_utils

    function: Callable[[list[Tensor], Tensor, float], Tensor] = getattr(
        merge_utils, {"magnitude": "magnitude_prune"}.get(how, how)
    )
    return function


def _truncate(factors: Factors, rank: int) -> Factors:
    """Best rank-r approximation of B A, from the small product of the two triangular factors."""
    a, b = factors
    q_b, r_b = torch.linalg.qr(b)
    q_a, r_a = torch.linalg.qr(a.T)
    u, s, v = torch.linalg.svd(r_b @ r_a.T)
    return v[:rank] @ q_a.T, q_b @ (u[:, :rank] * s[:rank])


def _pad(factors: Factors, rank: int) -> Factors:
    a, b = factors
    missing = rank - a.shape[0]
    if missing <= 0:
        return a.contiguous(), b.contiguous()
    return torch.cat([a, a.new_zeros(missing, a.shape[1])]), torch.cat([b, b.new_zeros(b.shape[0], missing)], dim=1)


def _distance(one: Factors, other: Factors | None) -> float:
    """Frobenius norm of B A - B' A' without forming either product."""
    a, b = one
    if other is not None:
        a, b = torch.cat([a, other[0]]), torch.cat([b, -other[1]], dim=1)
    squared = ((b.double().T @ b.double()) * (a.double() @ a.double().T)).sum()
    return math.sqrt(max(float(squared), 0.0))


def _method(paths: Sequence[str], rank: int) -> MethodSettings:
    layers = sorted({int(path.split("layer.")[1].split(".")[0]) for path in paths})
    chosen = [
        site
        for site, inner in SITES.items()
        if any(path.endswith(f"{layer}.{inner}") for path in paths for layer in layers)
    ]
    return delta.low_rank(rank, layers, chosen)


def _average(modules: Sequence[Module], weights: Sequence[float]) -> Merged:
    loaded = []
    for module in modules:
        if not isinstance(module.tree, Leaf):
            raise RecipeError(
                "an average of stacked modules", why="only single ones have equal places", fix="fuse them"
            )
        loaded.append(module.weights()[module.tree.name])
    first = loaded[0]
    if any(other.method != first.method for other in loaded):
        raise RecipeError("an average of unequal modules", why="their shapes differ", fix="train them with one method")
    tensors: dict[str, Tensor] = {}
    for name in first.tensors or {}:
        parts = [w * other.tensors[name] for w, other in zip(weights, loaded, strict=True) if other.tensors]
        tensors[name] = torch.stack(parts).sum(0)
    return Merged(LeafWeights(first.method, tensors), None)


def merge_whole(base: Base, modules: Sequence[Module], weights: Sequence[float]) -> Merged:
    """The base with the weighted sum of what full modules changed (task arithmetic); exact, whatever it is called.

    Raises:
        RecipeError: other modules among them, or full ones of different layers.
    """
    loaded = [leaf for module in modules for leaf in module.weights().values()]
    if len(loaded) != len(modules) or any(leaf.method != loaded[0].method for leaf in loaded):
        raise RecipeError("an average of unequal modules", why="their shapes differ", fix="train them with one method")
    parts = [(weight, leaf.tensors or {}) for weight, leaf in zip(weights, loaded, strict=True)]
    return Merged(LeafWeights(loaded[0].method, full.combine(base.model, parts)), 0.0)
