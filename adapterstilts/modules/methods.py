"""The methods by name: family, default parameters, default learning rate. Torch-free; the libraries come in attach.

Two families (design: docs/architecture.md): ``delta`` adds to the weights of linear sites (peft), ``bottleneck``
adds small networks behind a sublayer (adapters). A new method is one row here when its library already knows it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from adapterstilts.errors import RecipeError
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
    """One method. ``defaults`` holds every parameter it takes; ``None`` in ``layers`` means all layers."""

    name: str
    family: Family
    summary: str
    learning_rate: float
    defaults: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    stacks: bool = True  # whether it may stand with another bottleneck in one stack


_DELTA = {"r": 8, "alpha": 16, "sites": tuple(SITES), "layers": None}
_BOTTLENECK = {"reduction": 16, "layers": None}

METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("lora", "delta", "low-rank update W + s B A", 3e-4, _DELTA, "Hu et al. 2021, arXiv 2106.09685"),
        Method("rslora", "delta", "LoRA scaled by alpha / sqrt(r)", 3e-4, _DELTA,
               "Kalajdzievski 2023, arXiv 2312.03732"),
        Method("dora", "delta", "LoRA on the direction, with a trained magnitude", 3e-4, _DELTA,
               "Liu et al. 2024, arXiv 2402.09353"),
        Method("ia3", "delta", "one factor per key, value and feed-forward channel", 3e-3,
               {"sites": ("key", "value", "output"), "layers": None}, "Liu et al. 2022, arXiv 2205.05638"),
        Method("seq_bn", "bottleneck", "bottleneck behind the feed-forward block", 1e-4, _BOTTLENECK,
               "Pfeiffer et al. 2020, arXiv 2005.00052"),
        Method("double_seq_bn", "bottleneck", "bottlenecks behind attention and feed-forward block", 1e-4, _BOTTLENECK,
               "Houlsby et al. 2019, arXiv 1902.00751"),
        Method("par_bn", "bottleneck", "bottleneck parallel to the feed-forward block", 1e-4,
               {"reduction": 2, "layers": None}, "He et al. 2021, arXiv 2110.04366", stacks=False),
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
    if "sites" in full:
        sites = tuple(SITES) if full["sites"] == "all" else tuple(full["sites"])
        unknown = [site for site in sites if site not in SITES]
        if unknown:
            raise RecipeError(f"unknown site `{unknown[0]}`", why=f"the sites are {', '.join(SITES)}")
        full["sites"] = list(sites)
    if full.get("layers") is not None:
        full["layers"] = sorted(int(layer) for layer in full["layers"])
    return MethodSettings(name=method.name, parameters=full)
