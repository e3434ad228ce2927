"""How large bases and modules are, from a config.json alone: nothing is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from adapterstilts.encoder.reference import locate
from adapterstilts.errors import DataError
from adapterstilts.modules.methods import layers_of, parts_of
from adapterstilts.settings import MethodSettings

BYTES = 4  # modules are kept in fp32


@dataclass(frozen=True)
class Shape:
    """The numbers of an encoder that decide parameter counts."""

    ref: str
    width: int
    feedforward: int
    layers: int
    vocabulary: int
    positions: int

    @property
    def parameters(self) -> int:
        """Of the frozen encoder without pooler."""
        return (self.vocabulary + self.positions + 3) * self.width + self.layers * self.layer_parameters

    @property
    def layer_parameters(self) -> int:
        """Of one layer."""
        d, f = self.width, self.feedforward
        return 4 * (d * d + d) + (d * f + f) + (f * d + d) + 4 * d


# Published configurations, so that the production bases can be explained without a network.
_PUBLISHED = {
    "FacebookAI/xlm-roberta-base": (768, 3072, 12, 250002, 514),
    "FacebookAI/xlm-roberta-large": (1024, 4096, 24, 250002, 514),
    "facebook/xlm-roberta-xl": (2560, 10240, 36, 250880, 514),  # recalled; its config.json is read where it is cached
}


def base_shape(ref: str) -> Shape:
    """The shape of a base from its config.json, or of a published one.

    Raises:
        DataError: not there, and not one whose shape is known.
    """
    found = locate(ref)
    if found.directory is None:
        if found.repository in _PUBLISHED:
            return Shape(ref, *_PUBLISHED[str(found.repository)])
        path = _cached_config(str(found.repository), found.revision)
    else:
        path = found.directory / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size", "max_position_embeddings")
    try:
        return Shape(ref, *(int(config[name]) for name in names))
    except KeyError as error:
        raise DataError(f"the base has no {error}", where=str(path), why="it is no encoder of the XLM-R kind") from None


def _cached_config(repository: str, revision: str | None) -> Path:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repository, "config.json", revision=revision)
    if isinstance(path, str):
        return Path(path)
    raise DataError(
        f"the shape of `{repository}` is not known here", why="its config.json is not cached", fix="--base DIR"
    )


def parameter_count(method: MethodSettings, shape: Shape) -> int:
    """Parameters of one module of a resolved method."""
    return sum(_count(part, shape) for _, part in parts_of(method))


def _count(method: MethodSettings, shape: Shape) -> int:
    chosen = method.parameters
    layers = len(layers_of(method, shape.layers))
    d, f = shape.width, shape.feedforward
    if method.name == "full":
        embeddings = (shape.vocabulary + shape.positions + 1) * d + 2 * d
        return (embeddings if chosen["embeddings"] else 0) + layers * shape.layer_parameters
    sides = {"intermediate": (d, f), "output": (f, d)}  # every other site is d x d
    sites = [(site, *sides.get(site, (d, d))) for site in chosen.get("sites", ())]
    if method.name in ("lora", "rslora", "pissa"):
        return layers * sum(int(chosen["r"]) * (a + b) for _, a, b in sites)
    if method.name == "adalora":
        return layers * sum(int(chosen["init_r"]) * (a + b + 1) for _, a, b in sites)
    if method.name == "dora":
        return layers * sum(int(chosen["r"]) * (a + b) + b for _, a, b in sites)
    if method.name == "vera":
        return layers * sum(int(chosen["r"]) + b for _, _, b in sites)
    if method.name == "ia3":
        return layers * sum(a if site in chosen["inputs"] else b for site, a, b in sites)
    if method.name == "prefix_tuning":
        inner, out = int(chosen["inner"]), layers * 2 * d
        return int(chosen["length"]) * d + (d * inner + inner) + (inner * out + out)
    inner = max(1, int(d // chosen["reduction"]))
    places = layers * (1 if method.name in ("seq_bn", "seq_bn_inv", "par_bn") else 2)
    if method.name == "compacter":
        return places * 3 * (d + inner) + int(chosen["dim"]) ** 3
    half = d // 2
    coupled = half // int(chosen["inv_reduction"]) if "inv_reduction" in chosen else 0
    mapped = 2 * (2 * half * coupled + coupled + half) if coupled else 0
    return places * (2 * d * inner + inner + d) + mapped


def stored_bytes(method: MethodSettings, shape: Shape) -> int:
    """Bytes of a stored module: what trains, and of PiSSA also where it started."""
    return sum(BYTES * _count(part, shape) * (2 if part.name == "pissa" else 1) for _, part in parts_of(method))
