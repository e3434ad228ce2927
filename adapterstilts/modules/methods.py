"""The methods by name: family, default parameters, default learning rate. Torch-free; the libraries come in attach.

Two families (design: docs/architecture.md): ``delta`` adds to the weights of linear sites (peft), ``bottleneck``
adds small networks behind a sublayer (adapters). A new method is one row here when its library already knows it.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from adapterstilts.errors import MissingDependency, RecipeError
from adapterstilts.settings import MethodSettings

Family = Literal["delta", "bottleneck"]

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
        stacks: it may stand with another bottleneck in one stack.
        fuses: it may be mixed with others.
        merges: how several of it become one without training.
        fresh_is_base: before its first step it changes nothing.
        packs: it runs without padding.
        bottom: it acts on the embeddings, too, and must be the lowest bottleneck.
        place: where a bottleneck stands; those that are fused stand at one place.
        libraries: whose plain form it is stored in.
    """

    name: str
    family: Family
    summary: str
    learning_rate: float
    defaults: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    stacks: bool = True
    fuses: bool = True
    merges: tuple[str, ...] = ()
    fresh_is_base: bool = True
    packs: bool = True
    bottom: bool = False
    place: str = "feed-forward"

    @property
    def library(self) -> str:
        return "peft" if self.family == "delta" else "adapters"

    def capabilities(self) -> dict[str, Any]:
        """What it can do in a composition; planning and attaching refuse by the same facts."""
        delta = self.family == "delta"
        return {
            "stack": "in any order" if delta else "lowest bottleneck" if self.bottom else self.stacks and "in order",
            "fuse": () if not self.fuses else ("gate", "weights") if delta else ("gate", "weights", "attention"),
            "merge": self.merges,
            "weight": delta,
            "fresh is base": self.fresh_is_base,
            "unpadded": self.packs,
            "export": (self.library, "merged") if delta else (self.library,),
        }


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
               "Houlsby et al. 2019, arXiv 1902.00751", merges=_MEAN, place="attention and feed-forward"),
        Method("seq_bn_inv", "bottleneck", "seq_bn with an invertible map of the embeddings (languages)", 1e-4,
               {**_BOTTLENECK, "inv_reduction": 2}, "Pfeiffer et al. 2020, arXiv 2005.00052",
               merges=_MEAN, fuses=False, bottom=True),
        Method("double_seq_bn_inv", "bottleneck", "double_seq_bn with an invertible map of the embeddings", 1e-4,
               {**_BOTTLENECK, "activation": "swish", "inv_reduction": 2}, "Pfeiffer et al. 2020, arXiv 2005.00052",
               merges=_MEAN, fuses=False, bottom=True),
        Method("compacter", "bottleneck", "double_seq_bn with hypercomplex, shared low-rank maps", 1e-3,
               {**_BOTTLENECK, "reduction": 32, "activation": "gelu", "dim": 4},
               "Karimi Mahabadi et al. 2021, arXiv 2106.04647", place="attention and feed-forward"),
        Method("par_bn", "bottleneck", "bottleneck parallel to the feed-forward block", 1e-4,
               {**_BOTTLENECK, "reduction": 2}, "He et al. 2021, arXiv 2110.04366", stacks=False,
               merges=_MEAN, place="beside the feed-forward"),
        Method("prefix_tuning", "bottleneck", "trained keys and values before those of the text", 1e-3,
               {"length": 30, "inner": 512, "activation": "tanh", "layers": None},
               "Li and Liang 2021, arXiv 2101.00190", stacks=False, fuses=False, fresh_is_base=False, packs=False),
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
    full = {**method.defaults, **settings.parameters}
    for key in ("sites", "inputs"):
        if key not in full:
            continue
        sites = tuple(SITES) if full[key] == "all" else tuple(full[key])
        unknown = [site for site in sites if site not in SITES]
        if unknown:
            raise RecipeError(f"unknown site `{unknown[0]}`", why=f"the sites are {', '.join(SITES)}")
        full[key] = list(sites)
    if full.get("layers") is not None:
        full["layers"] = sorted(int(layer) for layer in full["layers"])
    return MethodSettings(name=method.name, parameters=full)


def stack_problem(names: Sequence[str]) -> tuple[str, str, str] | None:
    """Why methods, bottom first, cannot stand in one stack: what, why and fix; None when they can."""
    bottlenecks = [METHODS[name] for name in names if name in METHODS and METHODS[name].family == "bottleneck"]
    if len(bottlenecks) < 2:
        return None
    for method in bottlenecks:
        if not method.stacks:
            why = (
                "the library feeds one parallel bottleneck's output to the next without the hidden state"
                if method.packs
                else "the prefix and the bottleneck would have to share one order of the library's stack"
            )
            fix = "use seq_bn or double_seq_bn, or a delta method for one of them"
            return f"`{method.name}` in a stack with another bottleneck", why, fix
    for method in bottlenecks[1:]:
        if method.bottom:
            why = "the library maps the embeddings by the lowest bottleneck alone, so its own map would be lost"
            return f"`{method.name}` above another bottleneck", why, "put it at the bottom of the stack"
    return None


def fuse_problem(names: Sequence[str]) -> tuple[str, str, str] | None:
    """Why methods cannot be mixed with each other: what, why and fix; None when they can."""
    methods = [METHODS[name] for name in names if name in METHODS]
    for method in methods:
        if not method.fuses:
            why = "it acts on the embeddings or the attention, where nothing is mixed"
            return f"`{method.name}` inside fuse", why, "stack it"
    places = {method.place: method.name for method in methods if method.family == "bottleneck"}
    if len(places) > 1:
        why = " and ".join(f"{name} stands at {place}" for place, name in places.items())
        return "a fusion of bottlenecks at different places", why, "fuse modules of one method"
    return None
