"""Stage merge: modules -> one module, and its error against the exact weighted sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapterstilts.encoder.base import load_base
from adapterstilts.modules.artifact import read_module, write_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.merge import merge
from adapterstilts.stages.specs import MergeSpec

MERGED = "merged"


def run(
    spec: MergeSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """Merge the parents ``module:<hash>`` in the order of ``spec.of``; a merged module has no heads."""
    modules = [read_module(parents[f"module:{name}"], base=spec.base.fingerprint) for name in spec.of]
    merged = merge(modules, spec.weights, spec.how, spec.parameters, spec.seed)
    adapted = Adapted(load_base(spec.base.ref), {MERGED: merged.weights}, Leaf(MERGED))
    module = write_module(
        directory,
        adapted,
        trained=MERGED,
        parents={},
        heads={},
        base=spec.base.fingerprint,
        tokenizer=spec.base.tokenizer,
    )
    progress(1.0, "merged")
    return {"trained": module.trained, "error": merged.error, "how": spec.how, "weights": list(spec.weights)}
