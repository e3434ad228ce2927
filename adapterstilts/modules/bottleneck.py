"""The bottleneck family through adapters: small networks behind a sublayer. The only file that imports adapters.

``adapters.init`` must come before peft, on the bare encoder (after a peft injection it silently removes the LoRA).
Its own training switches are not used: they train every module of a stack and undo merges.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterstilts.encoder.upcast import Raise, upcasts
from adapterstilts.errors import RecipeError, StoreError
from adapterstilts.modules.fusion import Product
from adapterstilts.modules.methods import layers_of, require_library
from adapterstilts.settings import MethodSettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter.safetensors"
Adding = Callable[[str, "Sublayer", Tensor], Tensor | None]  # (path, sublayer, h) -> what is added to h


def prepare(model: nn.Module) -> None:
    """Make the encoder able to hold bottlenecks.

    Raises:
        MissingDependency: the adapters package is absent.
    """
    require_library("bottleneck")
    import logging

    import adapters

    # Its warning "none are activated" fires while modules are being added, before we activate them.
    logging.getLogger("adapters").setLevel(logging.ERROR)
    linears = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    for path, linear in linears.items():
        model.set_submodule(path, nn.Linear(linear.in_features, linear.out_features, device="meta"))
    adapters.init(model)
    # It wraps every linear layer for a LoRA of its own, which is not used, and knows only ordinary weights.
    for path, linear in linears.items():
        model.set_submodule(path, linear)
    _keep_precision(model)


def _keep_precision(model: Any) -> None:
    """Prefixes are in fp32 whatever the base is in; the attention gets them in the base's precision."""
    from adapters.methods.prefix_tuning import PrefixTuningLayer

    def prefix(plain: Callable[..., Any]) -> Callable[..., Any]:
        def forward(keys: Tensor, values: Tensor, hidden: Tensor, mask: Any = None, **options: Any) -> Any:
            longer, beside, covered = plain(keys, values, hidden, mask, **options)
            return longer.to(keys.dtype), beside.to(values.dtype), covered if mask is None else covered.to(mask.dtype)

        return forward

    for layer in model.modules():
        if isinstance(layer, PrefixTuningLayer):
            layer.forward = prefix(layer.forward)


def inject(model: Any, slot: str, method: MethodSettings, dropout: float) -> None:
    """Add one bottleneck under the name ``slot``; it is neither active nor trainable yet."""
    if "dim" in method.parameters:
        _check_hypercomplex(int(model.config.hidden_size), method)
    model.add_adapter(slot, config=_config(len(model.encoder.layer), method, dropout))


def tensors(model: nn.Module, slot: str) -> dict[str, nn.Parameter]:
    """The parameters of one bottleneck by '<path of the layer>.<name>', without the slot in the path."""
    # A layer that has run holds what it shares with others under names of its own; `bare_name` knows the one name.
    every = model.named_parameters(remove_duplicate=False)
    return {bare: parameter for name, parameter in every if (bare := bare_name(name, slot)) is not None}


# Where a module's parameters are besides `<layer>.adapters.<slot>`: on the embeddings, shared by the layers, before
# the keys.
_HOLDERS = ("invertible_adapters.", "shared_parameters.", "prefix_tuning.prefix_tunings.")


def bare_name(name: str, slot: str) -> str | None:
    """A parameter's name without the slot; None for those of other modules."""
    behind = f".adapters.{slot}."
    if behind in name:
        return None if name.endswith(".phm_rule") else name.replace(behind, ".")
    return next((holder + name.removeprefix(f"{holder}{slot}.") for holder in _HOLDERS
                 if name.startswith(f"{holder}{slot}.")), None)  # fmt: skip


def _full(bare: str, slot: str) -> str:
    """The library's name of a parameter of ``slot``."""
    holder = next((holder for holder in _HOLDERS if bare.startswith(holder)), None)
    if holder is not None:
        return f"{holder}{slot}.{bare.removeprefix(holder)}"
    return re.sub(r"\.(adapter_|gate\.)", rf".adapters.{slot}.\1", bare, count=1)


def start(model: nn.Module, slot: str, method: MethodSettings) -> None:
    """Nothing in a bottleneck derives from W."""


def stored(model: nn.Module, slot: str, method: MethodSettings) -> tuple[MethodSettings, dict[str, Tensor]]:
    """The module as it is kept."""
    return method, {name: parameter.detach() for name, parameter in tensors(model, slot).items()}


def fill(parameter: Tensor, stored: Tensor) -> None:
    """A parameter becomes the stored one."""
    parameter.copy_(stored)


def initialise(method: MethodSettings, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """Random on the way down, zero on the way up: a fresh bottleneck is exactly the identity.

    Prefixes are random, as in the library: no start of theirs leaves the attention as it was.
    """
    place, _, kind = name.rpartition(".")
    if name.startswith("prefix_tuning."):
        if place.endswith("wte"):
            parameter.normal_(0.0, 1.0, generator=generator)
        elif kind == "weight":
            bound = 1 / math.sqrt(parameter.shape[1])
            parameter.uniform_(-bound, bound, generator=generator)
        else:
            parameter.zero_()
    elif kind == "phm_rule":
        parameter.normal_(0.0, 0.01, generator=generator)
    elif kind in ("W_left", "W_right") and not ("adapter_up" in place and kind == "W_right"):
        bound = math.sqrt(6 / (parameter.shape[1] + parameter.shape[2]))
        parameter.uniform_(-bound, bound, generator=generator)
    elif kind == "weight" and ("adapter_down" in place or place.endswith((".F.0", ".G.0"))):
        parameter.normal_(0.0, 0.02, generator=generator)
    else:
        parameter.zero_()


@contextmanager
def running(model: Any) -> Iterator[None]:
    """What the library's layers look up while they run, for calls that do not go through the model's own forward."""
    from adapters.context import ForwardContext

    with ForwardContext(None) as context:
        context.shared_parameters = model.shared_parameters
        yield


def activate(model: Any, slots: Sequence[str]) -> None:
    """Let these modules map the embeddings, put their prefixes before the keys and find what their layers share.

    What they add behind the sublayers is composed by ``compose``.
    """
    from adapters.composition import Stack

    maps = [model.invertible_adapters[slot] for slot in slots if slot in model.invertible_adapters]

    def mapped(states: Tensor, rev: bool = False) -> Tensor:
        found = states.float()
        for one in reversed(maps) if rev else maps:
            found = one(found, rev=rev)
        return found.to(states.dtype)

    # The library's own takes the lowest module's map alone.
    model.invertible_adapters_forward = mapped
    model.set_active_adapters(Stack(*slots) if slots else None)


def sublayers(model: nn.Module) -> dict[str, Any]:
    """The library's layer at the end of each sublayer, by its path."""
    from adapters.methods.bottleneck import BottleneckLayer

    return {path: layer for path, layer in model.named_modules() if isinstance(layer, BottleneckLayer)}


def compose(layers: Mapping[str, Any], forward: Adding, *, lean: bool) -> None:
    """Replace the library's composition by ``norm(h + forward(path, sublayer, h) + input)`` at every sublayer.

    Its own fuses only the top of a stack, loses the hidden state above a parallel bottleneck, and mixes precisions.
    ``lean`` as of ``upcasts``.
    """
    for path, layer in layers.items():
        layer.bottleneck_layer_forward = _end(path, layer, forward, lean)


class Sublayer:
    """The end of one sublayer in a forward pass: bottlenecks read its output h and, some of them, its input."""

    def __init__(self, adapters: Any, before: Tensor, norm: nn.LayerNorm, raised: Raise) -> None:
        self.adapters = adapters
        self.before = before
        self.norm = norm
        self.raised = raised

    def at(self, tokens: Tensor) -> Sublayer:
        """The same for some of the tokens of (1, T, d)."""
        return Sublayer(self.adapters, self.before.index_select(1, tokens), self.norm, self.raised)

    def holds(self, slot: str) -> bool:
        """Whether a module sits here."""
        return slot in self.adapters

    def reads(self, slot: str, state: Tensor) -> Tensor:
        """What goes into a module's down-projection when the sublayer's output is ``state``, in fp32."""
        found: Tensor = self.adapters[slot].pre_forward(state, self.before, self._norm)[0]
        return self.raised(found)

    def added(self, slot: str, state: Tensor) -> Tensor:
        """g(h) - h of one module."""
        found: Tensor = self.adapters[slot](self.reads(slot, state), residual_input=0.0)[0]
        return found

    def product(self, slot: str, state: Tensor) -> Product | None:
        """g(h) - h before its up-projection; None where more than that follows, or its up-projection is no matrix."""
        module = self.adapters[slot]
        plain = type(module).__name__ == "Adapter" and isinstance(module.adapter_up, nn.Linear)
        dropped = module.training and module.dropout.p > 0
        learned = isinstance(module.scaling, Tensor) or module.use_gating or module.add_layer_norm_after
        if not plain or dropped or learned or hasattr(module, "DropPath"):
            return None
        inner = module.adapter_down(self.reads(slot, state)) * module.scaling
        return Product(inner, module.adapter_up.weight, module.adapter_up.bias * module.scaling)

    def _norm(self, state: Tensor) -> Tensor:
        normed: Tensor = self.norm(state.to(self.norm.weight.dtype))
        return normed


def _end(path: str, layer: Any, forward: Adding, lean: bool) -> Callable[[Tensor, Tensor, nn.LayerNorm], Tensor]:
    def composed(hidden: Tensor, before: Tensor, norm: nn.LayerNorm) -> Tensor:
        # In the base's precision: its sums round alike there, and only what a module reads becomes fp32.
        with upcasts(hidden, lean) as raised:
            sublayer = Sublayer(layer.adapters, before, norm, raised)
            added = forward(path, sublayer, hidden) if layer.adapters else None
        after = hidden if added is None else (hidden + added).to(hidden.dtype)
        output: Tensor = norm(after + before)
        return output

    return composed


def save(model: Any, slot: str, method: MethodSettings, directory: Path) -> None:
    """Write the module as plain adapters reads it (``load_adapter(directory, use_safetensors=True)``)."""
    from adapters.configuration.model_adapters_config import build_full_config

    config = build_full_config(model.adapters_config.get(slot), model.config, model_class=type(model).__name__)
    write(config, stored(model, slot, method)[1], slot, directory)


def write(config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str, directory: Path) -> None:
    """An adapters directory of a module called ``name``.

    Not the library's own: it cannot write what layers share, and of a bare encoder it forgets Compacter's rule.
    """
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps({**config, "name": name}, indent=2, sort_keys=True))
    state = {_full(bare, name): tensor.contiguous().cpu() for bare, tensor in tensors.items()}
    save_file(state, directory / WEIGHTS, metadata={"format": "pt"})


def read(directory: Path) -> dict[str, Tensor]:
    """Tensors of a stored bottleneck, named as ``tensors`` names them.

    Raises:
        StoreError: a truncated or missing weight file.
    """
    from safetensors.torch import load_file

    path = directory / WEIGHTS
    try:
        slot = json.loads((directory / CONFIG).read_text())["name"]
        stored = load_file(path)
    except Exception as error:
        raise StoreError(
            "a weight file that cannot be read", where=str(path), why=str(error).splitlines()[0]
        ) from error
    return {bare_name(name, slot) or name: tensor for name, tensor in stored.items()}


def library_config(name: str) -> Any:
    """The configuration that the library itself has under a method's name."""
    from adapters import AdapterConfig

    return AdapterConfig.load(name)


def _config(layers: int, method: MethodSettings, dropout: float) -> Any:
    from adapters import AdapterConfig

    chosen = method.parameters
    kept = layers_of(method, layers)
    general = {
        "non_linearity": chosen["activation"],
        "leave_out": [layer for layer in range(layers) if layer not in kept],
        "dropout": dropout,
    }
    if method.name == "prefix_tuning":
        sizes = {"prefix_length": int(chosen["length"]), "bottleneck_size": int(chosen["inner"])}
        return AdapterConfig.load(method.name, **general, **sizes, cross_prefix=False)
    own = {"reduction_factor": chosen["reduction"], "init_weights": "bert"}
    own |= {"phm_dim": int(chosen["dim"])} if "dim" in chosen else {}
    own |= {"inv_adapter_reduction_factor": chosen["inv_reduction"]} if "inv_reduction" in chosen else {}
    return AdapterConfig.load(method.name, **general, **own)


def _check_hypercomplex(width: int, method: MethodSettings) -> None:
    dim, inner = int(method.parameters["dim"]), int(width // method.parameters["reduction"])
    if width % dim or inner % dim or not inner:
        raise RecipeError(
            f"{method.name} of {width} / {method.parameters['reduction']} = {inner} dimensions",
            why=f"they are cut into {dim} equal parts",
            fix=f"reduction: {max(1, width // (4 * dim))}",
        )
