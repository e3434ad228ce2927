"""Setups of plain adapters: a folder with a tree of bottlenecks, one folder each, and one for each AdapterFusion.

``model.load_adapter_setup(folder, use_safetensors=True, set_active=True)`` reads what is written here, and what
``save_adapter_setup`` wrote is read here. The library calls a fusion by the names it mixes, with commas between.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterstilts.errors import DataError
from adapterstilts.inside import why_outside
from adapterstilts.modules.composition import Fuse, Leaf, Stack, Tree
from adapterstilts.modules.methods import UNION
from adapterstilts.settings import MethodSettings

SETUP = "adapter_setup.json"
CONFIG, WEIGHTS = "adapter_fusion_config.json", "model_adapter_fusion.safetensors"
BOTH = ("double_seq_bn", "compacter")  # behind the attention, too
# What of a fusion's configuration decides its outputs; V behind or before the softmax is the same by associativity.
_OURS = {"key": True, "query": True, "query_before_ln": False, "residual_before": False, "temperature": False}


def unlike_plain(stack: Sequence[MethodSettings], fused: Sequence[MethodSettings]) -> str | None:
    """Why plain adapters does not compute a stack of bottlenecks as it is meant; None when it does.

    Args:
        stack: all of its modules, lowest first.
        fused: those of them that a fusion mixes.
    """
    names = [method.name for method in stack]
    if len(names) > 1 and "par_bn" in names:
        return "a stack with a parallel bottleneck, of which plain adapters loses the hidden state"
    if any(name.endswith("_inv") for name in names[1:]):
        return "a stack that maps the embeddings above its lowest module, which plain adapters does not do"
    if any(not _within(other, one) for one in fused for other in stack):
        return "a stack with modules where its fusion mixes none, and there plain adapters fails"
    return None


def _within(method: MethodSettings, other: MethodSettings) -> bool:
    """Whether one sits nowhere but where the other does."""
    here, there = (one.parameters.get("layers") for one in (method, other))
    deep = there is None or (here is not None and set(here) <= set(there))
    return deep and (method.name not in BOTH or other.name in BOTH)


def alike(methods: Sequence[MethodSettings]) -> bool:
    """Whether an AdapterFusion of these is the same there: a module that does not sit counts as zero only here."""
    places = {(method.name, str(method.parameters.get("layers"))) for method in methods}
    return len(places) == 1 and methods[0].name != UNION


def fusion_name(names: Sequence[str]) -> str:
    """What the library calls a fusion."""
    return ",".join(names)


# -- to the library ---------------------------------------------------------------------------------------------------


def write_setup(order: Sequence[str | Sequence[str]], directory: Path) -> None:
    """Say how the folders of ``directory`` stand on each other: names from the bottom, several of them fused."""

    def single(name: str) -> dict[str, Any]:
        return {"type": "single", "children": [name]}

    children = [
        single(item) if isinstance(item, str) else {"type": "Fuse", "children": list(map(single, item))}
        for item in order
    ]
    setup = {"adapter_setup": {"type": "Stack", "children": children}, "head_setup": None}
    (directory / SETUP).write_text(json.dumps(setup, indent=2))


def write_fusion(config: Mapping[str, Any], mixed: Mapping[str, Tensor], names: Sequence[str], directory: Path) -> None:
    """An AdapterFusion over modules of these names.

    Args:
        config: of one of the modules, which knows the model.
        mixed: '<fusion>/<path of the sublayer>/<name>' -> tensor.
    """
    from adapters import AdapterFusionConfig
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    name = fusion_name(names)
    own = {"config": AdapterFusionConfig.load("dynamic").to_dict(), "name": name, "adapter_names": list(names)}
    (directory / CONFIG).write_text(json.dumps({**config, **own}, indent=2, sort_keys=True))
    state = {}
    for full, tensor in mixed.items():
        _, path, inner = full.split("/")
        state[f"{path}.adapter_fusion_layer.{name}.{inner}"] = tensor.contiguous().cpu()
    save_file(state, directory / WEIGHTS, metadata={"format": "pt"})


# -- from the library -------------------------------------------------------------------------------------------------


def read_setup(directory: Path) -> Tree:
    """The tree over the names of the folders.

    Raises:
        DataError: not a setup, or a composition that says something else here.
    """
    where = str(directory / SETUP)
    try:
        plain = json.loads((directory / SETUP).read_text(encoding="utf-8"))["adapter_setup"]
        tree = _tree(plain, where)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError("it cannot be read", where=where, why=str(error)) from error
    return tree


def _tree(plain: Mapping[str, Any], where: str) -> Tree:
    kind, children = plain["type"], plain["children"]
    if kind == "single":
        (name,) = children
        if why := why_outside(name) or ("it is a path" if "/" in name else None):
            raise DataError(f"`{name}` is refused", where=where, why=why, fix="do not trust this folder")
        return Leaf(name)
    inner = tuple(_tree(child, where) for child in children)
    if kind == "Stack":
        return Stack(inner)
    if kind == "Fuse" and all(isinstance(child, Leaf) for child in inner):
        return Fuse(inner, "attention")
    why = "a fusion of compositions mixes other things there" if kind == "Fuse" else "Stack and Fuse are read"
    raise DataError(f"{kind} cannot be imported", where=where, why=why, fix="import its parts, and compose them here")


def read_fusion(directory: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """'<path of the sublayer>/<name>' -> tensor of the AdapterFusion over modules of these names.

    Raises:
        DataError: no such fusion, a pickle, or a configuration that computes something else.
    """
    from safetensors.torch import load_file

    place = directory / fusion_name(names)
    if not (place / WEIGHTS).is_file():
        why = "its weights are a pickle, which can run code" if any(place.glob("*.bin")) else None
        fix = "save_adapter_setup(..., use_safetensors=True)"
        raise DataError(f"no {WEIGHTS}", where=str(place), why=why, fix=fix)
    try:
        config = json.loads((place / CONFIG).read_text(encoding="utf-8"))["config"]
        stored = load_file(place / WEIGHTS)
    except Exception as error:
        raise DataError("it cannot be read", where=str(place), why=str(error).splitlines()[0]) from error
    for key, wanted in _OURS.items():
        if config.get(key, wanted) != wanted:
            what = f"an AdapterFusion with {key}: {config[key]} cannot be imported"
            raise DataError(what, where=str(place / CONFIG), why=f"how=attention has {key}: {wanted}")
    found = {}
    for full, tensor in stored.items():
        path, _, rest = full.partition(".adapter_fusion_layer.")
        inner = rest.removeprefix(f"{fusion_name(names)}.")
        found[f"{path[path.index('encoder.') :]}/{inner}"] = tensor.float()
    if not config.get("value", True):  # the static kind has no V
        for path in {name.partition("/")[0] for name in found}:
            found[f"{path}/value.weight"] = torch.eye(len(found[f"{path}/query.weight"]))
    return found
