"""The memory model: what must grow, what must shrink, and the settings it picks; no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapterstilts.api.memory import fit_memory, forecasts
from adapterstilts.api.planning import plan_recipe
from adapterstilts.errors import BudgetError, RecipeError
from adapterstilts.modules.methods import resolve
from adapterstilts.modules.sizes import base_shape
from adapterstilts.settings import EngineSettings, MethodSettings, Precision
from adapterstilts.stages.forecast import ACTIVATION, Lengths, Work, added, core, forecast

RECIPE = {
    "name": "small",
    "base": "lab/s0",
    "languages": ["en"],
    "targets": {"copa": {"task": "lab-copa", "limit": 50}},
    "arms": {"none": {}},
}


def large(**changes: object) -> Work:
    work = Work(
        shape=base_shape("xlm-roberta-large"),
        precision="fp32",
        engine=EngineSettings(tokens=2048),
        lengths=Lengths.of(np.full(1000, 46), 20_000),
        modules=(resolve(MethodSettings(name="lora")),),
        batch=32,
    )
    return replace(work, **changes)  # type: ignore[arg-type]


def test_every_saver_lowers_the_forecast() -> None:
    plain = forecast(large())
    assert sum(plain.parts.values()) == plain.peak
    for saver in ({"tokens": 512}, {"recompute": 1}):
        assert forecast(large(engine=EngineSettings(**{"tokens": 2048, **saver}))).peak < plain.peak
    whole = forecast(large(engine=EngineSettings(tokens=2048, compact=False)))
    assert whole.peak - plain.peak == (250_002 - 20_000) * 1024 * 4
    # On a device; on a host the copies of unpacked weights cost more than int8 saves when activations are many.
    peaks = [forecast(large(precision=precision), gpu=True).peak for precision in ("fp32", "bf16", "int8", "nf4")]
    assert peaks == sorted(peaks, reverse=True)
    assert forecast(large(batch=None)).peak < plain.peak
    assert forecast(large(), gpu=True).where == "device"


def test_a_micro_batch_is_the_budget_the_update_or_the_longest_example() -> None:
    lengths = Lengths.of(np.array([40, 40, 40, 200]), 10)
    assert lengths.largest(128, 32) == 200  # a longer example stands alone
    assert lengths.largest(1000, 32) == 1000
    assert Lengths.of(np.full(9, 50), 10).largest(4096, 8) == 400


@pytest.mark.parametrize(
    ("name", "sites", "fp32", "bf16"),
    [
        ("lora", ["query", "value"], 44.14, 20.07),
        ("lora", ["value", "output"], 60.14, 28.07),
        ("lora", None, 68.27, 32.20),
        ("ia3", None, 64.12, 30.05),
        ("vera", None, 82.08, 60.01),
        ("seq_bn", None, 48.34, 22.26),
        ("double_seq_bn", None, 49.08, 23.01),
        ("par_bn", None, 46.08, 22.01),
        ("compacter", None, 49.58, 23.51),
    ],
)
def test_kept_bytes_are_those_counted(name: str, sites: list[str] | None, fp32: float, bf16: float) -> None:
    """Saved tensors of packed execution at width 1024, in widths for each token and layer."""
    method = resolve(MethodSettings(name=name, parameters={} if sites is None else {"sites": sites}))
    counted: dict[Precision, float] = {"fp32": fp32, "bf16": bf16}
    for precision, bytes in counted.items():
        frozen = core(precision) * ACTIVATION[precision]
        assert frozen + added(method, precision) == pytest.approx(bytes, abs=0.2), precision


def test_fitting_changes_no_hash_unless_precision_may_fall(tmp_path: Path) -> None:
    planned = plan_recipe(RECIPE, store=tmp_path)
    every = forecasts(planned, gpu=False)
    kinds = {planned.plan.by_hash[hash].kind for hash in every}
    assert kinds == {"train", "evaluate"}
    peak = max(found.peak for found in every.values())
    assert not fit_memory(planned, peak, gpu=False).picked
    fitted = fit_memory(planned, peak - 1, gpu=False)
    assert fitted.picked and fitted.peak < peak
    assert fitted.planned.plan.id == planned.plan.id
    with pytest.raises(BudgetError, match="does not fit") as caught:
        fit_memory(planned, 10**6, gpu=False)
    assert "--max-memory" in str(caught.value)


def test_a_preset_lies_under_the_recipe(tmp_path: Path) -> None:
    planned = plan_recipe({**RECIPE, "preset": "tiny", "train": {"precision": "fp32"}}, store=tmp_path)
    assert planned.recipe.engine.recompute == 1 and planned.recipe.engine.tokens == 512
    assert planned.recipe.train["precision"] == "fp32"
    with pytest.raises(RecipeError, match="no preset `smal-gpu`"):
        plan_recipe({**RECIPE, "preset": "smal-gpu"}, store=tmp_path)
