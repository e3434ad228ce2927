"""The benchmarks run at their smallest size, compare equal work, and what is claimed to be equal is."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    # Without the real texts: lengths come from the stated distribution.
    monkeypatch.setattr(importlib.import_module("common"), "SHARED", tmp_path)
    return importlib.import_module


def test_training_makes_the_same_update(load: Any) -> None:
    common, training = load("common"), load("training")
    size, clock = common.SIZES["tiny"], common.Clock()
    ways = training.build(size, common.workload("nli", size.vocabulary), "seq_bn", clock)
    # Twice: a run in bf16 must not leave its precision to the fp32 run after it.
    for found in (training.equality(ways, "seq_bn", 1), training.equality(ways, "seq_bn", 2)):
        assert found["ours, fp32"]["relative"] < 1e-5
        assert found["library, fp32, maximum"]["relative"] < 1e-5
        assert 1e-4 < found["library, autocast, longest"]["relative"] < 0.1
        assert 1e-4 < found["ours, bf16"]["relative"] < 0.1
        assert max(found["ours, fp32"]["loss"]) < 1e-5
    rows = common.tokens(ways["ours, fp32"].rows)
    assert ways[training.REFERENCE].fill == rows / (size.examples * max(map(len, ways["ours, fp32"].rows)))
    assert ways["ours, fp32"].turn(1) > 0 and ways[training.REFERENCE].turn(1) > 0


def test_prediction_gives_the_same_states(load: Any) -> None:
    common, inference = load("common"), load("inference")
    size, clock = common.SIZES["tiny"], common.Clock()
    rows = inference.measure(size, common.workload("sentences", size.vocabulary), 16, 1, clock)
    error = {row["way"]: row["hidden"] for row in rows}
    assert error["ours, fp32"] < 1e-5 and error["library, fp32, sorted"] < 1e-5
    assert 1e-4 < error["ours, bf16"] < 0.1


@pytest.mark.parametrize("count", [3, 9])
def test_fusion_keeps_less_and_has_the_librarys_gradients(load: Any, count: int) -> None:
    common, fusion = load("common"), load("fusion")
    found = fusion.measure(common.SIZES["tiny"], count, 1, common.Clock())
    assert found["relative"] < 1e-5 and found["loss"] < 1e-5
    assert found["kept_share"] < 1


def test_every_exact_search_finds_what_faiss_finds(tmp_path: Path) -> None:
    out = tmp_path / "retrieval.json"
    command = [sys.executable, str(FOLDER / "retrieval.py"), "--only", "search", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    found = json.loads(out.read_text())
    rows = [row for row in found["rows"] if row["what"].startswith("search, exact")]
    assert {row["what"].split()[2].rstrip(",") for row in rows} == {"one_pass", "bf16"}
    assert all(float(row["equal"].split()[1]) > 0.9999 and row["times_faster"] > 0 for row in rows)
    assert found["machine"]["threads"] == 2 and found["machine"]["time"] == "wall"


def test_a_module_above_held_states_is_the_same(load: Any, tmp_path: Path) -> None:
    common, held = load("common"), load("held")
    size, clock = common.SIZES["tiny"], common.Clock()
    rows = common.workload("nli", size.vocabulary).take(16)
    plain, kept = (held.Above(size, rows, 1, folder, clock) for folder in (None, tmp_path))
    assert held.compare(plain, kept)["bits"]
    assert kept.bytes == common.tokens(rows) * size.width * 4 and kept.write() > 0


def test_modules_in_one_loop_train_as_one_after_another(load: Any) -> None:
    common, together = load("common"), load("together")
    modules = together.Modules(together.LAB, "seq_bn", 2, common.Clock(), "fp32")
    found = []
    for shared in (False, True):
        assert modules.turn(12, 4, shared) > 0
        found.append(modules.trained())
    assert float((found[0] - found[1]).norm() / found[0].norm()) < 1e-5


def test_memory_is_forecast_for_every_row_of_ours(load: Any) -> None:
    common, memory = load("common"), load("memory")
    size = common.SIZES["tiny"]
    rows = common.workload("nli", size.vocabulary).take(size.examples)
    for row in memory.rows_of(size).values():
        if row["ours"]:
            peak, parts = memory.predicted(size, row, rows)
            assert peak == sum(parts.values()) and all(part >= 0 for part in parts.values())


def test_modules_that_share_their_lower_layers_say_the_same(load: Any) -> None:
    common, shared = load("common"), load("shared")
    size = common.SIZES["tiny"]
    for precision in ("fp32", "bf16"):
        row = shared.measure(size, common.workload("nli", size.vocabulary), 1, common.Clock(), precision)
        assert row["same_bits"] and row["below"] == 1
