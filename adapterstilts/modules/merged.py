"""A module folded into its base: a plain transformers checkpoint with equal outputs, where the tree allows it.

A full module gives its weights as they are.
Every delta is affine in x, and so is a weighted sum of deltas: the whole site is W' x + b'. W' and b' are read off the
live site by its values on the unit vectors and on zero, whatever kinds of deltas it holds. What depends on the input
(a gate) or stands behind a sublayer (a bottleneck) is no such map and is refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapterstilts.encoder.base import Base
from adapterstilts.encoder.reference import TOKENIZER_FILES
from adapterstilts.errors import RecipeError
from adapterstilts.modules import full
from adapterstilts.modules.artifact import Module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.forward import fusions
from adapterstilts.modules.methods import rows_of

CLASSES = {"xlm-roberta": "XLMRoberta", "roberta": "Roberta"}
# Our head's layers by the names transformers gives the same function (pooling `cls`).
HEADS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "classification": ("ForSequenceClassification", {"dense": "classifier.dense", "out": "classifier.out_proj"}),
    "multiple_choice": ("ForMultipleChoice", {"dense": "roberta.pooler.dense", "out": "classifier"}),
    "tagging": ("ForTokenClassification", {"out": "classifier"}),
    "span": ("ForQuestionAnswering", {"out": "qa_outputs"}),
}
NAMES = (*TOKENIZER_FILES, "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")


@dataclass(frozen=True)
class Checkpoint:
    """What was written: the transformers class, how many linear maps changed, and the head that is in it."""

    architecture: str
    changed: int
    head: str | None


def why_not(module: Module) -> str | None:
    """The reason why a module is no change of weights alone; None when it is."""
    rows = [row for method in module.methods.values() for row in rows_of(method)]
    bottlenecks = sorted({row.name for row in rows if row.family == "bottleneck"})
    if bottlenecks:
        return f"{', '.join(bottlenecks)} is a network of its own between the layers, no change of their weights"
    gates = [fusion for fusion in fusions(module.tree) if fusion.how != "weights"]
    return f"fuse with how={gates[0].how} mixes by the input, so there is no one matrix" if gates else None


@torch.no_grad()
def folded(adapted: Adapted) -> dict[str, tuple[Tensor, Tensor]]:
    """(W', b') of every adapted linear map by its path in the encoder."""
    adapted.train_mode(False)
    found = {}
    for path, layers in adapted.sites.items():
        width = int(layers[-1].base_layer.in_features)
        bias = layers[0](torch.zeros(1, width))[0]
        found[path] = ((layers[0](torch.eye(width)) - bias).T.contiguous(), bias)
    return found


def export_merged(module: Module, base: Base, adapted: Adapted, out: Path, head: str | None = None) -> Checkpoint:
    """Write the base with the module folded in, its tokenizer and, if named, one of the module's heads.

    Without a head the checkpoint keeps what the base has (its masked-LM head).

    Raises:
        RecipeError: a module that is no change of weights, or a head that transformers has no class for.
    """
    reason = why_not(module)
    if reason is not None:
        raise RecipeError(
            "this module cannot become a plain checkpoint",
            why=reason,
            fix="adapterstilts export peft, or export adapterhub, keeps the modules apart",
        )
    config = json.loads((base.directory / "config.json").read_text(encoding="utf-8"))
    state: dict[str, Tensor] = {}
    for file in sorted(base.directory.glob("*.safetensors")):
        state |= {_whole(name): tensor for name, tensor in load_file(file).items()}
    if adapted.whole:
        state |= {_whole(path): parameter.detach() for path, parameter in full.replaced(adapted.model).items()}
    changed = folded(adapted)
    for path, (weight, bias) in changed.items():
        for name, tensor in ((f"roberta.{path}.weight", weight), (f"roberta.{path}.bias", bias)):
            state[name] = tensor  # in fp32: rounded to a base in half precision, outputs would differ
    config = {key: value for key, value in config.items() if key != "torch_dtype"} | {"dtype": "float32"}
    if head is not None:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("lm_head.")}
        state |= _with_head(module, head, config)
    out.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    (out / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
    for name in NAMES:
        if (base.directory / name).is_file():
            shutil.copyfile(base.directory / name, out / name)
    architecture = str((config.get("architectures") or [CLASSES[config["model_type"]] + "Model"])[0])
    return Checkpoint(architecture, len(changed), head)


def _whole(name: str) -> str:
    """Tensor names with the prefix that every class with a head uses."""
    return name if name.startswith(("roberta.", "lm_head.", "classifier.")) else f"roberta.{name}"


def has_class(about: Mapping[str, Any]) -> bool:
    """Whether transformers has a class with this head."""
    return about["format"] in HEADS and about.get("pool", "cls") == "cls"


def _with_head(module: Module, name: str, config: dict[str, Any]) -> dict[str, Tensor]:
    about = module.heads.get(name)
    if about is None:
        known = ", ".join(module.heads) or "none"
        raise RecipeError(f"the module has no head `{name}`", why=f"its heads: {known}")
    if not has_class(about):
        why = f"it is {about['format']} with pooling {about.get('pool', 'cls')}"
        raise RecipeError(f"transformers has no class for the head `{name}`", why=why, fix="--head none")
    ending, layers = HEADS[about["format"]]
    config["architectures"] = [CLASSES[config["model_type"]] + ending]
    if about["format"] in ("classification", "tagging"):
        config["id2label"] = {str(index): label for index, label in enumerate(about["labels"])}
        config["label2id"] = {label: index for index, label in enumerate(about["labels"])}
    renamed = {}
    for path, tensor in module.head(name).items():
        layer, _, ending = path.rpartition(".")
        renamed[f"{layers[layer]}.{ending}"] = tensor
    return renamed
