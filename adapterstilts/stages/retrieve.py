"""Stage retrieve: module x bitext task x languages -> embeddings of all layers in one pass -> scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapterstilts.data.prepared import read_prepared_bitext
from adapterstilts.encoder.base import Base, load_base
from adapterstilts.modules.artifact import load_adapted, read_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.retrieval.embed import embed
from adapterstilts.retrieval.scoring import Bitext, MiningSettings, bucc_scores, tatoeba_predictions, tatoeba_scores
from adapterstilts.stages.memory import peak_memory
from adapterstilts.stages.specs import RetrieveSpec


def run(
    spec: RetrieveSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """Score the bare base, or the parent ``module``, on ``data:<language>:<split>``; writes scores and answers."""
    base = load_base(spec.base.ref)
    if spec.module is None:
        adapted = Adapted(base, {}, None)
    else:
        adapted = load_adapted(base, read_module(parents["module"], base=spec.base.fingerprint))
    layers = list(range(base.layers + 1)) if spec.layers == "all" else list(spec.layers)
    rows: list[dict[str, Any]] = []
    for number, language in enumerate(spec.languages):
        splits = {
            role.rpartition(":")[2]: _bitext(adapted, path, layers, spec)
            for role, path in sorted(parents.items())
            if role.startswith(f"data:{language}:")
        }
        mining = "dev" in splits
        rows += (_mine if mining else _match)(language, splits, base, spec, directory)
        progress((number + 1) / len(spec.languages), language)
    (directory / "scores.json").write_text(json.dumps(rows, indent=1))
    return {"scores": len(rows), "layers": layers, "peak_memory": peak_memory()}


def _bitext(adapted: Adapted, path: Path, layers: list[int], spec: RetrieveSpec) -> Bitext:
    stored = read_prepared_bitext(path)
    vectors = [
        dict(zip(layers, embed(adapted, side, layers, pooling=spec.pooling, limit=spec.limit), strict=True))
        for side in (stored.source_arrays, stored.target_arrays)
    ]
    source, target = stored.source[: spec.limit], stored.target[: spec.limit]
    gold = stored.gold
    if spec.limit is not None and gold is not None:
        known = {name for name, _ in source}, {name for name, _ in target}
        gold = [(s, t) for s, t in gold if s in known[0] and t in known[1]]
    return Bitext(source, target, gold, vectors[0], vectors[1])


def _headline(spec: RetrieveSpec, base: Base) -> int:
    """The layer of the single Tatoeba figure: the only one asked for, else that of the published scripts (14 of 24)."""
    if spec.layers != "all" and len(spec.layers) == 1:
        return spec.layers[0]
    return round(base.layers * 14 / 24)


def _match(
    language: str, splits: Mapping[str, Bitext], base: Base, spec: RetrieveSpec, directory: Path
) -> list[dict[str, Any]]:
    layer = _headline(spec, base)
    rows: list[dict[str, Any]] = []
    for split, bitext in splits.items():
        lines = tatoeba_predictions(bitext, layer)
        (directory / f"predictions.{language}.{split}.tsv").write_text("".join(f"{line}\n" for line in lines))
        rows += tatoeba_scores(language, bitext, layer=layer, split=split) if bitext.gold else []
    return rows


def _mine(
    language: str, splits: Mapping[str, Bitext], base: Base, spec: RetrieveSpec, directory: Path
) -> list[dict[str, Any]]:
    settings = MiningSettings(neighbours=spec.neighbours, margin=spec.margin)
    layer = spec.layers[0] if spec.layers != "all" and len(spec.layers) == 1 else None
    result = bucc_scores(language, splits["dev"], splits.get("test"), layer=layer, settings=settings)
    pairs = "".join(f"{source}\t{target}\n" for source, target in result.pairs)
    (directory / f"predictions.{language}.tsv").write_text(pairs)
    return result.rows
