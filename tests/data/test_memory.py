"""Peak memory of preparing data does not grow with the data, by measurement in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20
PREPARE = """
import json, resource, sys
from pathlib import Path
from adapterstilts.data.sources import resolve
from adapterstilts.stages.prepare import run
from adapterstilts.stages.specs import BaseRef, PrepareSpec
from adapterstilts.tasks.registry import TaskRegistry

root, name, base = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
found = resolve(TaskRegistry().get(name), "en", "train", root)
spec = PrepareSpec(base=BaseRef(ref=base, fingerprint="", tokenizer=""), task=name, language="en", split="train",
                   task_hash="", source=found.plain, data=found.fingerprint())
facts = run(spec, {}, root / "out", root / "work", lambda done, text: None)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"n": facts["n"], "tokens": facts["tokens"], "peak": peak * 1024}))
"""


def nli(i: int) -> dict[str, Any]:
    text = f"the grower number {i} heated the carrot"
    return {"text_a": text, "text_b": f"some carrot is {i % 97}", "label": "neutral"}


def pos(i: int) -> dict[str, Any]:
    return {"words": [f"w{i}", "saw", "the", f"cat{i % 1013}"], "tags": ["PROPN", "VERB", "DET", "NOUN"]}


def prepared(folder: Path, base: Path, name: str, row: Callable[[int], dict[str, Any]], count: int) -> dict[str, int]:
    """Write ``count`` rows and prepare them in another process: {n, tokens, peak in bytes}."""
    path = folder / str(count) / "own" / name / "train-en.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        file.writelines(json.dumps(row(i)) + "\n" for i in range(count))
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PREPARE, str(folder / str(count)), name, str(base)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    measured: dict[str, int] = json.loads(done.stdout)
    assert measured["n"] == count
    return measured


@pytest.mark.parametrize(("name", "row"), [("mnli", nli), ("udpos", pos)])
def test_four_times_the_rows_need_no_more_memory(
    name: str, row: Callable[[int], dict[str, Any]], lab_base: Path, tmp_path: Path
) -> None:
    small = prepared(tmp_path, lab_base, name, row, 10_000)
    large = prepared(tmp_path, lab_base, name, row, 40_000)
    assert large["tokens"] > 3.9 * small["tokens"]
    # 30,000 further rows held as Python objects would be 60 MiB and more.
    assert large["peak"] - small["peak"] < 12 * MIB


@pytest.mark.slow
def test_a_million_rows_need_no_more_memory(lab_base: Path, tmp_path: Path) -> None:
    small = prepared(tmp_path, lab_base, "mnli", nli, 50_000)
    large = prepared(tmp_path, lab_base, "mnli", nli, 1_000_000)
    assert large["tokens"] > 15_000_000
    assert large["peak"] - small["peak"] < 24 * MIB
