"""Stage retrieve: module x searched task x languages -> embeddings of all layers in one pass -> scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapterstilts.data.arrays import Arrays
from adapterstilts.data.prepared import read_prepared, read_prepared_bitext, read_task
from adapterstilts.encoder.base import device, load_base
from adapterstilts.evaluation.metrics import METRICS
from adapterstilts.modules.artifact import read_module
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.methods import replaces_base
from adapterstilts.retrieval.ranking import Texts, ranked, right_of
from adapterstilts.retrieval.scoring import (
    VARIANTS,
    Bitext,
    Layers,
    MiningSettings,
    bucc_scores,
    tatoeba_predictions,
    tatoeba_scores,
)
from adapterstilts.retrieval.stored import embed_stored
from adapterstilts.retrieval.threshold import Curve
from adapterstilts.stages.loading import engine_facts
from adapterstilts.stages.memory import peak_memory
from adapterstilts.stages.slots import Slotted, load_slotted
from adapterstilts.stages.specs import ENGLISH, RetrieveSpec
from adapterstilts.store.files import write_text
from adapterstilts.tasks.spec import TaskSpec

Answers = dict[str, str]  # file name -> content
CURVE_POINTS = 200
Scored = tuple[list[dict[str, Any]], Answers]
Answer = Callable[[str, Mapping[str, Path], Path], Scored]  # language, its prepared splits, where to embed


def run(
    spec: RetrieveSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """Score the bare base, or the parent ``module``, on ``data:<language>:<split>``; writes scores and answers.

    A module with a {language} slot embeds each side in its own language: with ``bind:<language>`` in the slot, else
    with what stood there in training. A killed run goes on with the language, and inside it with the batch, where it
    stopped.
    """
    task = read_task(next(path for role, path in parents.items() if role.startswith("data:")))
    module = None if spec.module is None else read_module(parents["module"], base=spec.base.fingerprint)
    precision = spec.precision or ("fp32" if module is None else module.precision)
    whole = module is not None and replaces_base(module.methods.values())
    base = load_base(
        spec.base.ref,
        precision,
        used=_subwords(task, parents) if spec.engine.compact and not whole else None,
        embeddings=spec.engine.embeddings,
    )
    slotted = None if module is None else load_slotted(base, module, parents, spec.bindings, spec.engine)
    adapted = Adapted(base, {}, None, engine=spec.engine) if slotted is None else slotted.adapted
    adapted.to(device())
    layers = list(range(base.layers + 1)) if spec.layers == "all" else list(spec.layers)
    searching = Searching(spec, task, adapted, layers, slotted)
    answer: Answer = searching.mine if task.metric == "bucc" else searching.match
    if task.format == "ranking":
        pool = {role.removeprefix("pool:"): path for role, path in parents.items() if role.startswith("pool:")}
        answer = searching.ranker(pool, work / "pool")
    rows: list[dict[str, Any]] = []
    for number, language in enumerate(spec.languages):
        done = work / f"{language}.json"
        if not done.is_file():
            splits = {
                role.rpartition(":")[2]: path
                for role, path in sorted(parents.items())
                if role.startswith(f"data:{language}:")
            }
            write_text(done, json.dumps(answer(language, splits, work / language)))
            shutil.rmtree(work / language)
        found, answers = json.loads(done.read_text(encoding="utf-8"))
        rows += found
        for name, content in answers.items():
            (directory / name).write_text(content, encoding="utf-8")
        progress((number + 1) / len(spec.languages), language)
    (directory / "scores.json").write_text(json.dumps(rows, indent=1))
    return {"scores": len(rows), "layers": layers, "engine": engine_facts(adapted), "peak_memory": peak_memory()}


def _subwords(task: TaskSpec, parents: Mapping[str, Path]) -> Iterator[Any]:
    for role, path in parents.items():
        if not role.startswith(("data:", "pool:")):
            continue
        if task.format == "bitext":
            stored = read_prepared_bitext(path)
            yield from (stored.source_arrays.ids, stored.target_arrays.ids)
        else:
            yield read_prepared(path).arrays.ids


@dataclass(frozen=True)
class Searching:
    """What every language of a stage shares: how its sentences become vectors, and what is asked of them."""

    spec: RetrieveSpec
    task: TaskSpec
    adapted: Adapted
    layers: list[int]
    slotted: Slotted | None

    @property
    def headline(self) -> int:
        """The layer of the single figure: of those asked for the nearest to that of the published scripts, 14 of 24."""
        usual = round(self.adapted.base.layers * 14 / 24)
        return min(self.layers, key=lambda layer: abs(layer - usual))

    def embed(self, arrays: Arrays, language: str, place: Path, limit: int | None = None) -> Layers:
        if self.slotted is not None:
            self.slotted.fill(language)
        kept = replace(arrays, examples=arrays.examples[: None if limit is None else limit + 1])
        # The stage's hash already says of which sentences; full precision, so that scores are those of the encoder.
        pooling = self.spec.pooling
        made = embed_stored(
            self.adapted,
            kept,
            place,
            self.layers,
            {"count": len(kept)},
            poolings=[pooling],
            kind="fp32",
            tokens=self.spec.engine.tokens,
        )
        return {layer: made.layer(layer, pooling) for layer in self.layers}

    # -- bitext -------------------------------------------------------------------------------------------------------

    def bitext(self, path: Path, language: str, place: Path) -> Bitext:
        stored, limit = read_prepared_bitext(path), self.spec.limit
        vectors = [
            self.embed(stored.source_arrays, language, place / "source", limit),
            self.embed(stored.target_arrays, ENGLISH, place / "target", limit),
        ]
        source, target, gold = stored.source[:limit], stored.target[:limit], stored.gold
        if limit is not None and gold is not None:
            known = {name for name, _ in source}, {name for name, _ in target}
            gold = [(s, t) for s, t in gold if s in known[0] and t in known[1]]
        return Bitext(source, target, gold, vectors[0], vectors[1])

    def match(self, language: str, splits: Mapping[str, Path], place: Path) -> Scored:
        rows: list[dict[str, Any]] = []
        answers: Answers = {}
        for split, path in splits.items():
            bitext = self.bitext(path, language, place / split)
            lines = tatoeba_predictions(bitext, self.headline)
            answers[f"predictions.{language}.{split}.tsv"] = "".join(f"{line}\n" for line in lines)
            rows += tatoeba_scores(language, bitext, layer=self.headline, split=split) if bitext.gold else []
        return rows, answers

    def mine(self, language: str, splits: Mapping[str, Path], place: Path) -> Scored:
        settings = MiningSettings(neighbours=self.spec.neighbours, margin=self.spec.margin)
        layer = self.layers[0] if len(self.layers) == 1 else None
        sides = {split: self.bitext(path, language, place / split) for split, path in splits.items()}
        result = bucc_scores(language, sides["dev"], sides.get("test"), layer=layer, settings=settings)
        pairs = "".join(f"{source}\t{target}\n" for source, target in result.pairs)
        curve = json.dumps(_plain_curve(result.curve, result.layer)) + "\n"
        return result.rows, {f"predictions.{language}.tsv": pairs, f"curve.{language}.json": curve}

    # -- ranking ------------------------------------------------------------------------------------------------------

    def texts(self, path: Path, language: str, place: Path, limit: int | None = None) -> Texts:
        prepared = read_prepared(path)
        vectors = self.embed(prepared.arrays, language, place, limit)
        named = [(example["id"], example["label"] or ()) for example in prepared.examples()][:limit]
        return Texts([name for name, _ in named], [labels for _, labels in named], vectors)

    def ranker(self, paths: Mapping[str, Path], place: Path) -> Answer:
        """The candidates embedded once, and what answers in one language after the other; no limit cuts the pool."""
        pool = [self.texts(path, code, place / code) for code, path in sorted(paths.items())]
        right = right_of(pool)
        size = sum(len(texts.ids) for texts in pool)

        def rank(language: str, splits: Mapping[str, Path], place: Path) -> Scored:
            rows: list[dict[str, Any]] = []
            answers: Answers = {}
            for split, path in splits.items():
                queries = self.texts(path, language, place / split, self.spec.limit)
                wanted = [{name for label in labels for name in right.get(label, ())} for labels in queries.labels]
                for layer in self.layers:
                    for variant in VARIANTS:
                        found = list(ranked(queries, pool, layer, variant))
                        values = METRICS[self.task.metric](found, wanted, language=language)
                        headline = (layer, variant) == (self.headline, "raw")
                        row = {"language": language, "split": split, "n": len(found), "layer": layer}
                        row |= {"variant": variant, "candidates": size, "headline": headline}
                        rows += [{**row, "metric": name, "value": value} for name, value in values.items()]
                        if headline:
                            lists = dict(zip(queries.ids, found, strict=True))
                            answers[f"predictions.{language}.{split}.json"] = json.dumps(lists) + "\n"
            return rows, answers

        return rank


def _plain_curve(curve: Curve, layer: int) -> dict[str, Any]:
    """The dev curve over the threshold, thinned to what a figure shows; the best point stays."""
    count = len(curve.f1)
    chosen = sorted({*range(0, count, -(-count // CURVE_POINTS)), *([] if curve.best is None else [curve.best])})
    values = {name: getattr(curve, name)[chosen].tolist() for name in ("thresholds", "precision", "recall", "f1")}
    return {"layer": layer, "threshold": curve.threshold, **values}
