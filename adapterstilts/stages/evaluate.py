"""Stage evaluate: module x task x languages -> predictions and scores."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adapterstilts.data.prepared import read_prepared
from adapterstilts.errors import StageFailed
from adapterstilts.evaluation.score import score
from adapterstilts.evaluation.shared import shared_facts, with_shared_states
from adapterstilts.modules.artifact import read_module
from adapterstilts.modules.forward import fusions
from adapterstilts.modules.held import Holding
from adapterstilts.modules.usage import Usage
from adapterstilts.stages.loading import engine_facts, open_base
from adapterstilts.stages.memory import peak_memory
from adapterstilts.stages.slots import load_slotted
from adapterstilts.stages.specs import EvaluateSpec
from adapterstilts.stages.train import make_head
from adapterstilts.store import SHARED


def run(
    spec: EvaluateSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """Score the parent ``module`` on each ``data:<language>``; writes scores.json and predictions.<language>.jsonl.

    A module with a {language} slot runs with ``bind:<language>`` in it, else with what stood there in training. Of a
    module that fuses, usage.json says how much of each part was used, by language and place.

    Raises:
        StageFailed: the module has no trained head for the task: a number from a new head would mean nothing.
    """
    module = read_module(parents["module"], base=spec.base.fingerprint)
    splits = {language: read_prepared(parents[f"data:{language}"]) for language in spec.languages}
    bound = [read_module(parents[f"bind:{code}"], base=spec.base.fingerprint) for code in spec.bindings]
    methods = [method for one in (module, *bound) for method in one.methods.values()]
    base = open_base(spec.base, spec.precision or module.precision, spec.engine, splits.values(), methods)
    fuses = any(fusions(one.bound()) for one in (module, *bound))
    # Every token counts for the usage, whatever the head reads, so that numbers do not depend on speed.
    engine = spec.engine.model_copy(update={"first_only": False}) if fuses else spec.engine
    slotted = load_slotted(base, module, parents, spec.bindings, engine)
    adapted = slotted.adapted
    task = next(iter(splits.values())).task
    if task.head_name not in module.heads:
        raise StageFailed(
            f"the module has no trained head for `{task.name}`",
            why=f"it has heads for {', '.join(module.heads) or 'nothing'}",
            fix=f"train a module on top of it first: adapterstilts stack MODULE --train {task.name}",
        )
    head = make_head(task, base)
    head.load_state_dict(module.head(task.head_name), strict=task.format != "masked_lm")
    head.to(adapted.model.device)
    rows: list[dict[str, Any]] = []
    used: list[dict[str, Any]] = []
    holdings: list[Holding] = []
    for number, (language, split) in enumerate(splits.items()):
        slotted.fill(language)
        usage = Usage(adapted)
        held = with_shared_states(
            adapted,
            split,
            language,
            base=spec.base.fingerprint,
            limit=spec.limit,
            folder=work,
            shared=work.with_name(SHARED),
            report=lambda _, text, number=number: progress(number / len(splits), text),  # type: ignore[misc]
        )
        answers = (directory / f"predictions.{language}.jsonl").open("w", encoding="utf-8")
        with held as (data, holding), answers as file, usage.watching():
            holdings += [holding] if holding else []
            scored = score(
                adapted,
                head,
                data,
                language=language,
                limit=spec.limit,
                write=lambda row, file=file: file.write(json.dumps(row, ensure_ascii=False) + "\n"),  # type: ignore[misc]
                progress=lambda done, number=number: progress((number + done) / len(splits), ""),  # type: ignore[misc]
            )
        rows += [
            {"language": language, "split": spec.split, "metric": name, "value": value, "n": scored.n}
            for name, value in scored.metrics.items()
        ]
        used += [{"language": language, **row} for row in usage.rows()]
    (directory / "scores.json").write_text(json.dumps(rows, indent=1))
    if used:
        (directory / "usage.json").write_text(json.dumps(used))
    engine_used = engine_facts(adapted) | {"held": shared_facts(holdings)}
    return {"scores": len(rows), "main": scored.main, "engine": engine_used, "peak_memory": peak_memory()}
