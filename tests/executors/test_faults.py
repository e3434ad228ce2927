"""The fault campaign of benchmarks/faults.py, whole: more than a hundred kills and every other fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_after_every_fault_the_next_run_ends_with_the_same_scores(tmp_path: Path) -> None:
    out = tmp_path / "faults.json"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "benchmarks/faults.py", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    faults = json.loads(out.read_text())["faults"]
    assert faults["SIGKILL of the run"]["struck"] + faults["SIGKILL of a worker"]["struck"] >= 100
    assert all(row["struck"] for row in faults.values() if "rounds" in row)
