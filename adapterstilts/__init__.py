"""What intermediate-task training buys in other languages: adapter modules on a frozen multilingual encoder.

    import adapterstilts
    adapterstilts.train("mnli", name="mnli")
    adapterstilts.stack("mnli", train="xquad", name="mnli+xquad")
    rows = adapterstilts.evaluate("mnli+xquad", "xquad")

The functions mirror the command line's verbs; nothing heavy is imported before one of them is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterstilts.api.exchange import export_merged, export_module, import_module
    from adapterstilts.api.module import LoadedModule, load
    from adapterstilts.api.planning import plan_recipe
    from adapterstilts.api.predicting import predict
    from adapterstilts.api.retrieval import embed, mine, nearest
    from adapterstilts.api.running import Run, run
    from adapterstilts.api.sharing import pull, push
    from adapterstilts.api.showing import scores, usage, write_report
    from adapterstilts.api.verbs import evaluate, fuse, merge, retrieve, stack, train
    from adapterstilts.errors import AdapterstiltsError

__version__ = "0.1.0"
__all__ = [
    "AdapterstiltsError",
    "LoadedModule",
    "Run",
    "__version__",
    "embed",
    "evaluate",
    "export_merged",
    "export_module",
    "fuse",
    "import_module",
    "load",
    "merge",
    "mine",
    "nearest",
    "plan_recipe",
    "predict",
    "pull",
    "push",
    "retrieve",
    "run",
    "scores",
    "stack",
    "train",
    "usage",
    "write_report",
]

_HOMES = {
    "AdapterstiltsError": "adapterstilts.errors",
    "LoadedModule": "adapterstilts.api.module",
    "load": "adapterstilts.api.module",
    **dict.fromkeys(("embed", "mine", "nearest"), "adapterstilts.api.retrieval"),
    **dict.fromkeys(("export_merged", "export_module", "import_module"), "adapterstilts.api.exchange"),
    "predict": "adapterstilts.api.predicting",
    "Run": "adapterstilts.api.running",
    "plan_recipe": "adapterstilts.api.planning",
    "run": "adapterstilts.api.running",
    **dict.fromkeys(("pull", "push"), "adapterstilts.api.sharing"),
    "scores": "adapterstilts.api.showing",
    "usage": "adapterstilts.api.showing",
    "write_report": "adapterstilts.api.showing",
    **dict.fromkeys(("evaluate", "fuse", "merge", "retrieve", "stack", "train"), "adapterstilts.api.verbs"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'adapterstilts' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
