"""Directories of plain peft and plain adapters as leaves.

What a file holds (sites, layers, rank) is read from its tensors, not from its configuration: peft's `target_modules` is
a pattern whose matches only the model knows. Whatever no method here says exactly is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterstilts.encoder.base import Base
from adapterstilts.errors import DataError
from adapterstilts.modules import bottleneck, delta, setups
from adapterstilts.modules.artifact import leaf_id
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf, Tree, leaves, map_leaves, simplify
from adapterstilts.modules.forward import fusion_key, fusions
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import METHODS, SITES, require_library, resolve
from adapterstilts.settings import MethodSettings

WRAPPERS = ("base_model.model.", "roberta.")  # of peft, and of a model with a head
_PATHS = {path: site for site, path in SITES.items()}


@dataclass(frozen=True)
class Imported:
    """A foreign module as a leaf, and what of its directory was left out."""

    weights: LeafWeights
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Composed:
    """A foreign composition: a tree over the ids of its leaves, and the weights of its mixtures."""

    tree: Tree
    parts: Mapping[str, Imported]
    fusion: Mapping[str, Tensor]

    @property
    def ignored(self) -> tuple[str, ...]:
        return tuple(sorted({name for part in self.parts.values() for name in part.ignored}))


def import_any(library: str, directory: Path) -> Composed:
    """What a directory of plain peft or plain adapters holds: one module, or a setup of several.

    Raises:
        DataError: no such directory, a pickle, or something that nothing here says exactly.
    """
    if library == "adapterhub" and (directory / setups.SETUP).is_file():
        return import_setup(directory)
    alone = (import_peft if library == "peft" else import_adapterhub)(directory)
    own = leaf_id(alone.weights.tensors or {})
    return Composed(Leaf(own), {own: alone}, {})


def import_setup(directory: Path) -> Composed:
    """A setup of plain adapters (``save_adapter_setup``): stacks and AdapterFusions of bottlenecks.

    Raises:
        DataError: a part that cannot be read, or a composition that plain adapters computes in a way of its own.
    """
    named = setups.read_setup(directory)
    read = {name: import_adapterhub(directory / name) for name in leaves(named)}
    ids = {name: leaf_id(part.weights.tensors or {}) for name, part in read.items()}
    tree = map_leaves(simplify(named), lambda leaf: Leaf(ids[leaf.name]))
    fused = {name for fusion in fusions(named) for name in leaves(fusion)}
    methods = {name: read[name].weights.method for name in leaves(named)}
    reason = setups.unlike_plain(list(methods.values()), [methods[name] for name in methods if name in fused])
    if reason is not None:
        raise _unsaid(directory / setups.SETUP, "the stack", f"it is {reason}", "import its parts, and stack them here")
    fusion = {}
    for theirs, ours in zip(fusions(simplify(named)), fusions(tree), strict=True):
        names = leaves(theirs)
        for name, tensor in setups.read_fusion(directory, names).items():
            fusion[f"{fusion_key(ours)}/{name}"] = tensor
    return Composed(tree, {ids[name]: part for name, part in read.items()}, fusion)


def import_peft(directory: Path) -> Imported:
    """A plain peft LoRA, rsLoRA, DoRA or IA3 directory as a leaf.

    Raises:
        DataError: no such directory, a pickle, or something that this project's methods cannot say exactly.
    """
    config, stored = _open(directory, delta.CONFIG, delta.WEIGHTS, "adapter_model.bin")
    kind = config.get("peft_type")
    if kind not in ("LORA", "IA3"):
        raise _unsaid(directory / delta.CONFIG, f"peft_type {kind}", "LORA (also rsLoRA and DoRA) and IA3 are read")
    containers = ("lora_A", "lora_B", "lora_magnitude_vector", "ia3_l")
    inside = {n: t for n, t in stored.items() if n.split("encoder.layer.")[0] == "" and _container(n) in containers}
    if not inside:
        raise _unsaid(directory / delta.WEIGHTS, "tensors of another architecture", "no encoder.layer.N.* is in it")
    wrong = [n for n in stored if n not in inside and _container(n) in containers]
    if wrong:
        raise _unsaid(directory / delta.WEIGHTS, f"a delta at `{wrong[0]}`", f"deltas sit at {', '.join(SITES)}")
    sites, layers = _places(inside, directory / delta.WEIGHTS)
    parameters: dict[str, Any] = {"sites": sites, "layers": layers}
    if kind == "IA3":
        rows = {_place(name)[1] for name, tensor in inside.items() if tensor.shape[0] == 1}
        method = MethodSettings(name="ia3", parameters={**parameters, "inputs": [s for s in sites if s in rows]})
    else:
        method = _lora_method(config, inside, parameters, directory / delta.CONFIG)
    return Imported(LeafWeights(resolve(method), inside), tuple(sorted(set(stored) - set(inside))))


def _lora_method(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], parameters: Mapping[str, Any], where: Path
) -> MethodSettings:
    for key, usual in (("rank_pattern", {}), ("alpha_pattern", {}), ("bias", "none"), ("fan_in_fan_out", False)):
        if config.get(key, usual) not in (usual, None):
            raise _unsaid(where, f"{key}: {config[key]}", "one rank, one alpha and frozen biases are what lora has")
    if str(config.get("init_lora_weights", "")).startswith(("pissa", "olora", "corda", "loftq", "lora_ga")):
        raise _unsaid(
            where,
            f"init_lora_weights: {config['init_lora_weights']}",
            "its W is not that of the base: peft moved a part of W into the adapter",
            "save it with save_pretrained(..., path_initial_model_for_weight_conversion=...), which makes a plain LoRA",
        )
    ranks = {int(tensor.shape[0]) for name, tensor in tensors.items() if _container(name) == "lora_A"}
    if ranks != {int(config["r"])}:
        raise _unsaid(where, f"ranks {sorted(ranks)} where r is {config['r']}", "one rank for all sites")
    dora, rs = bool(config.get("use_dora")), bool(config.get("use_rslora"))
    if dora and rs:
        raise _unsaid(where, "use_dora with use_rslora", "dora here scales by alpha / r")
    name = "dora" if dora else "rslora" if rs else "lora"
    return MethodSettings(name=name, parameters={"r": int(config["r"]), "alpha": config["lora_alpha"], **parameters})


def import_adapterhub(directory: Path) -> Imported:
    """A plain adapters bottleneck directory (AdapterHub's form) as a leaf.

    Raises:
        DataError: no such directory, a pickle, or a configuration that none of the methods is.
    """
    require_library("bottleneck")
    from adapters import AdapterConfig

    plain, stored = _open(directory, bottleneck.CONFIG, bottleneck.WEIGHTS, "pytorch_adapter.bin")
    where = directory / bottleneck.CONFIG
    config = dict(plain["config"])
    if config.get("architecture") is not None or "reduction_factor" not in config:
        raise _unsaid(where, f"architecture {config.get('architecture')}", "bottlenecks are read")
    bare = {name: bottleneck.bare_name(name, plain["name"]) for name in stored}
    inside = {str(bare[name]): tensor for name, tensor in stored.items() if bare[name] is not None}
    if not any(name.startswith("encoder.layer.") for name in inside):
        raise _unsaid(directory / bottleneck.WEIGHTS, "tensors of another architecture", "no encoder.layer.N.* in it")
    given = dict(AdapterConfig.load(config).to_dict())
    differences = {}
    for name in (name for name, method in METHODS.items() if "reduction" in method.defaults):
        usual = dict(bottleneck.library_config(name).to_dict())
        differences[name] = {k: v for k, v in given.items() if k in usual and v != usual[k] and k not in _FREE}
    best = min(differences, key=lambda name: len(differences[name]))
    if differences[best]:
        key, value = next(iter(differences[best].items()))
        raise _unsaid(where, f"{key}: {value}", f"the nearest method, {best}, has another value there")
    if not isinstance(given["reduction_factor"], (int, float)):
        raise _unsaid(where, "a reduction_factor by layer", "a method has one for all layers")
    depth = 1 + max(int(name.split(".")[2]) for name in inside if name.startswith("encoder."))
    left = set(given["leave_out"])
    layers = [layer for layer in range(max(depth, *left) if left else depth) if layer not in left] if left else None
    parameters = {"reduction": given["reduction_factor"], "activation": given["non_linearity"], "layers": layers}
    for ours, theirs in (("inv_reduction", "inv_adapter_reduction_factor"), ("dim", "phm_dim")):
        parameters |= {ours: given[theirs]} if ours in METHODS[best].defaults else {}
    method = resolve(MethodSettings(name=best, parameters=parameters))
    return Imported(LeafWeights(method, inside), tuple(sorted(name for name in stored if bare[name] is None)))


# What a method's parameters say, and what decides a start or a training run but no output.
_FREE = {"reduction_factor", "non_linearity", "leave_out", "dropout", "init_weights", "init_weights_seed"}
_FREE |= {"inv_adapter_reduction_factor", "phm_dim", "stochastic_depth", "phm_init_range", "phm_c_init"}
_FREE |= {"hypercomplex_nonlinearity", "learn_phm"}


def check_fits(weights: Mapping[str, LeafWeights], base: Base, where: Path) -> None:
    """Raise DataError unless the modules are of this base's shape, and change something; ``base`` is used up."""
    for leaf in weights.values():
        layers = leaf.method.parameters.get("layers")
        if layers and layers[-1] >= base.layers:
            why = f"the base has layers 0 to {base.layers - 1}"
            raise DataError(f"a module on layer {layers[-1]}", where=str(where), why=why, fix="--base: its own one")
    fresh = Adapted(base, {name: LeafWeights(leaf.method) for name, leaf in weights.items()}, None)
    for name, leaf in weights.items():
        fitting(leaf, fresh.tensors(name), where)
        if _changes_nothing(leaf.tensors or {}):
            why = "it was never trained: its deltas are 0"
            raise DataError("this module changes nothing", where=str(where), why=why)


def fitting(leaf: LeafWeights, expected: Mapping[str, Tensor], where: Path) -> None:
    """Raise DataError unless the tensors are those that the method has on this base."""
    found = leaf.tensors or {}
    for name in sorted({*found, *expected}):
        if name not in found or name not in expected:
            what = f"`{name}` is {'missing' if name not in found else 'one too many'}"
            raise DataError(what, where=str(where), why="it was made for a base of another depth or method")
        if found[name].shape != expected[name].shape:
            why = f"{tuple(found[name].shape)} in the file, {tuple(expected[name].shape)} on this base"
            raise DataError(f"`{name}` does not fit", where=str(where), why=why, fix="--base: its own one")


def _open(directory: Path, config: str, weights: str, pickle: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(configuration, tensors by their path in the bare encoder) of a foreign directory."""
    from safetensors.torch import load_file

    for name in (config, weights):
        target = (directory / name).resolve()
        # The Hub's cache links every file into its folder of blobs.
        if target.parent != directory.resolve() and target.parent.name != "blobs":
            why = "it is a link that leaves the folder"
            raise DataError(f"`{name}` is refused", where=str(directory), why=why, fix="copy the file itself")
    if not (directory / config).is_file():
        raise DataError(f"no {config}", where=str(directory), why="it is no directory that this library saved")
    if not (directory / weights).is_file():
        if (directory / pickle).is_file():
            code = (
                "import torch, safetensors.torch as s; "
                f"s.save_file({{k: v.contiguous() for k, v in torch.load('{directory / pickle}', "
                f"weights_only=True).items()}}, '{directory / weights}')"
            )
            raise DataError(
                "pickled weights are not read",
                where=str(directory / pickle),
                why="a pickle can run code",
                fix=f'python -c "{code}"',
            )
        raise DataError(f"no {weights}", where=str(directory), why="the weights are missing")
    try:
        plain: dict[str, Any] = json.loads((directory / config).read_text(encoding="utf-8"))
        stored = load_file(directory / weights)
    except Exception as error:
        raise DataError("it cannot be read", where=str(directory), why=str(error).splitlines()[0]) from error
    return plain, {_bare(name): tensor.float() for name, tensor in stored.items()}


def _bare(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _container(name: str) -> str:
    return name.removesuffix(".weight").rpartition(".")[2]


def _place(name: str) -> tuple[int, str | None]:
    """(layer, site) of ``encoder.layer.3.attention.self.query.lora_A.weight``."""
    _, _, layer, *path = name.removesuffix(".weight").rpartition(".")[0].split(".")
    return int(layer), _PATHS.get(".".join(path))


def _places(tensors: Mapping[str, Tensor], where: Path) -> tuple[list[str], list[int]]:
    places = {name: _place(name) for name in tensors}
    for name, (_, site) in places.items():
        if site is None:
            raise _unsaid(where, f"a delta at `{name}`", f"deltas sit at {', '.join(SITES)}")
    found = set(places.values())
    sites = [site for site in SITES if any(place[1] == site for place in found)]
    layers = sorted({layer for layer, _ in found})
    if len(found) != len(sites) * len(layers):
        lacking = next((layer, site) for layer in layers for site in sites if (layer, site) not in found)
        raise _unsaid(where, f"layer {lacking[0]} without `{lacking[1]}`", "a method has the same sites in its layers")
    return sites, layers


def _unsaid(where: Path, what: str, why: str, fix: str | None = None) -> DataError:
    return DataError(f"{what} cannot be imported", where=str(where), why=why, fix=fix)


def _changes_nothing(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a module is still at its start: all of its tensors that begin at zero are zero."""
    ups = [t for n, t in tensors.items() if ".lora_B." in n or "adapter_up" in n]
    return bool(ups) and not any(bool(torch.count_nonzero(tensor)) for tensor in ups)
