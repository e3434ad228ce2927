"""Leaves as plain peft and plain adapters load them.

A leaf already lies on disk in its own library's format. A weight in the tree is folded into it, and a README says how
the libraries compose the parts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapterstilts.errors import RecipeError
from adapterstilts.modules import bottleneck, delta
from adapterstilts.modules.artifact import Module
from adapterstilts.modules.composition import Fuse, Leaf, Stack, Tree, simplify
from adapterstilts.modules.forward import fusion_key, fusions
from adapterstilts.modules.kinds import PLAIN
from adapterstilts.modules.methods import families_of, get_method, parts_of
from adapterstilts.modules.setups import alike, fusion_name, unlike_plain, write_fusion, write_setup

Library = Literal["peft", "adapterhub"]
FAMILY: Mapping[str, str] = {"peft": "delta", "adapterhub": "bottleneck"}


@dataclass(frozen=True)
class Part:
    """One exported leaf: its directory (relative), method, library, and the weight that was folded into it.

    ``fusion`` is the directory of the AdapterFusion that mixes it.
    """

    folder: str
    method: str
    library: Library
    weight: float
    fusion: str | None = None


def export_parts(module: Module, library: Library, out: Path, base: str) -> list[Part]:
    """Write every leaf of a module as its library loads it; one leaf fills ``out``, several one directory each.

    Args:
        base: name of the base, for the README and peft's configuration.

    Raises:
        RecipeError: no leaf of this library, a trained mixture, or a weight that cannot be folded in.
    """
    _check_fusions(module, library)
    order, mixed = _in_order(simplify(module.bound()))
    pieces = [(leaf, key, part) for leaf in order for key, part in parts_of(module.methods[leaf.name])]
    families = [get_method(method.name).family for _, _, method in pieces]
    if "weights" in families:
        raise RecipeError(
            f"a module on a base of its own weights cannot be exported to {library}",
            why="it is no part of the base that it names",
            fix="adapterstilts export merged",
        )
    if FAMILY[library] not in families:
        other = "adapterhub" if library == "peft" else "peft"
        raise RecipeError(
            f"nothing for {library} in this module",
            why=f"it is made of {', '.join(method.name for _, _, method in pieces)}",
            fix=f"adapterstilts export {other}",
        )
    folders = [f"{number}-{method.name}" for number, (_, _, method) in enumerate(pieces, start=1)]
    folders = folders if len(pieces) > 1 else ["."]
    groups: dict[str, list[str]] = {}  # by fusion, the folders that it mixes
    for (leaf, _, _), folder in zip(pieces, folders, strict=True):
        if leaf.name in mixed:
            groups.setdefault(fusion_key(mixed[leaf.name]), []).append(folder)
    parts = []
    for (leaf, key, method), family, folder in zip(pieces, families, folders, strict=True):
        shutil.copytree(module.directory / "leaves" / leaf.name / key, out / folder, dirs_exist_ok=True)
        if family == "delta":
            _finish_delta(out / folder, leaf.weight, method.name, base)
        fusion = fusion_name(groups[fusion_key(mixed[leaf.name])]) if leaf.name in mixed else None
        part = Part(folder, method.name, "peft" if family == "delta" else "adapterhub", leaf.weight, fusion)
        if family == "bottleneck":
            config = json.loads((out / folder / bottleneck.CONFIG).read_text())
            bottleneck.write(config, bottleneck.read(out / folder), _slot(part), out / folder)
        parts.append(part)
    for key, names in groups.items():
        tensors = {name: tensor for name, tensor in module.fusion().items() if name.startswith(f"{key}/")}
        config = json.loads((out / names[0] / bottleneck.CONFIG).read_text())
        write_fusion(config, tensors, names, out / fusion_name(names))
    if len([part for part in parts if part.library == "adapterhub"]) > 1:
        write_setup(_setup(parts), out)
    heads = sorted((module.directory / "heads").glob("*.safetensors"))
    for head in heads:
        (out / "heads").mkdir(exist_ok=True)
        shutil.copyfile(head, out / "heads" / head.name)
    own = [(leaf.name, method) for leaf, _, method in pieces if families_of(method) == {"bottleneck"}]
    fused = [method for name, method in own if name in mixed]
    reason = _sum_problem(parts) or unlike_plain([method for _, method in own], fused)
    text = readme(parts, base, [head.stem for head in heads], reason)
    (out / "README.md").write_text(text, encoding="utf-8")
    return parts


def _check_fusions(module: Module, library: Library) -> None:
    """Raise RecipeError unless every mixture is an AdapterFusion as plain adapters computes it."""
    for fusion in fusions(module.tree):
        methods = [module.methods[child.name] for child in fusion.children if isinstance(child, Leaf)]
        if library != "adapterhub" or fusion.how != "attention":
            why = f"plain peft and adapters have no place for its trained mixture (how={fusion.how})"
        elif len(methods) < len(fusion.children) or not alike(methods):
            why = "AdapterFusion of the plain library mixes single modules of one method on the same layers"
        else:
            continue
        fix = "export the modules that it mixes, each by its own name"
        raise RecipeError("a fusion cannot be exported", why=why, fix=fix)


def _in_order(tree: Tree) -> tuple[list[Leaf], dict[str, Fuse]]:
    """The leaves of a stack, bottom first, and by leaf the fusion that mixes it."""
    order: list[Leaf] = []
    mixed: dict[str, Fuse] = {}
    for child in tree.children if isinstance(tree, Stack) else (tree,):
        inside = child.children if isinstance(child, Fuse) else (child,)
        order += [leaf for leaf in inside if isinstance(leaf, Leaf)]
        if isinstance(child, Fuse):
            mixed |= {leaf.name: child for leaf in inside if isinstance(leaf, Leaf)}
    return order, mixed


def _finish_delta(folder: Path, weight: float, method: str, base: str) -> None:
    """Name the base in peft's configuration and scale the delta by its weight."""
    config = json.loads((folder / delta.CONFIG).read_text())
    config["base_model_name_or_path"] = base
    state = delta.read(folder)
    if weight != 1.0:
        if method not in PLAIN:
            raise RecipeError(f"a weighted {method} cannot be exported", why="its delta is not linear in one factor")
        state = {name: tensor * weight if ".lora_B." in name else tensor for name, tensor in state.items()}
    delta.write(config, state, folder)


def readme(parts: list[Part], base: str, heads: list[str], reason: str | None) -> str:
    """How the plain libraries load and compose the parts (the code is run by a test), or the reason why they cannot."""
    deltas = [part for part in parts if part.library == "peft"]
    bottlenecks = [part for part in parts if part.library == "adapterhub"]
    lines = ["from transformers import AutoModel", ""]
    lines += [f'model = AutoModel.from_pretrained("{base}", add_pooling_layer=False)']
    if bottlenecks:
        lines += ["", "import adapters", "", "adapters.init(model)  # before peft: afterwards it removes a LoRA"]
        if len(bottlenecks) > 1:
            lines.append('model.load_adapter_setup(".", use_safetensors=True, set_active=True)')
        else:
            (part,) = bottlenecks
            lines.append(f'model.load_adapter("{part.folder}", load_as="{_slot(part)}", use_safetensors=True)')
            lines.append(f'model.set_active_adapters("{_slot(part)}")')
    if deltas:
        first, *rest = deltas
        lines += ["", "from peft import PeftModel", ""]
        lines.append(f'model = PeftModel.from_pretrained(model, "{first.folder}", adapter_name="{_slot(first)}")')
        lines += [f'model.load_adapter("{part.folder}", adapter_name="{_slot(part)}")' for part in rest]
        if rest and reason is None:
            names = ", ".join(f'"{_slot(part)}"' for part in deltas)
            lines.append(f"model.base_model.set_adapter([{names}])  # the sum of the deltas; all count")
    lines.append("model.eval()")
    text = [f"# Exported by adapterstilts: {' + '.join(part.method for part in parts)} on {base}", ""]
    text += ["Run from this folder:", "", "```python", *lines, "```", ""]
    if reason is not None:
        text += ["Each part alone gives equal outputs. Together they are", f"{reason}.", ""]
        if not bottlenecks:
            text += ["`adapterstilts export merged` writes the sum.", ""]
    if any(part.weight != 1.0 for part in parts):
        text += ["Weights of the composition are multiplied into `lora_B`.", ""]
    if heads:
        text += [f"Heads ({', '.join(heads)}) lie in heads/ as safetensors; neither library places them.", ""]
    return "\n".join(text)


def _slot(part: Part) -> str:
    """What a part is called in its library."""
    return "module" if part.folder == "." else part.folder


def _setup(parts: list[Part]) -> list[str | list[str]]:
    """The bottlenecks from the bottom, those of one fusion together."""
    groups: dict[str, list[str]] = {}
    for part in parts:
        if part.library == "adapterhub":
            groups.setdefault(part.fusion or part.folder, []).append(part.folder)
    return [names if name not in names else name for name, names in groups.items()]


def _sum_problem(parts: list[Part]) -> str | None:
    """Why plain peft does not compute the sum of the deltas; None when it does."""
    deltas = [part.method for part in parts if part.library == "peft"]
    if len(deltas) > 1 and not all(method in PLAIN for method in deltas):
        return "a sum of deltas, which plain peft does not compute (it nests or multiplies DoRA and IA3)"
    return None
