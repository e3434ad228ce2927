"""The memory of a plan before it runs, and the settings with which it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from adapterstilts.amounts import count_bytes
from adapterstilts.api.planning import Planned, plan_recipe
from adapterstilts.errors import BudgetError
from adapterstilts.executors.devices import gpus
from adapterstilts.modules.methods import families_of
from adapterstilts.recipe.schema import Recipe, layered
from adapterstilts.settings import EngineSettings
from adapterstilts.stages.forecast import Forecast, Work, forecast
from adapterstilts.stages.specs import TrainSpec
from adapterstilts.stages.work import Works

FEWEST = 256  # tokens of a micro-batch below which matrix products lose their speed


def works(planned: Planned) -> dict[str, Work]:
    """hash -> what decides the memory of a stage that trains, evaluates or retrieves on a base of known shape."""

    def find(hash: str) -> Mapping[str, Any] | None:
        if hash in planned.plan.by_hash:
            return planned.plan.by_hash[hash].to_plain()
        return planned.store.manifest(hash) if planned.store.has(hash) else None

    works = Works(planned.store, find, planned.tasks)
    found = {stage.hash: works.of(stage.spec, stage.parents) for stage in planned.plan.stages}
    return {hash: work for hash, work in found.items() if work is not None}


def forecasts(planned: Planned, gpu: bool | None = None) -> dict[str, Forecast]:
    """hash -> predicted peak of these stages."""
    on_gpu = bool(gpus()) if gpu is None else gpu
    return {hash: forecast(work, gpu=on_gpu) for hash, work in works(planned).items()}


@dataclass(frozen=True)
class Fitted:
    """A plan that fits, and what was picked for it; empty when it fitted as it was."""

    planned: Planned
    picked: Mapping[str, Any]
    peak: int


def within(planned: Planned, max_memory: str | None = None, *, lower_precision: bool = False, jobs: int = 1) -> Fitted:
    """The plan made to fit what the caller, or else its recipe, allows; workers share the host's memory evenly.

    Raises:
        BudgetError: it cannot fit. RecipeError: no amount of memory.
    """
    text = max_memory or planned.recipe.max_memory
    if text is None:
        return Fitted(planned, {}, 0)
    gpu = bool(gpus())
    limit = count_bytes(text) // (1 if gpu else max(1, jobs))
    return fit_memory(planned, limit, lower_precision=lower_precision or planned.recipe.lower_precision, gpu=gpu)


def fit_memory(planned: Planned, limit: int, *, lower_precision: bool = False, gpu: bool | None = None) -> Fitted:
    """The plan with the fastest settings whose predicted peak stays below the limit.

    Micro-batch, allocator, recomputing and compaction change no result and no hash. A lower precision of the base
    changes both, so it is tried only when allowed.

    Raises:
        BudgetError: nothing fits; names the stage, and the smallest limit that would do.
    """
    # Seeds and arms repeat the same work many times over.
    every = {hash: work for work, hash in {repr(work): (work, hash) for hash, work in works(planned).items()}.values()}
    if not every:
        return Fitted(planned, {}, 0)
    smallest: tuple[int, str, dict[str, Any]] | None = None
    for picked in candidates(planned, lower_precision):
        peaks = {hash: forecast(_changed(work, picked), gpu=bool(gpu)).peak for hash, work in every.items()}
        worst = max(peaks, key=lambda hash: peaks[hash])
        if peaks[worst] <= limit:
            return Fitted(_with(planned, picked), picked, peaks[worst])
        if smallest is None or peaks[worst] < smallest[0]:
            smallest = peaks[worst], planned.plan.by_hash[worst].label, picked
    assert smallest is not None
    peak, label, picked = smallest
    why = f"with {told(picked) or 'the settings as they are'} it still takes {gigabytes(peak)}"
    fix = f"--max-memory {gigabytes(peak * 1.01, 2)}" + ("" if lower_precision else ", or allow --lower-precision")
    raise BudgetError(f"`{label}` does not fit in {gigabytes(limit)}", why=why, fix=fix)


def candidates(planned: Planned, lower_precision: bool) -> Iterator[dict[str, Any]]:
    """What may be picked, the fastest first: as it is, smaller micro-batches, giving back what is freed, recomputing,
    then lower precision."""
    engine = planned.recipe.engine
    sizes = [engine.tokens]
    while sizes[-1] // 2 >= FEWEST:
        sizes.append(sizes[-1] // 2)
    yield {}
    for precision in [None, *(_lower(planned) if lower_precision else ())]:
        for recompute, allocator, tokens in product(
            dict.fromkeys((engine.recompute, engine.recompute or 1)), dict.fromkeys((engine.allocator, "lean")), sizes
        ):
            changed = {"tokens": tokens, "allocator": allocator, "recompute": recompute, "compact": True}
            picked = {f"engine.{key}": value for key, value in changed.items() if getattr(engine, key) != value}
            yield picked if precision is None else {**picked, "train.precision": precision}


def _lower(planned: Planned) -> list[str]:
    """Precisions below that of the recipe which all its methods can train on."""
    specs = [stage.spec for stage in planned.plan.stages if isinstance(stage.spec, TrainSpec)]
    methods = [spec.method for spec in specs if spec.method is not None]
    plain = all(families_of(method) == {"delta"} for method in methods)
    order = ["fp32", "bf16", "nf4"] if plain else ["fp32", "bf16"]
    now = planned.recipe.train.get("precision", "fp32")
    return order[order.index(now) + 1 :] if now in order else []


def _changed(work: Work, picked: Mapping[str, Any]) -> Work:
    engine = {key.partition(".")[2]: value for key, value in picked.items() if key.startswith("engine.")}
    precision = picked.get("train.precision", work.precision)
    return replace(work, engine=work.engine.model_copy(update=engine), precision=precision)


def _with(planned: Planned, picked: Mapping[str, Any]) -> Planned:
    if not picked:
        return planned
    recipe = planned.recipe
    engine = {key.partition(".")[2]: value for key, value in picked.items() if key.startswith("engine.")}
    train = {key.partition(".")[2]: value for key, value in picked.items() if key.startswith("train.")}
    changed: Recipe = recipe.model_copy(
        update={
            "engine": EngineSettings.model_validate({**recipe.engine.model_dump(), **engine}),
            "train": layered(recipe.train, train),
        }
    )
    return plan_recipe(changed, store=planned.store, task_files=planned.tasks, command=planned.command)


def told(picked: Mapping[str, Any]) -> str:
    """``engine.tokens=1024, engine.recompute=1``"""
    return ", ".join(f"{key}={value}" for key, value in picked.items())


def gigabytes(count: float, digits: int = 1) -> str:
    """Bytes as people write a limit, rounded up."""
    scale = 10**digits
    return f"{-(-int(count * scale) // 10**9) / scale:.{digits}f}GB"
