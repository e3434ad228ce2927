"""Peak memory of one training update, each way in a process of its own, and the forecast beside ours.

    python benchmarks/memory.py --size tiny
    python benchmarks/memory.py --size large --out benchmarks/results

The peak is VmHWM of the whole process after clear_refs, so what imports and the making of the model needed is left
out where it was more. "alive" is the most that tensors made during an update take at once, which no allocator
changes. A forecast says what `adapterstilts plan` would have said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

from common import (
    SHARED,
    SIZES,
    Clock,
    Size,
    begin,
    checkpoint,
    finish,
    machine,
    parser,
    table,
    tokens,
    workload,
)

Row = dict[str, Any]
LIBRARIES = 450 * 2**20  # of this process: fewer than a stage's, which also scores and writes
# With the dropout of 0.1 that the base's configuration asks for, in all of them.
REFERENCE = "adapters, fp32, maximum, dropout"
TARGETS = {REFERENCE: 0.27, "adapters, fp32, longest, dropout": 0.5}  # peer -> what the best of ours should take of it
BEST = "ours seq_bn, bf16, dropout"
LEAN = f"{BEST}, lean, 256 tokens"  # the same update in less memory, 1.07 times the time


def ours(
    method: str, precision: str, examples: int, workload: str = "nli", dropout: bool = False, **engine: Any
) -> Row:
    chosen = {"method": method, "precision": precision, "examples": examples, "workload": workload}
    return {"ours": True, **chosen, "dropout": dropout, "engine": engine}


def peer(method: str, width: str, examples: int, autocast: bool = False, dropout: bool = False) -> Row:
    chosen = {"method": method, "width": width, "autocast": autocast, "examples": examples, "workload": "nli"}
    return {"ours": False, **chosen, "dropout": dropout}


def rows_of(size: Size) -> dict[str, Row]:
    """name -> what to measure: the peers, and a grid of our configurations."""
    n = size.examples
    found = {
        REFERENCE: peer("seq_bn", "maximum", n, dropout=True),
        "ours seq_bn, fp32, dropout": ours("seq_bn", "fp32", n, dropout=True),
        "ours seq_bn, bf16, dropout": ours("seq_bn", "bf16", n, dropout=True),
        "ours seq_bn, bf16, dropout, lean": ours("seq_bn", "bf16", n, dropout=True, allocator="lean"),
        LEAN: ours("seq_bn", "bf16", n, dropout=True, allocator="lean", tokens=256),
        "adapters, fp32, maximum": peer("seq_bn", "maximum", n),
        "adapters, fp32, longest": peer("seq_bn", "longest", n),
        "ours seq_bn, fp32": ours("seq_bn", "fp32", n),
        "ours seq_bn, bf16": ours("seq_bn", "bf16", n),
        "ours lora, fp32": ours("lora", "fp32", n),
    }
    if size.width < 1024:
        return found
    return found | {
        "adapters, fp32, longest, dropout": peer("seq_bn", "longest", n, dropout=True),
        "adapters, autocast, longest": peer("seq_bn", "longest", n, True),
        "peft, fp32, maximum": peer("lora", "maximum", n),
        "peft, fp32, longest": peer("lora", "longest", n),
        "ours lora, bf16": ours("lora", "bf16", n),
        "ours lora, int8": ours("lora", "int8", n),
        "ours lora, nf4": ours("lora", "nf4", n),
        "ours lora, fp32, whole vocabulary": ours("lora", "fp32", n, compact=False),
        "ours lora, fp32, 32 examples": ours("lora", "fp32", 32),
        "ours lora, fp32, 32 examples, 512 tokens": ours("lora", "fp32", 32, tokens=512),
        "ours lora, fp32, 32 examples, recompute 1": ours("lora", "fp32", 32, recompute=1),
        "ours lora, bf16, 32 examples, recompute 1": ours("lora", "bf16", 32, recompute=1),
        "ours seq_bn, fp32, 32 examples": ours("seq_bn", "fp32", 32),
        "ours seq_bn, fp32, 8 windows": ours("seq_bn", "fp32", 8, "qa"),
        "ours lora, bf16, 8 windows, 1024 tokens": ours("lora", "bf16", 8, "qa", tokens=1024),
    }


# -- one row, in its own process --------------------------------------------------------------------------------------


def measured(size: Size, row: Row) -> dict[str, Any]:
    """Peak, live bytes, and for ours the forecast."""
    from ways import Ours, Peer, peer_model, reset

    begin(1)
    work = workload(row["workload"], size.vocabulary)
    rows = work.take(row["examples"])
    if row["ours"]:
        from adapterstilts.settings import EngineSettings
        from adapterstilts.stages.memory import use_allocator

        clear()
        engine = EngineSettings(**row["engine"])
        use_allocator(engine)
        way: Any = Ours(size, rows, row["method"], row["precision"], Clock(), engine, row["dropout"])
    else:
        model = peer_model(size, row["method"], dropout=row["dropout"])
        clear()
        way = Peer(model, [rows], work.longest if row["width"] == "maximum" else None, row["autocast"], Clock())
    reset(way.parameters())
    loaded = status("VmRSS")
    way.losses(2)
    found: dict[str, Any] = {"peak": status("VmHWM"), "loaded": loaded, "fill": way.fill, "real_tokens": tokens(rows)}
    found["alive"] = alive(lambda: way.losses(1))
    if row["ours"]:
        found["forecast"], found["parts"] = predicted(size, row, rows)
    return found


def alive(run: Callable[[], object]) -> int:
    """The most bytes that torch has allocated at once while this runs, beyond those before."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(sizes, initial=0))


def predicted(size: Size, row: Row, rows: Any) -> tuple[int, dict[str, int]]:
    """What the memory model says of one of our rows."""
    import numpy as np
    from ways import METHODS

    from adapterstilts.modules.methods import resolve
    from adapterstilts.modules.sizes import base_shape
    from adapterstilts.settings import EngineSettings
    from adapterstilts.stages.forecast import Lengths, Work, forecast

    # The one update is known to the token, where a plan knows a distribution.
    mean = tokens(rows) / len(rows)
    lengths = Lengths(mean, 0.0, max(map(len, rows)), len(np.unique(np.concatenate(rows))))
    made = forecast(
        Work(
            shape=base_shape(str(checkpoint(size))),
            precision=row["precision"],
            engine=EngineSettings(**row["engine"]),
            lengths=lengths,
            modules=(resolve(METHODS[row["method"]]),),
            batch=len(rows),
            reads_first=True,
            base_dropout=row["dropout"],
        )
    )
    parts = {**made.parts, "libraries": LIBRARIES}
    return sum(parts.values()), parts


def clear() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


# -- all rows ---------------------------------------------------------------------------------------------------------


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--row", help=argparse.SUPPRESS)
    made.add_argument("--only", action="append", help="a part of the names of the rows")
    options = made.parse_args()
    size = SIZES[options.size]
    if options.row:
        print(json.dumps(measured(size, json.loads(options.row))))
        return
    checkpoint(size)
    rows: list[Row] = []
    for name, row in rows_of(size).items():
        if options.only and not any(part in name for part in options.only):
            continue
        if row.get("precision") == "nf4" and find_spec("bitsandbytes") is None:
            print(f"{name}: left out, bitsandbytes is not installed", file=sys.stderr)
            continue
        found = {"name": name, **row}
        command = [sys.executable, __file__, "--size", options.size, "--row", json.dumps(row)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found |= json.loads(done.stdout.splitlines()[-1])
        rows.append(found)
        print(f"{name}: {found['peak'] / 2**20:.0f} MiB", file=sys.stderr)
    reference = next((row["peak"] for row in rows if row["name"] == REFERENCE), None)
    for row in rows:
        row["of_reference"] = row["peak"] / reference if reference else None
        if row["ours"]:
            row["forecast_error"] = row["forecast"] / row["peak"] - 1
    lengths = "real" if (SHARED / "data").is_dir() else "log-normal"
    peaks = {row["name"]: row["peak"] for row in rows}
    targets = [
        {"name": name, "peer": peer, "target": target, "reached": peaks[name] / peaks[peer]}
        | {"met": bool(peaks[name] <= target * peaks[peer])}
        for peer, target in TARGETS.items()
        for name in (BEST, LEAN)
        if peer in peaks and name in peaks
    ]
    result = {"size": options.size, "lengths": lengths, "machine": machine(Clock()), "rows": rows, "targets": targets}
    columns = {
        "way": lambda row: row["name"],
        "real tokens": lambda row: str(row["real_tokens"]),
        "fill": lambda row: f"{row['fill']:.2f}",
        "peak MiB": lambda row: f"{row['peak'] / 2**20:.0f}",
        f"of `{REFERENCE}`": lambda row: "" if row["of_reference"] is None else f"{row['of_reference']:.2f}",
        "loaded MiB": lambda row: f"{row['loaded'] / 2**20:.0f}",
        "alive MiB": lambda row: f"{row['alive'] / 2**20:.0f}",
        "forecast MiB": lambda row: f"{row['forecast'] / 2**20:.0f}" if row["ours"] else "",
        "forecast error": lambda row: f"{row['forecast_error']:+.0%}" if row["ours"] else "",
    }
    lines = [table(rows, columns)]
    for row in targets:
        verdict = "met" if row["met"] else "NOT met"
        lines.append(f"{row['name']}: {row['reached']:.2f} of {row['peer']}, target {row['target']}: {verdict}")
    finish("memory", options, result, "\n".join(lines))


if __name__ == "__main__":
    main()
