"""Loading a frozen base: weights, precision, tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapterstilts.encoder.dropout import lean
from adapterstilts.encoder.precision import DTYPES, PACKED, give_back, require
from adapterstilts.encoder.reference import check_config, locate
from adapterstilts.encoder.vocabulary import WordEmbeddings, kept_ids
from adapterstilts.errors import DataError, StageFailed
from adapterstilts.settings import Precision


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
    precision: Precision = "fp32"
    compact: bool = False  # only some rows of the word embeddings are held

    @property
    def vocabulary(self) -> int:
        """Subwords, whether their embeddings are held or not."""
        return int(self.model.config.vocab_size)

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


def load_base(
    ref: str, precision: Precision = "fp32", *, used: Iterable[NDArray[Any]] | None = None, embeddings: str = "device"
) -> Base:
    """Load a base for feature extraction: scaled dot-product attention, no pooler, all parameters frozen.

    Weights are read one by one into their precision, so that loading takes no more memory than the loaded base.

    Args:
        used: arrays of all subwords that will be looked up; only their rows of the word embeddings are held. None: all.
        embeddings: ``cpu`` keeps the word embeddings there wherever the encoder goes.

    Raises:
        DataError: not found, unreadable weights, or an architecture other than XLM-R / RoBERTa.
        MissingDependency, StageFailed: a precision that cannot be had here.
    """
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModel

    require(precision, device())
    directory = fetch(ref)
    check_config(directory)
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    with init_empty_weights(include_buffers=False):
        model = AutoModel.from_config(
            config, add_pooling_layer=False, attn_implementation="sdpa", dtype=DTYPES[precision]
        )
    kept = None if used is None else torch.from_numpy(kept_ids(used, config))
    try:
        _fill(model, Weights(directory), precision, kept, embeddings == "cpu")
    except Exception as error:
        raise DataError(
            "the base's weights cannot be read", where=str(directory), why=str(error).splitlines()[0]
        ) from error
    lean(model)
    model.requires_grad_(False)
    model.eval()
    return Base(ref, directory, model, pad_id=int(config.pad_token_id), precision=precision, compact=kept is not None)


class Weights:
    """The tensors of a checkpoint, read one at a time."""

    def __init__(self, directory: Path) -> None:
        from safetensors import safe_open

        self.files: dict[str, tuple[Path, str]] = {}
        for path in sorted(directory.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    # A masked-LM checkpoint has the encoder inside; old ones name the norms as TensorFlow did.
                    bare = name.removeprefix("roberta.").replace(".gamma", ".weight").replace(".beta", ".bias")
                    self.files[bare] = (path, name)

    def __getitem__(self, name: str) -> Tensor:
        """A view of the file; it stays mapped only as long as the view lives."""
        from safetensors import safe_open

        path, stored = self.files[name]
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(stored)
        return tensor


def _fill(model: Any, weights: Weights, precision: Precision, kept: Tensor | None, stay: bool) -> None:
    dtype = DTYPES[precision]
    for path, module in list(model.named_modules()):
        if module is model.get_input_embeddings() and (kept is not None or stay):
            table = weights[f"{path}.weight"]
            rows = (table if kept is None else table[kept]).to(dtype, copy=kept is None)
            model.set_input_embeddings(WordEmbeddings(rows, kept, len(table), stay=stay))
        elif isinstance(module, nn.Linear) and precision in PACKED:
            packed = PACKED[precision](weights[f"{path}.weight"].float(), weights[f"{path}.bias"].float())
            model.set_submodule(path, packed)
            give_back()
        else:
            for name, parameter in module.named_parameters(recurse=False):
                tensor = weights[f"{path}.{name}"]
                if tensor.shape != parameter.shape:
                    raise ValueError(f"{path}.{name} is {tuple(tensor.shape)}, not {tuple(parameter.shape)}")
                setattr(module, name, nn.Parameter(tensor.to(dtype, copy=True), requires_grad=False))


class VocabularyHead(nn.Module):
    """The base's own masked-LM head: dense, GELU, LayerNorm, and the tied word embeddings. Frozen."""

    def __init__(self, base: Base) -> None:
        super().__init__()
        if base.compact:
            why = "any subword may be predicted, and only some embeddings are held"
            raise StageFailed("a masked-LM head on a compact base", why=why, fix="load the base without `used`")
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
        return nn.functional.linear(states, self.embeddings.weight.float().to(states.device), self.bias)


def _head_tensors(directory: Path) -> dict[str, Tensor]:
    weights = Weights(directory)
    found = {name: weights[name] for name in weights.files if name.startswith("lm_head.")}
    if "lm_head.dense.weight" not in found:
        raise DataError("this base has no masked-LM head", where=str(directory), why="its weights hold no lm_head.*")
    return found
