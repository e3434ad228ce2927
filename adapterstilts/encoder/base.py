"""Loading a frozen base: weights, precision, tokenizer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapterstilts.encoder.reference import locate
from adapterstilts.errors import DataError

Precision = Literal["fp32", "bf16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
ARCHITECTURES = ("xlm-roberta", "roberta")


def device() -> torch.device:
    """Where stages compute: the GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Base:
    """A frozen encoder without pooler, and where it came from."""

    ref: str
    directory: Path
    model: Any  # XLMRobertaModel or RobertaModel, parameters frozen
    pad_id: int

    @property
    def layers(self) -> int:
        return int(self.model.config.num_hidden_layers)

    @property
    def width(self) -> int:
        return int(self.model.config.hidden_size)


def fetch(ref: str) -> Path:
    """The local directory of a base; a Hub repository is downloaded into the Hub's own cache first."""
    reference = locate(ref)
    if reference.directory is not None:
        return reference.directory
    from huggingface_hub import snapshot_download

    try:
        files = ["*.json", "*.safetensors", "*.model"]
        return Path(snapshot_download(str(reference.repository), revision=reference.revision, allow_patterns=files))
    except Exception as error:
        raise DataError(
            f"the base `{ref}` cannot be fetched from the Hub",
            why=str(error).splitlines()[0],
            fix="give a local directory as `base:`, or run once with a network",
        ) from error


def load_base(ref: str, precision: Precision = "fp32") -> Base:
    """Load a base for feature extraction: scaled dot-product attention, no pooler, all parameters frozen.

    Raises:
        DataError: not found, unreadable weights, or an architecture other than XLM-R / RoBERTa.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    directory = fetch(ref)
    kind = json.loads((directory / "config.json").read_text()).get("model_type")
    if kind not in ARCHITECTURES:
        raise DataError(
            f"a base of type `{kind}`",
            where=str(directory / "config.json"),
            why=f"known are {', '.join(ARCHITECTURES)}",
        )
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(
            directory,
            add_pooling_layer=False,
            attn_implementation="sdpa",
            dtype=DTYPES[precision],
            use_safetensors=True,
            local_files_only=True,
        )
    except Exception as error:
        raise DataError(
            "the base's weights cannot be read", where=str(directory), why=str(error).splitlines()[0]
        ) from error
    model.requires_grad_(False)
    model.eval()
    return Base(ref, directory, model, pad_id=int(model.config.pad_token_id))


class VocabularyHead(nn.Module):
    """The base's own masked-LM head: dense, GELU, LayerNorm, and the tied word embeddings. Frozen."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        tensors = _head_tensors(base.directory)
        dense, norm = tensors["lm_head.dense.weight"], tensors["lm_head.layer_norm.weight"]
        self.dense = nn.Linear(dense.shape[1], dense.shape[0])
        self.norm = nn.LayerNorm(norm.shape[0], eps=base.model.config.layer_norm_eps)
        self.embeddings = base.model.get_input_embeddings()
        bias = tensors.get("lm_head.bias", tensors.get("lm_head.decoder.bias"))
        self.bias = nn.Parameter(torch.zeros(self.embeddings.num_embeddings) if bias is None else bias.float())
        state = {"dense.weight": dense, "dense.bias": tensors["lm_head.dense.bias"]}
        state |= {"norm.weight": norm, "norm.bias": tensors["lm_head.layer_norm.bias"]}
        self.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
        self.requires_grad_(False)
        # A method that maps the embeddings (MAD-X) is undone before their transpose; not a submodule of this head.
        self.encoder = (base.model,)

    def forward(self, hidden: Tensor) -> Tensor:
        """(n, d) -> (n, vocabulary)."""
        states = self.norm(nn.functional.gelu(self.dense(hidden.float())))
        undo = getattr(self.encoder[0], "invertible_adapters_forward", None)
        if undo is not None:
            states = undo(states[None], rev=True)[0]
        return nn.functional.linear(states, self.embeddings.weight.float(), self.bias)


def _head_tensors(directory: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys() if name.startswith("lm_head.")}  # noqa: SIM118
    if "lm_head.dense.weight" not in found:
        raise DataError("this base has no masked-LM head", where=str(directory), why="its weights hold no lm_head.*")
    return found
