"""Weight deltas work where the package adapters is not installed, and bottlenecks say what they need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# None in sys.modules makes every import of the name fail; find_spec is told the same.
BLOCKED = """
import importlib.util, json, sys
sys.modules["adapters"] = None
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "adapters" else find(name, *rest)
import adapterstilts
from adapterstilts.errors import MissingDependency
settings = {"epochs": 1, "batch": 16, "learning_rate": 2e-3}
where = {"store": sys.argv[1]}
adapterstilts.train("lab-siqa", name="a", base="lab/s0", limit=48, settings=settings, **where)
adapterstilts.train("lab-siqa/qac", name="b", base="lab/s0", limit=48, settings=settings, **where)
adapterstilts.merge(["a", "b"], name="m", **where)
adapterstilts.fuse(["a", "m"], "lab-copa", name="f", limit=48, settings=settings, **where)
rows = adapterstilts.evaluate("f", "lab-copa", languages=["en"], limit=20, **where)
vectors = adapterstilts.load("f", **where).encode(["one text", "another"])
adapterstilts.export_module("a", "peft", sys.argv[1] + "-peft", **where)
adapterstilts.import_module("peft", sys.argv[1] + "-peft", base="lab/s0", name="back", **where)
try:
    adapterstilts.stack("a", "lab-copa", method="seq_bn", name="s", limit=16, settings=settings, **where)
    told = "nothing"
except MissingDependency as error:
    told = str(error)
imported = sorted(name for name, module in sys.modules.items() if name.split(".")[0] == "adapters" and module)
print(json.dumps({"rows": len(rows), "shape": list(vectors.shape), "told": told, "imported": imported}))
"""


def test_deltas_without_adapters(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BLOCKED, str(tmp_path / "store")]
    made = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    said = json.loads(made.stdout.splitlines()[-1])
    assert said["rows"] == 1 and said["shape"][0] == 2 and said["imported"] == []
    assert "bottleneck methods need the package `adapters`" in said["told"] and "fix: pip install" in said["told"]


def test_deltas_do_not_import_adapters_where_it_is(tmp_path: Path) -> None:
    code = """
import sys
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import resolve
from adapterstilts.encoder.base import load_base
from adapterstilts.settings import MethodSettings
Adapted(load_base("lab/s0"), {"a": LeafWeights(resolve(MethodSettings(name="dora")))}, Leaf("a"))
print("adapters" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert made.stdout.split() == ["False"], made.stderr
