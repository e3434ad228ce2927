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
from adapterstilts.modules.methods import UNION, get_method, parts_of

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
    pieces = [(leaf, key, part.name) for leaf in order for key, part in parts_of(module.methods[leaf.name])]
    families = [get_method(method).family for _, _, method in pieces]
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
            why=f"it is made of {', '.join(method for _, _, method in pieces)}",
            fix=f"adapterstilts export {other}",
        )
    parts = []
    numbers = {fusion_key(fusion): f"fusion-{number}" for number, fusion in enumerate(mixed.values(), start=1)}
    for number, ((leaf, key, method), family) in enumerate(zip(pieces, families, strict=True), start=1):
        folder = "." if len(pieces) == 1 else f"{number}-{method}"
        shutil.copytree(module.directory / "leaves" / leaf.name / key, out / folder, dirs_exist_ok=True)
        if family == "delta":
            _finish_delta(out / folder, leaf.weight, method, base)
        own = numbers[fusion_key(mixed[leaf.name])] if leaf.name in mixed else None
        part = Part(folder, method, "peft" if family == "delta" else "adapterhub", leaf.weight, own)
        if family == "bottleneck":
            config = json.loads((out / folder / bottleneck.CONFIG).read_text())
            bottleneck.write(config, bottleneck.read(out / folder), _slot(part), out / folder)
        parts.append(part)
    for key, folder in numbers.items():
        inside = [part for part in parts if part.fusion == folder]
        tensors = {name: tensor for name, tensor in module.fusion().items() if name.startswith(f"{key}/")}
        config = json.loads((out / inside[0].folder / bottleneck.CONFIG).read_text())
        bottleneck.write_fusion(config, tensors, [_slot(part) for part in inside], out / folder)
    heads = sorted((module.directory / "heads").glob("*.safetensors"))
    for head in heads:
        (out / "heads").mkdir(exist_ok=True)
        shutil.copyfile(head, out / "heads" / head.name)
    (out / "README.md").write_text(readme(parts, base, [head.stem for head in heads]), encoding="utf-8")
    return parts


def _check_fusions(module: Module, library: Library) -> None:
    """Raise RecipeError unless every mixture is an AdapterFusion as plain adapters computes it."""
    for fusion in fusions(module.tree):
        methods = [module.methods[child.name] for child in fusion.children if isinstance(child, Leaf)]
        # Where a module does not sit, it counts as zero here and not at all there.
        places = {(method.name, str(method.parameters.get("layers"))) for method in methods}
        alike = len(methods) == len(fusion.children) and len(places) == 1
        if library == "adapterhub" and fusion.how == "attention" and alike and methods[0].name != UNION:
            continue
        why = f"plain peft and adapters have no place for its trained mixture (how={fusion.how})"
        if library == "adapterhub" and fusion.how == "attention":
            why = "AdapterFusion of the plain library mixes single modules of one method on the same layers"
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


def readme(parts: list[Part], base: str, heads: list[str]) -> str:
    """How the plain libraries load and compose the parts; the code is run by a test."""
    deltas = [part for part in parts if part.library == "peft"]
    bottlenecks = [part for part in parts if part.library == "adapterhub"]
    lines = ["from transformers import AutoModel", ""]
    lines += [f'model = AutoModel.from_pretrained("{base}", add_pooling_layer=False)']
    if bottlenecks:
        lines += ["", "import adapters", "", "adapters.init(model)  # before peft: afterwards it removes a LoRA"]
        for part in bottlenecks:
            name = _slot(part)
            lines.append(f'model.load_adapter("{part.folder}", load_as="{name}", use_safetensors=True)')
        groups: dict[str, list[str]] = {}
        for part in bottlenecks:
            groups.setdefault(part.fusion or part.folder, []).append(f'"{_slot(part)}"')
        fused = [folder for folder in groups if folder in {part.fusion for part in bottlenecks}]
        lines += [f'model.load_adapter_fusion("{folder}", use_safetensors=True)' for folder in fused]
        items = [f"Fuse({', '.join(n)})" if folder in fused else n[0] for folder, n in groups.items()]
        if fused or len(items) > 1:
            lines.append("from adapters.composition import Fuse, Stack")
        composed = items[0] if len(items) == 1 else f"Stack({', '.join(items)})"
        lines.append(f"model.set_active_adapters({composed})")
    if deltas:
        first, *rest = deltas
        lines += ["", "from peft import PeftModel", ""]
        lines.append(f'model = PeftModel.from_pretrained(model, "{first.folder}", adapter_name="{_slot(first)}")')
        lines += [f'model.load_adapter("{part.folder}", adapter_name="{_slot(part)}")' for part in rest]
        if rest and _composes(parts) is None:
            names = ", ".join(f'"{_slot(part)}"' for part in deltas)
            lines.append(f"model.base_model.set_adapter([{names}])  # the sum of the deltas; all count")
    lines.append("model.eval()")
    text = [f"# Exported by adapterstilts: {' + '.join(part.method for part in parts)} on {base}", ""]
    text += ["Run from this folder:", "", "```python", *lines, "```", ""]
    reason = _composes(parts)
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
    return "module" if part.folder == "." else "part" + part.folder.partition("-")[0]


def _composes(parts: list[Part]) -> str | None:
    """Why the plain libraries do not compute the parts together; None when they do."""
    deltas = [part.method for part in parts if part.library == "peft"]
    if len(deltas) > 1 and not all(method in PLAIN for method in deltas):
        return "a sum of deltas, which plain peft does not compute (it nests or multiplies DoRA and IA3)"
    others = [part.method for part in parts if part.library == "adapterhub"]
    if len(others) > 1 and "par_bn" in others:
        return "a stack with a parallel bottleneck, of which plain adapters loses the hidden state"
    if any(method.endswith("_inv") for method in others[1:]):
        return "a stack that maps the embeddings above its lowest module, which plain adapters does not do"
    return None
