"""The methods by name: family, default parameters, default learning rate. Torch-free; the libraries come in attach.

Families (design: docs/architecture.md): ``delta`` adds to the weights of linear sites (peft), ``bottleneck`` adds small
networks behind a sublayer (adapters), ``weights`` takes the place of the base's own. A new method is one row here when
its library already knows it.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from adapterstilts.errors import MissingDependency, RecipeError
from adapterstilts.modules.parameters import check_values
from adapterstilts.settings import MethodSettings

Family = Literal["delta", "bottleneck", "weights"]
UNION = "union"
LIBRARIES: Mapping[Family, str] = {"delta": "peft", "bottleneck": "adapterhub"}  # whose plain form a part is stored in

# Where a delta can sit, as the paths inside one encoder layer of XLM-R.
SITES: Mapping[str, str] = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
}


@dataclass(frozen=True)
class Method:
    """One method. ``defaults`` holds every parameter it takes; ``None`` in ``layers`` means all layers.

    Attributes:
        family: None of a union, whose parts have theirs.
        fuses: it may be mixed with others.
        merges: how several of it become one without training.
        fresh_is_base: before its first step it changes nothing.
        packs: it runs without padding.
    """

    name: str
    family: Family | None
    summary: str
    learning_rate: float
    defaults: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    fuses: bool = True
    merges: tuple[str, ...] = ()
    fresh_is_base: bool = True
    packs: bool = True


_DELTA = {"r": 8, "alpha": 16, "sites": tuple(SITES), "layers": None}
_SCALED = {"sites": ("key", "value", "output"), "inputs": ("intermediate", "output"), "layers": None}
_SUMS = ("cat", "svd", "linear", "ties", "dare_ties", "dare_linear", "magnitude", "average", "search")
_MEAN = ("average",)
_BOTTLENECK = {"reduction": 16, "activation": "relu", "layers": None}

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("lora", "delta", "low-rank update W + s B A", 3e-4, _DELTA, "Hu et al. 2021, arXiv 2106.09685",
               merges=_SUMS),
        Method("rslora", "delta", "LoRA scaled by alpha / sqrt(r)", 3e-4, _DELTA,
               "Kalajdzievski 2023, arXiv 2312.03732", merges=_SUMS),
        Method("pissa", "delta", "LoRA that starts at the largest directions of W; stored as LoRA of rank 2 r", 1e-4,
               _DELTA, "Meng et al. 2024, arXiv 2404.02948", merges=_SUMS),
        Method("adalora", "delta", "LoRA that spends its ranks where they matter; stored as LoRA of the largest", 3e-4,
               {**_DELTA, "init_r": 12, "warmup": 0.1, "cooldown": 0.3, "every": 1, "orthogonal": 0.5},
               "Zhang et al. 2023, arXiv 2303.10512", merges=tuple(how for how in _SUMS if how != "linear")),
        Method("vera", "delta", "trained scales around frozen random projections", 3e-3,
               {"r": 256, "key": 0, "sites": tuple(SITES), "layers": None}, "Kopiczko et al. 2023, arXiv 2310.11454"),
        Method("dora", "delta", "LoRA on the direction, with a trained magnitude", 3e-4, _DELTA,
               "Liu et al. 2024, arXiv 2402.09353"),
        Method("ia3", "delta", "one factor per key, value and feed-forward channel", 3e-3,
               _SCALED, "Liu et al. 2022, arXiv 2205.05638", merges=_MEAN),
        Method("seq_bn", "bottleneck", "bottleneck behind the feed-forward block", 1e-4, _BOTTLENECK,
               "Pfeiffer et al. 2020, arXiv 2005.00052", merges=_MEAN),
        Method("double_seq_bn", "bottleneck", "bottlenecks behind attention and feed-forward block", 1e-4,
               {**_BOTTLENECK, "activation": "swish"},
               "Houlsby et al. 2019, arXiv 1902.00751", merges=_MEAN),
        Method("seq_bn_inv", "bottleneck", "seq_bn with an invertible map of the embeddings (languages)", 1e-4,
               {**_BOTTLENECK, "inv_reduction": 2}, "Pfeiffer et al. 2020, arXiv 2005.00052",
               merges=_MEAN, fuses=False),
        Method("double_seq_bn_inv", "bottleneck", "double_seq_bn with an invertible map of the embeddings", 1e-4,
               {**_BOTTLENECK, "activation": "swish", "inv_reduction": 2}, "Pfeiffer et al. 2020, arXiv 2005.00052",
               merges=_MEAN, fuses=False),
        Method("compacter", "bottleneck", "double_seq_bn with hypercomplex, shared low-rank maps", 1e-3,
               {**_BOTTLENECK, "reduction": 32, "activation": "gelu", "dim": 4},
               "Karimi Mahabadi et al. 2021, arXiv 2106.04647"),
        Method("par_bn", "bottleneck", "bottleneck parallel to the feed-forward block", 1e-4,
               {**_BOTTLENECK, "reduction": 2}, "He et al. 2021, arXiv 2110.04366",
               merges=_MEAN),
        Method("prefix_tuning", "bottleneck", "trained keys and values before those of the text", 1e-3,
               {"length": 30, "inner": 512, "activation": "tanh", "layers": None},
               "Li and Liang 2021, arXiv 2101.00190", fuses=False, fresh_is_base=False, packs=False),
        Method("full", "weights", "all of the base's own parameters, kept as what changed", 2e-5,
               {"layers": None, "embeddings": True}, "Conneau et al. 2020, arXiv 1911.02116",
               fuses=False, merges=("average", "linear")),
        Method(UNION, None, "several methods as one module, also written lora+seq_bn", 1e-4,
               {"of": ({"name": "lora"}, {"name": "seq_bn"})},
               "He et al. 2021, arXiv 2110.04366; Mao et al. 2022, arXiv 2110.07577"),
    )
}  # fmt: skip


def get_method(name: str) -> Method:
    """The method of that name.

    Raises:
        RecipeError: no such method; names the nearest.
    """
    if name in METHODS:
        return METHODS[name]
    near = difflib.get_close_matches(name, METHODS, n=1)
    hint = f"did you mean `{near[0]}`?" if near else "adapterstilts ls methods"
    raise RecipeError(f"unknown method `{name}`", why=f"the methods are {', '.join(METHODS)}", fix=hint)


def require_library(family: Family) -> None:
    """Raise MissingDependency when the library of a family is not installed; nothing is imported."""
    if family != "bottleneck" or sys.modules.get("adapters") is not None:
        return  # once it is imported it has no spec
    if importlib.util.find_spec("adapters") is None:
        why = "it is an extra, for it pins transformers 4.57; weight deltas need it not"
        fix = "pip install 'adapterstilts[bottlenecks]'"
        raise MissingDependency("bottleneck methods need the package `adapters`", why=why, fix=fix)


def require_encoder(settings: MethodSettings, architecture: str | None) -> None:
    """Raise RecipeError when the library of a method does not know such an encoder."""
    if architecture == "xlm-roberta-xl" and "bottleneck" in families_of(settings):
        why = "the package adapters does not know this encoder"
        raise RecipeError(f"{settings.name} on a base of type `{architecture}`", why=why, fix="method: lora")


def resolve(settings: MethodSettings) -> MethodSettings:
    """The same method with every parameter filled in, so that equal methods have equal hashes.

    Raises:
        RecipeError: an unknown method, parameter or site.
    """
    method = get_method(settings.name)
    for key in settings.parameters:
        if key not in method.defaults:
            near = difflib.get_close_matches(key, method.defaults, n=1)
            raise RecipeError(
                f"method `{method.name}` has no parameter `{key}`",
                why=f"it takes {', '.join(method.defaults)}",
                fix=f"did you mean `{near[0]}`?" if near else f"adapterstilts show {method.name}",
            )
    check_values(method.name, method.defaults, settings.parameters)
    full = {**method.defaults, **settings.parameters}
    if method.name == UNION:
        return MethodSettings(name=UNION, parameters={"of": _resolved_parts(full["of"])})
    for key in ("sites", "inputs"):
        if key not in full:
            continue
        sites = tuple(SITES) if full[key] == "all" else tuple(full[key])
        unknown = [site for site in sites if site not in SITES]
        if unknown:
            raise RecipeError(f"unknown site `{unknown[0]}`", why=f"the sites are {', '.join(SITES)}")
        full[key] = list(sites)
    if method.name == "adalora" and not full["init_r"] > full["r"]:
        raise RecipeError("adalora with init_r not above r", why="ranks can only go down", fix="init_r: 12, r: 8")
    if full.get("layers") is not None:
        full["layers"] = sorted(int(layer) for layer in full["layers"])
    return MethodSettings(name=method.name, parameters=full)


def _resolved_parts(given: Any) -> list[dict[str, Any]]:
    fix = "of: [{name: lora, r: 8}, {name: seq_bn, reduction: 16}]"
    if not isinstance(given, (list, tuple)) or len(given) < 2:
        raise RecipeError("a union of fewer than two methods", why="its parts are listed in `of`", fix=fix)
    parts = []
    for one in given:
        try:
            part = MethodSettings.model_validate(one)
        except ValueError:
            raise RecipeError(f"`{one}` is no method", why="the parts of a union are methods", fix=fix) from None
        if part.name == UNION:
            raise RecipeError("a union inside a union", why="it is the union of all the parts", fix="write one list")
        if get_method(part.name).family == "weights":
            raise RecipeError(f"`{part.name}` inside a union", why="it is the base itself", fix="stack a module on it")
        parts.append(resolve(part).model_dump())
    return parts


def parts_of(method: MethodSettings) -> tuple[tuple[str, MethodSettings], ...]:
    """(key, method) of the parts of a resolved method: ``1-lora``, ``2-seq_bn`` of a union; itself, called ""."""
    if method.name != UNION:
        return (("", method),)
    parts = [MethodSettings.model_validate(part) for part in method.parameters["of"]]
    return tuple((f"{number}-{part.name}", part) for number, part in enumerate(parts, start=1))


def rows_of(method: MethodSettings) -> list[Method]:
    """The rows of the table that a resolved method consists of."""
    return [get_method(part.name) for _, part in parts_of(method)]


def families_of(method: MethodSettings) -> frozenset[Family]:
    """Where a resolved method adapts the base."""
    return frozenset(row.family for row in rows_of(method) if row.family is not None)


def layers_of(method: MethodSettings, count: int) -> Sequence[int]:
    """The layers, of ``count``, on which a resolved method sits; no selection is all of them."""
    chosen: Sequence[int] | None = method.parameters.get("layers")
    return range(count) if chosen is None else chosen


def replaces_base(methods: Iterable[MethodSettings]) -> bool:
    """Whether one of these resolved methods takes the place of the base's own weights, and so needs all of them."""
    return any("weights" in families_of(method) for method in methods)


def default_rate(method: MethodSettings) -> float:
    """The default learning rate of a resolved method; of a union, the smallest of its parts."""
    return min(row.learning_rate for row in rows_of(method))


def method_named(text: str) -> MethodSettings | None:
    """The method with its defaults that ``lora`` or ``lora+seq_bn`` says; None when it says none."""
    settings = MethodSettings.model_validate(text)
    names = [settings.name, *(part["name"] for part in settings.parameters.get("of", ()))]
    return resolve(settings) if all(name in METHODS for name in names) else None


def fuse_problem(names: Iterable[str], how: str) -> tuple[str, str, str] | None:
    """Why modules of these methods cannot be mixed with each other: what, why and fix; None when they can."""
    rows = [METHODS[name] for name in names if name in METHODS]
    for method in rows:
        if not method.fuses:
            why = "it acts on the embeddings, the attention or the base itself, where nothing is mixed"
            return f"`{method.name}` inside fuse", why, "stack it"
    if how == "attention" and any(method.family == "delta" for method in rows):
        return "fuse with how=attention over weight deltas", "AdapterFusion needs bottlenecks", "how=gate"
    return None


def apart_problem(names: Iterable[str]) -> tuple[str, str, str] | None:
    """Why a module of one of these methods cannot count for some of the tokens only; None when they all can."""
    for name in names:
        if name in METHODS and not METHODS[name].fuses:
            why = "it acts on the embeddings, the attention or the base itself, not on single tokens"
            return f"`{name}` for some of the rows", why, "run its rows by themselves"
    return None


def stack_problem(names: Sequence[str]) -> tuple[str, str, str] | None:
    """Why modules of these methods, bottom first, cannot stand in one stack; None when they can."""
    for name in names[1:]:
        if name in METHODS and METHODS[name].family == "weights":
            why = "it takes the place of the weights that those below were trained on"
            return f"`{name}` above another module", why, "put it at the bottom of the stack, alone"
    return None


def capabilities(method: MethodSettings) -> dict[str, Any]:
    """What a resolved method can do in a composition; planning and attaching refuse by the same facts."""
    rows = rows_of(method)
    names = [row.name for row in rows]
    deltas = families_of(method) == {"delta"}
    libraries = tuple(LIBRARIES[family] for family in LIBRARIES if family in families_of(method))
    return {
        "stack": "at the bottom" if stack_problem(names * 2) else "in any order" if deltas else "in order",
        "fuse": tuple(how for how in ("gate", "weights", "attention") if fuse_problem(names, how) is None),
        "merge": rows[0].merges if len(rows) == 1 else (),
        "weight": deltas,
        "fresh is base": all(row.fresh_is_base for row in rows),
        "unpadded": all(row.packs for row in rows),
        "export": libraries if "bottleneck" in families_of(method) else (*libraries, "merged"),
    }
