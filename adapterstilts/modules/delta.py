"""The weight-delta family through peft: W x + sum of deltas at linear sites. Only here and in kinds peft is imported.

peft sums active LoRAs, which is what ``stack`` means, and on a base in fp32 its own forward is used for that. A tree
with a gate, a weight or another kind of delta, and any on a base in fewer bits, gets our forward at each site, on the
instance; peft's modules and files stay as they are.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adapterstilts.encoder.upcast import upcasts
from adapterstilts.errors import RecipeError, StoreError
from adapterstilts.modules.fusion import Product
from adapterstilts.modules.kinds import KINDS, PLAIN, Kind, Mapped, adalora_factors, remember, remembered
from adapterstilts.modules.methods import SITES, layers_of
from adapterstilts.settings import MethodSettings

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # what peft puts before the module paths of the model it wraps


def inject(model: nn.Module, slot: str, method: MethodSettings, dropout: float) -> None:
    """Add one delta module under the name ``slot``; it is neither active nor trainable yet."""
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        # peft warns of a second module on one model; that is what composition is.
        warnings.simplefilter("ignore", UserWarning)
        if method.name == "vera":
            # It keeps its projections on the tuner, so peft's usual entry refuses it; we hold them ourselves.
            from adapterstilts.modules.vera import Vera

            projections = Vera(model, _config(model, method, dropout), slot).projections
            # The next module's injection takes this one's projections away.
            for layer in _holding(model, slot):
                remember(layer, slot, *projections)
        else:
            inject_adapter_in_model(_config(model, method, dropout), model, adapter_name=slot)


Places = Mapping[str, list[Any]]  # what ``sites`` gives
Adding = Callable[[str, "Site", Tensor, Mapped], Tensor | None]  # (path, site, x, W x) -> what is added to W x


def sites(model: nn.Module) -> dict[str, list[Any]]:
    """Path of each adapted linear layer -> its peft layers from the outermost in; kinds of peft nest."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: dict[str, list[Any]] = {}
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer):
            found.setdefault(name.replace(".base_layer", ""), []).append(module)
    return found


def tensors(model: nn.Module, slot: str) -> dict[str, nn.Parameter]:
    """The parameters of one delta module by their names in plain peft: '<path>.lora_A.weight', '<path>.ia3_l'."""
    found = {}
    for path, layers in sites(model).items():
        for layer in layers:
            for container in layer.adapter_layer_names:
                held = getattr(layer, container, {})
                if slot not in held:
                    continue
                if isinstance(held[slot], nn.Parameter):
                    found[f"{path}.{container}"] = held[slot]
                else:
                    # DoRA's magnitude is a module here and a bare tensor in the file.
                    ending = "" if container == "lora_magnitude_vector" else ".weight"
                    found[f"{path}.{container}{ending}"] = held[slot].weight
    return found


def _holding(model: nn.Module, slot: str) -> list[Any]:
    """The peft layers that a module sits on."""
    return [
        layer
        for layers in sites(model).values()
        for layer in layers
        if any(slot in getattr(layer, container, {}) for container in layer.adapter_layer_names)
    ]


def start(model: nn.Module, slot: str, method: MethodSettings) -> None:
    """What a fresh module derives from the weights it sits on."""
    begin = KINDS[method.name].start
    if begin is not None:
        for layer in _holding(model, slot):
            begin(layer, slot)


def fill(parameter: Tensor, stored: Tensor) -> None:
    """A parameter becomes the stored one."""
    parameter.copy_(stored)


def initialise(method: MethodSettings, name: str, parameter: Tensor, generator: torch.Generator) -> None:
    """Set a fresh parameter so that the module adds nothing yet."""
    KINDS[method.name].initialise(name, parameter, generator)


def activate(places: Places, slots: list[str]) -> None:
    """Make exactly these modules count, as peft composes them. Gradients are set by the caller afterwards."""
    for layers in places.values():
        for layer in layers:
            layer._active_adapter = slots
            layer._disable_adapters = not slots
            layer.__dict__.pop("forward", None)


def is_plain(method: MethodSettings) -> bool:
    """Whether peft's own forward composes this kind as a sum."""
    return method.name in PLAIN


def compose(places: Places, forward: Adding, *, lean: bool) -> None:
    """Replace peft's forward by ``W x + forward(path, site, x, W x)`` at every site; ``lean`` as of ``upcasts``."""
    for path, layers in places.items():
        layers[0].forward = _site_forward(path, Site(layers), forward, lean)


class Site:
    """One adapted linear layer with all modules that sit on it."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self.base = layers[-1].base_layer
        self.in_features = int(self.base.in_features)

    def holds(self, slot: str) -> bool:
        """Whether a module sits here."""
        return any(slot in getattr(layer, name, {}) for layer in self.layers for name in layer.adapter_layer_names)

    def product(self, slot: str, x: Tensor) -> Product | None:
        """What a plain LoRA adds, before its up-projection, or None where it does not sit."""
        for layer in self.layers:
            if slot in getattr(layer, "lora_A", {}):
                inner = layer.lora_A[slot](layer.lora_dropout[slot](x)) * layer.scaling[slot]
                return Product(inner, layer.lora_B[slot].weight)
        return None

    def delta(self, slot: str, kind: Kind, x: Tensor, base: Mapped) -> Tensor | None:
        """What one module adds, or None where it does not sit."""
        for layer in self.layers:
            if slot in getattr(layer, kind.containers[0], {}):
                return kind.delta(layer, slot, x, base)
        return None


def _site_forward(path: str, site: Site, forward: Adding, lean: bool) -> Callable[[Tensor], Tensor]:
    def composed(x: Tensor) -> Tensor:
        result: Tensor = site.base(x)
        with upcasts(x, lean) as raised:
            added = forward(path, site, raised(x), lambda: raised(result))
            return result if added is None else (result + added).to(result.dtype)

    return composed


def factors(directory: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, scale * B) by module path of a stored LoRA, without a model.

    Raises:
        RecipeError: a delta that is no plain low-rank product (DoRA, IA3).
    """
    config = json.loads((directory / CONFIG).read_text())
    if config["peft_type"] != "LORA" or config.get("use_dora"):
        name = "DoRA" if config.get("use_dora") else config["peft_type"]
        raise RecipeError(f"a merge of {name}", why="its delta is no product of two factors", fix="stack or fuse it")
    alpha, rank = config["lora_alpha"], config["r"]
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    stored = read(directory)
    paths = sorted({name.rsplit(".lora_", 1)[0] for name in stored})
    return {p: (stored[f"{p}.lora_A.weight"], stored[f"{p}.lora_B.weight"] * scale) for p in paths}


def stored(model: nn.Module, slot: str, method: MethodSettings) -> tuple[MethodSettings, dict[str, Tensor]]:
    """The module as it is kept.

    What started from W is a plain LoRA of twice the rank, B A - B0 A0; what chose its ranks, one of the largest rank.
    """
    if method.name == "adalora":
        return _open_directions(model, slot, method)
    found = {name: parameter.detach() for name, parameter in tensors(model, slot).items()}
    if method.name != "pissa":
        return method, found
    for path, layers in sites(model).items():
        for layer in layers:
            if slot in getattr(layer, "lora_A", {}):
                down, up = remembered(layer, slot)
                a, b = f"{path}.lora_A.weight", f"{path}.lora_B.weight"
                found[a] = torch.cat([found[a], down.to(found[a].device)])
                found[b] = torch.cat([found[b], -up.to(found[b].device)], dim=1)
    chosen = method.parameters
    twice = {**chosen, "r": 2 * int(chosen["r"]), "alpha": 2 * chosen["alpha"]}
    return MethodSettings(name="lora", parameters=twice), found


def _open_directions(model: nn.Module, slot: str, method: MethodSettings) -> tuple[MethodSettings, dict[str, Tensor]]:
    factors = {}
    for path, layers in sites(model).items():
        for layer in layers:
            if slot in getattr(layer, "lora_E", {}):
                down, up = adalora_factors(layer, slot)
                kept = layer.lora_E[slot].detach().flatten() != 0
                factors[path] = down.detach()[kept], up.detach()[:, kept]
    rank = max(1, *(len(down) for down, _ in factors.values()))
    found = {}
    for path, (down, up) in factors.items():
        missing = rank - len(down)
        found[f"{path}.lora_A.weight"] = torch.cat([down, down.new_zeros(missing, down.shape[1])])
        found[f"{path}.lora_B.weight"] = torch.cat([up, up.new_zeros(len(up), missing)], dim=1)
    return low_rank(rank, method.parameters["layers"], method.parameters["sites"]), found


def save(model: nn.Module, slot: str, method: MethodSettings, directory: Path) -> None:
    """Write the module as plain peft reads it."""
    kept, found = stored(model, slot, method)
    write(_config(model, kept, 0.0).to_dict(), found, directory)


def write(config: Mapping[str, Any], state: Mapping[str, Tensor], directory: Path) -> None:
    """A peft adapter directory from a configuration and tensors by module path."""
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    plain = {k: str(v.value) if hasattr(v, "value") else v for k, v in plain.items()}
    plain["inference_mode"] = True
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps(plain, indent=2, sort_keys=True, default=str))
    weights = {PREFIX + name: tensor.contiguous().cpu() for name, tensor in state.items()}
    save_file(weights, directory / WEIGHTS, metadata={"format": "pt"})


def read(directory: Path) -> dict[str, Tensor]:
    """Tensors by module path of a stored delta module.

    Raises:
        StoreError: a truncated or missing weight file.
    """
    path = directory / WEIGHTS
    try:
        stored = load_file(path)
    except Exception as error:
        raise StoreError(
            "a weight file that cannot be read", where=str(path), why=str(error).splitlines()[0]
        ) from error
    return {name.removeprefix(PREFIX): tensor for name, tensor in stored.items()}


def low_rank(rank: int, layers: list[int] | None, chosen: list[str]) -> MethodSettings:
    """The method of a merged module: LoRA with scale 1 at the given rank."""
    parameters = {"r": rank, "alpha": rank, "sites": chosen, "layers": layers}
    return MethodSettings(name="lora", parameters=parameters)


def _config(model: Any, method: MethodSettings, dropout: float) -> Any:
    chosen = method.parameters
    numbers = "|".join(map(str, layers_of(method, len(model.encoder.layer))))
    paths = [SITES[site].replace(".", r"\.") for site in chosen["sites"]]

    def expression(some: list[str]) -> str:
        return rf"(.*\.)?encoder\.layer\.({numbers})\.({'|'.join(some)})"

    scaled = [site for site in chosen["sites"] if site in chosen.get("inputs", ())]
    inputs = [SITES[site].replace(".", r"\.") for site in scaled]
    # peft refuses an empty feed-forward list; a pattern that matches nothing says the same.
    return KINDS[method.name].config(method, expression(paths), expression(inputs) if inputs else "^$", dropout)
