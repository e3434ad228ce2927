"""The forecast against the measured peak of whole processes, at XLM-R Large's width."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"
ROWS = (
    "ours seq_bn, fp32, dropout",
    "ours lora, bf16, 8 windows, 1024 tokens",
    "ours lora, fp32, whole vocabulary",
    "ours lora, fp32, 32 examples, 512 tokens",
    "ours lora, bf16, 32 examples, recompute 1",
)


@pytest.mark.slow
def test_the_forecast_is_within_15_percent(tmp_path: Path) -> None:
    only = [word for row in ROWS for word in ("--only", row)]
    command = [sys.executable, str(BENCHMARK), "--size", "slice", "--out", str(tmp_path), *only]
    subprocess.run(command, check=True, capture_output=True, timeout=1800)
    rows = json.loads((tmp_path / "memory-slice.json").read_text())["rows"]
    assert {row["name"] for row in rows} == set(ROWS)
    wrong = {row["name"]: f"{row['forecast_error']:+.0%}" for row in rows if abs(row["forecast_error"]) > 0.15}
    assert not wrong
