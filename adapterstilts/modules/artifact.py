"""A module on disk: one directory that loads as one thing.

    module.json          tree, leaves, heads, base and tokenizer fingerprints
    leaves/<id>/         each leaf in its own library's format (plain peft or adapters load it)
    fusion.safetensors   trained mixtures, when the tree fuses
    heads/<head>.safetensors
    golden.safetensors   outputs on a few fixed inputs, re-checked after loading

A leaf's id is the hash of its weights. The leaves a module stands on are linked in, so the directory can travel alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapterstilts.encoder.base import Base, device
from adapterstilts.encoder.batch import Batch, collate
from adapterstilts.encoder.vocabulary import golden_ids
from adapterstilts.errors import StoreError
from adapterstilts.modules.attach import DEFAULT_ENGINE, Adapted
from adapterstilts.modules.composition import Leaf, Tree, bind, has_slot, leaves, map_leaves, simplify
from adapterstilts.modules.expressions import format_tree, parse
from adapterstilts.modules.forward import fusion_key, fusions
from adapterstilts.modules.leaf import LeafWeights, read, save
from adapterstilts.modules.methods import families_of
from adapterstilts.settings import EngineSettings, MethodSettings, Precision

# Relative distance between stored and recomputed outputs; another device rounds bf16 differently.
GOLDEN_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}


@dataclass(frozen=True)
class Module:
    """What a module directory says. ``trained`` is the leaf that its own training changed.

    ``tree`` keeps a {language} slot open; ``filling`` is what stood there in training, and stands there by default.
    """

    directory: Path
    tree: Tree
    trained: str
    methods: Mapping[str, MethodSettings]
    base: str
    tokenizer: str
    heads: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    precision: Precision = "fp32"  # of the base it was trained on, and is used on
    filling: Tree | None = None

    def bound(self, filling: Tree | None = None) -> Tree:
        """The tree that can be activated: its slot, if it has one, filled by this or by default."""
        chosen = filling or self.filling
        return simplify(bind(self.tree, chosen)) if chosen is not None and has_slot(self.tree) else self.tree

    def weights(self) -> dict[str, LeafWeights]:
        """Every leaf's tensors.

        Raises:
            StoreError: a leaf that the tree stands on is missing, or its file cannot be read.
        """
        found = {}
        for leaf in leaves(self.bound()):
            place = self.directory / "leaves" / leaf
            if not place.is_dir():
                raise StoreError(
                    f"module `{leaf}` is missing below this one",
                    where=str(self.directory),
                    why="a child needs its parents",
                )
            found[leaf] = read(place, self.methods[leaf])
        return found

    def head(self, name: str) -> dict[str, Tensor]:
        """The tensors of one head."""
        path = self.directory / "heads" / f"{name}.safetensors"
        try:
            return load_file(path)
        except Exception as error:
            why = "the module was trained without it" if not path.exists() else str(error).splitlines()[0]
            raise StoreError(f"no head `{name}`", where=str(self.directory), why=why) from error

    def fusion(self) -> dict[str, Tensor]:
        """The trained mixtures of the tree's fusions.

        Raises:
            StoreError: the tree fuses and the file is missing.
        """
        if not fusions(self.tree):
            return {}
        try:
            return load_file(self.directory / "fusion.safetensors")
        except Exception as error:
            raise StoreError(
                "the fusion's weights cannot be read", where=str(self.directory), why=str(error)
            ) from error


def read_module(directory: Path, *, base: str | None = None) -> Module:
    """Read what a module directory says; its weights are read on demand.

    Args:
        base: fingerprint of the base in use; a module of another base is refused.

    Raises:
        StoreError: not a module, or a module of another base.
    """
    path = directory / "module.json"
    try:
        plain = json.loads(path.read_text())
        methods = {leaf: MethodSettings.model_validate(method) for leaf, method in plain["leaves"].items()}
        tree = parse(plain["tree"])
        filling = parse(plain["slots"]["language"]) if has_slot(tree) else None
    except (OSError, KeyError, ValueError) as error:
        raise StoreError("not a module directory", where=str(path), why=str(error)) from error
    if base is not None and plain["base"] != base:
        raise StoreError(
            "a module of another base",
            where=str(directory),
            why=f"it was trained on {plain['base'][:12]}, this base is {base[:12]}",
            fix="use the base it was trained on",
        )
    kept = {name: plain[name] for name in ("trained", "base", "tokenizer", "heads", "precision")}
    return Module(directory, tree, methods=methods, filling=filling, **kept)


def write_module(
    directory: Path,
    adapted: Adapted,
    *,
    trained: str,
    parents: Mapping[str, Path],
    heads: Mapping[str, tuple[dict[str, Any], Mapping[str, Tensor]]],
    base: str,
    tokenizer: str,
    shape: Tree | None = None,
    filling: Tree | None = None,
) -> Module:
    """Write the active composition as a module directory.

    Args:
        trained: name of the leaf that was trained; it gets its id from its weights.
        parents: leaf id -> directory of that leaf in the artifact it comes from, for all other leaves.
        heads: head name -> (its description, its tensors).
        shape: the active tree with its slot open, and ``filling`` what stands in it now; None without a slot.

    Returns:
        The module as it will be read again; its outputs have been compared after reloading by the caller.
    """
    assert adapted.tree is not None
    kept = adapted.stored(trained)
    own = leaf_id(kept.tensors or {})
    save(adapted.model, adapted.parts[trained], directory / "leaves" / own)
    methods = {own: kept.method}
    for leaf in leaves(adapted.tree):
        if leaf != trained:
            link_tree(parents[leaf], directory / "leaves" / leaf)
            methods[leaf] = adapted.modules[leaf].method

    def named(tree: Tree) -> Tree:
        return map_leaves(tree, lambda leaf: Leaf(own, leaf.weight) if leaf.name == trained else leaf)

    tree = named(adapted.tree)
    keys = {fusion_key(old): fusion_key(new) for old, new in zip(fusions(adapted.tree), fusions(tree), strict=True)}
    fusion = {}
    for name, parameter in adapted.fusion_tensors().items():
        key, _, rest = name.partition("/")
        fusion[f"{keys[key]}/{rest}"] = parameter.detach().contiguous()
    if fusions(tree):
        save_file(fusion, directory / "fusion.safetensors")
    (directory / "heads").mkdir(exist_ok=True)
    for name, (_, head) in heads.items():
        save_file({k: v.detach().contiguous() for k, v in head.items()}, directory / "heads" / f"{name}.safetensors")
    save_file({"hidden": golden_outputs(adapted)}, directory / "golden.safetensors")
    plain = {
        "tree": format_tree(tree if shape is None else named(shape)),
        "trained": own,
        "leaves": {leaf: method.model_dump(mode="json") for leaf, method in methods.items()},
        "heads": {name: description for name, (description, _) in heads.items()},
        "base": base,
        "tokenizer": tokenizer,
        "precision": adapted.base.precision,
        **({} if filling is None else {"slots": {"language": format_tree(filling)}}),
    }
    (directory / "module.json").write_text(json.dumps(plain, indent=2))
    return read_module(directory)


def write_foreign(directory: Path, adapted: Adapted, *, base: str, tokenizer: str) -> Module:
    """Write a composition that came from outside; its leaves are named by their ids, and none has a parent here."""
    assert adapted.tree is not None
    *below, top = leaves(adapted.tree)
    with TemporaryDirectory(dir=directory) as temporary:
        parents = {leaf: Path(temporary) / leaf for leaf in below}
        for leaf, place in parents.items():
            save(adapted.model, adapted.parts[leaf], place)
        return write_module(directory, adapted, trained=top, parents=parents, heads={}, base=base, tokenizer=tokenizer)


def leaf_id(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits of the weights, independent of slot names and file layout."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        tensor = tensors[name].cpu()
        digest.update((tensor.float() if tensor.is_floating_point() else tensor).numpy().tobytes())
    return digest.hexdigest()[:16]


def link_tree(source: Path, target: Path) -> None:
    """Hard-link a directory (a copy where the file system cannot): artifacts never change, so sharing is safe."""

    def link(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:
            shutil.copyfile(old, new)

    if not target.exists():
        shutil.copytree(source, target, copy_function=link)


def load_adapted(
    base: Base, module: Module, others: Iterable[Module] = (), *, engine: EngineSettings = DEFAULT_ENGINE
) -> Adapted:
    """A module on its base, ready to encode, its outputs compared with those it was stored with.

    On a base in another precision than that of its training they differ, and are not compared.

    Args:
        others: modules that are attached with it, to be activated later.

    Raises:
        StoreError: the outputs differ (another library version, an altered file).
    """
    weights = {name: leaf for one in (module, *others) for name, leaf in one.weights().items()}
    adapted = Adapted(base, weights, module.bound(), fusion=module.fusion(), engine=engine)
    if base.precision == module.precision:
        check_golden(adapted, module.directory)
    adapted.to(device())
    return adapted


def check_each(adapted: Adapted, modules: Iterable[Module]) -> None:
    """Activate modules that are attached one after another, and compare their outputs as `load_adapted` does."""
    for module in modules:
        if adapted.base.precision == module.precision:
            adapted.activate(module.bound(), fusion=module.fusion())
            check_golden(adapted, module.directory)


def check_golden(adapted: Adapted, directory: Path) -> None:
    """Compare the outputs on the fixed inputs with the stored ones.

    Raises:
        StoreError: they differ by more than rounding.
    """
    stored = load_file(directory / "golden.safetensors")["hidden"]
    distance = float((golden_outputs(adapted) - stored).norm() / stored.norm())
    if not distance <= GOLDEN_TOLERANCE[adapted.model.dtype]:
        raise StoreError(
            "the loaded module does not give its stored outputs",
            where=str(directory),
            why=f"relative distance {distance:.2g}: its files or a library changed since",
            fix="adapterstilts store verify, adapterstilts doctor",
        )


def golden_outputs(adapted: Adapted) -> Tensor:
    """Hidden states (T, d) of the last layer on two fixed sequences, with dropout off."""
    adapted.train_mode(False)
    with torch.no_grad():
        return adapted.encode(_golden_batch(adapted).to(adapted.model.device)).cpu().contiguous()


def _golden_batch(adapted: Adapted) -> Batch:
    ids = golden_ids(adapted.base.vocabulary).astype(np.int32)
    return collate(ids, np.array([0, 9, 24]), np.array([0, 1, 2]), {}, [0, 1], pad_id=adapted.base.pad_id)


def family(module: Module) -> set[str]:
    """The method families a module uses."""
    return {family for method in module.methods.values() for family in families_of(method)}
