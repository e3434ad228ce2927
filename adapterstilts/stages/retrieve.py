"""Stage retrieve: module x bitext task x languages -> embeddings of all layers in one pass -> scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapterstilts.data.prepared import read_prepared_bitext
from adapterstilts.encoder.base import Base, device, load_base
from adapterstilts.modules.artifact import load_adapted, read_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.retrieval.scoring import Bitext, MiningSettings, bucc_scores, tatoeba_predictions, tatoeba_scores
from adapterstilts.retrieval.stored import embed_stored
from adapterstilts.stages.loading import engine_facts
from adapterstilts.stages.memory import peak_memory
from adapterstilts.stages.specs import RetrieveSpec
from adapterstilts.store.files import write_text

Answers = dict[str, str]  # file name -> lines
Scored = tuple[list[dict[str, Any]], Answers]


def run(
    spec: RetrieveSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """Score the bare base, or the parent ``module``, on ``data:<language>:<split>``; writes scores and answers.

    A killed run goes on with the language, and inside it with the batch, where it stopped.
    """
    module = None if spec.module is None else read_module(parents["module"], base=spec.base.fingerprint)
    precision = spec.precision or ("fp32" if module is None else module.precision)
    base = load_base(
        spec.base.ref,
        precision,
        used=_subwords(parents) if spec.engine.compact else None,
        embeddings=spec.engine.embeddings,
    )
    if module is None:
        adapted = Adapted(base, {}, None, engine=spec.engine)
        adapted.to(device())
    else:
        adapted = load_adapted(base, module, engine=spec.engine)
    layers = list(range(base.layers + 1)) if spec.layers == "all" else list(spec.layers)
    task = read_prepared_bitext(next(path for role, path in parents.items() if role.startswith("data:"))).task
    answer = _mine if task.metric == "bucc" else _match
    rows: list[dict[str, Any]] = []
    for number, language in enumerate(spec.languages):
        done = work / f"{language}.json"
        if not done.is_file():
            vectors = work / language
            splits = {
                role.rpartition(":")[2]: _bitext(adapted, path, layers, spec, vectors / role.rpartition(":")[2])
                for role, path in sorted(parents.items())
                if role.startswith(f"data:{language}:")
            }
            scored = answer(language, splits, base, spec)
            write_text(done, json.dumps(scored))
            shutil.rmtree(vectors)
        found, answers = json.loads(done.read_text(encoding="utf-8"))
        rows += found
        for name, lines in answers.items():
            (directory / name).write_text(lines, encoding="utf-8")
        progress((number + 1) / len(spec.languages), language)
    (directory / "scores.json").write_text(json.dumps(rows, indent=1))
    return {"scores": len(rows), "layers": layers, "engine": engine_facts(adapted), "peak_memory": peak_memory()}


def _subwords(parents: Mapping[str, Path]) -> Iterator[Any]:
    for role, path in parents.items():
        if role.startswith("data:"):
            stored = read_prepared_bitext(path)
            yield from (stored.source_arrays.ids, stored.target_arrays.ids)


def _bitext(adapted: Adapted, path: Path, layers: list[int], spec: RetrieveSpec, place: Path) -> Bitext:
    stored = read_prepared_bitext(path)
    vectors = []
    for side, arrays in (("source", stored.source_arrays), ("target", stored.target_arrays)):
        kept = replace(arrays, examples=arrays.examples[: None if spec.limit is None else spec.limit + 1])
        # The stage's hash already says of which sentences; full precision, so that scores are those of the encoder.
        made = embed_stored(
            adapted,
            kept,
            place / side,
            layers,
            {"count": len(kept)},
            poolings=[spec.pooling],
            kind="fp32",
            tokens=spec.engine.tokens,
        )
        vectors.append({layer: made.layer(layer, spec.pooling) for layer in layers})
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


def _match(language: str, splits: Mapping[str, Bitext], base: Base, spec: RetrieveSpec) -> Scored:
    layer = _headline(spec, base)
    rows: list[dict[str, Any]] = []
    answers: Answers = {}
    for split, bitext in splits.items():
        lines = tatoeba_predictions(bitext, layer)
        answers[f"predictions.{language}.{split}.tsv"] = "".join(f"{line}\n" for line in lines)
        rows += tatoeba_scores(language, bitext, layer=layer, split=split) if bitext.gold else []
    return rows, answers


def _mine(language: str, splits: Mapping[str, Bitext], base: Base, spec: RetrieveSpec) -> Scored:
    settings = MiningSettings(neighbours=spec.neighbours, margin=spec.margin)
    layer = spec.layers[0] if spec.layers != "all" and len(spec.layers) == 1 else None
    result = bucc_scores(language, splits["dev"], splits.get("test"), layer=layer, settings=settings)
    pairs = "".join(f"{source}\t{target}\n" for source, target in result.pairs)
    return result.rows, {f"predictions.{language}.tsv": pairs}
