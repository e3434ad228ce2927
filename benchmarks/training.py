"""Adapter training against what a user could pick instead, paired in one process for each comparison.

    python benchmarks/training.py --size tiny                             # seconds: that everything runs and agrees
    python benchmarks/training.py --size slice --out benchmarks/results   # 3 layers of XLM-R Large's width
    python benchmarks/training.py --size large --out benchmarks/results   # 24 layers, vocabulary 250002

Same examples, same update, same start, dropout off. Equality is against the library's fp32 run padded to the longest:
the loss of each update, the relative Frobenius error and the cosine of all gradients of the first, the largest
difference of hidden states. Rows "by length" draw batches of similar lengths: other updates, compared by seconds a
token alone. The last columns relate a way to the bare matrix products of its real tokens on the same core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import (
    SIZES,
    Clock,
    Size,
    Workload,
    bare_products,
    begin,
    checkpoint,
    compared,
    finish,
    interleaved,
    machine,
    parser,
    spread,
    table,
    tokens,
    workload,
)

COMPARISONS = ("seq_bn", "lora", "full")
REFERENCE = "library, fp32, longest"
# ours against the peer, and what the project asks for (XLM-R Large, NLI lengths)
TARGETS = {
    "library, fp32, maximum": ("ours, bf16", 7.0),
    "library, fp32, longest": ("ours, bf16", 3.5),
    "best of the same updates": ("ours, bf16", 2.0),
}


def build(size: Size, work: Workload, method: str, clock: Clock) -> dict[str, Any]:
    """The ways of one comparison by name."""
    import torch
    from ways import Ours, Peer, of_similar_length, peer_model

    from adapterstilts.settings import EngineSettings

    rows = work.take(size.examples)
    engine = EngineSettings(tokens=8192)
    ours = "seq_bn" if method == "full" else method
    ways: dict[str, Any] = {
        f"ours, {precision}": Ours(size, rows, ours, precision, clock, engine) for precision in ("fp32", "bf16")
    }
    model = peer_model(size, method)
    stored = checkpoint(size) if method == "full" else None
    grouped = of_similar_length(work.rows, size.examples, 2)
    ways["library, fp32, maximum"] = Peer(model, [rows], work.longest, False, clock, stored)
    ways[REFERENCE] = Peer(model, [rows], None, False, clock, stored)
    ways["library, autocast, longest"] = Peer(model, [rows], None, True, clock, stored)
    ways["library, autocast, by length"] = Peer(model, grouped, None, True, clock, stored)
    if method != "full":  # AdamW in bf16 loses the small updates of a whole encoder
        half = peer_model(size, method, torch.bfloat16)
        ways["library, all bf16, longest"] = Peer(half, [rows], None, False, clock)
        ways["library, all bf16, by length"] = Peer(half, grouped, None, False, clock)
    return ways


def equality(ways: dict[str, Any], method: str, updates: int) -> dict[str, dict[str, Any]]:
    """What was equal between each way and the reference."""
    from ways import first_gradients

    states: dict[str, Any] = {}
    for name, way in ways.items():
        if "by length" in name or (method == "full" and name.startswith("ours")):
            continue
        way.restart()
        hidden = way.hidden()
        with first_gradients(_watched(way.parameters(), method)) as gradients:
            losses = way.losses(updates)
        states[name] = (losses, hidden, gradients)
    losses, hidden, gradients = states[REFERENCE]
    return {
        name: {
            "loss": [abs(a - b) for a, b in zip(own[0], losses, strict=True)],
            "final_loss": own[0][-1],
            "hidden": float((own[1] - hidden).abs().max()),
            **compared(own[2], gradients),
        }
        for name, own in states.items()
    }


def _watched(parameters: dict[str, Any], method: str) -> dict[str, Any]:
    """Of a whole encoder the lowest layer, which all others are behind: more would not fit."""
    return {n: p for n, p in parameters.items() if "encoder.layer.0." in n} if method == "full" else parameters


def measure(size: Size, work: Workload, method: str, rounds: int, clock: Clock) -> list[dict[str, Any]]:
    """The rows of one comparison."""
    ways = build(size, work, method, clock)
    equal = equality(ways, method, size.updates + 1)
    rows = work.take(size.examples)
    runs = {name: (lambda way=way: way.turn(size.updates)) for name, way in ways.items()}
    for precision in ("fp32", "bf16"):
        product = bare_products(ways[f"ours, {precision}"].adapted.model, tokens(rows), clock)
        runs[f"bare products, {precision}"] = lambda product=product: product() / tokens(rows) * 1000
    turns = interleaved(runs, rounds)
    flop = 4 * size.encoder_parameters * 1000
    made = []
    for name, way in ways.items():
        precision = "fp32" if "fp32" in name else "bf16"
        made.append(
            {
                "workload": work.name,
                "comparison": method,
                "way": name,
                "examples": size.examples,
                "real_tokens": tokens(rows),
                "fill": way.fill,
                "seconds_per_1000_tokens": turns.median(name),
                "seconds_range": [min(turns.seconds[name]), max(turns.seconds[name])],
                "ours_fp32_faster": turns.ratio(name, "ours, fp32"),
                "ours_bf16_faster": turns.ratio(name, "ours, bf16"),
                "gflops": flop / turns.median(name) / 1e9,
                "share_of_bare_products": turns.ratio(f"bare products, {precision}", name),
                "equal": equal.get(name),
                "same_update": name in equal,
            }
        )
    return made


def targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was asked for and what came out, on NLI lengths against `adapters`."""
    own = {row["way"]: row for row in rows if row["comparison"] == "seq_bn" and row["workload"] == "nli"}
    best = min(
        (row for way, row in own.items() if way.startswith("library") and row["same_update"]),
        key=lambda row: row["seconds_per_1000_tokens"],
        default=None,
    )
    made = []
    for peer, (ours, target) in TARGETS.items():
        row = best if peer.startswith("best") else own.get(peer)
        if row is not None:
            value = row[f"{ours.replace(', ', '_')}_faster"]
            made.append({"peer": row["way"], "ours": ours, "target": target, "reached": value})
    share = own.get("ours, fp32")
    if share is not None:
        reached = share["share_of_bare_products"]
        made.append({"peer": "bare products, fp32", "ours": "ours, fp32", "target": 0.85, "reached": reached})
    return [{**row, "met": row["reached"]["median"] >= row["target"]} for row in made]


def shown(result: dict[str, Any]) -> str:
    def same(row: Any) -> str:
        equal = row["equal"]
        if equal is None:
            return "another method" if "ours" in row["way"] else "other updates"
        gradient = f"gradient {equal['relative']:.0e} (cos {equal['cosine']:.4f})"
        return f"loss {max(equal['loss']):.0e}, {gradient}, hidden {equal['hidden']:.0e}"

    lines = [
        table(
            result["rows"],
            {
                "lengths": lambda row: row["workload"],
                "against": lambda row: row["comparison"],
                "way": lambda row: row["way"],
                "fill": lambda row: f"{row['fill']:.2f}",
                "s / 1000 real tokens": lambda row: f"{row['seconds_per_1000_tokens']:.3f}",
                "ours fp32 is faster": lambda row: spread(row["ours_fp32_faster"]),
                "ours bf16 is faster": lambda row: spread(row["ours_bf16_faster"]),
                "of bare products": lambda row: spread(row["share_of_bare_products"]),
                "equal": same,
            },
        )
    ]
    for row in result["targets"]:
        verdict = "met" if row["met"] else "NOT met"
        reached = f"{spread(row['reached'])}, target {row['target']}: {verdict}"
        lines.append(f"{row['ours']} against {row['peer']}: {reached}")
    return "\n".join(lines)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--only", choices=COMPARISONS, action="append", help="default: all, each in its own process")
    made.add_argument("--raw", type=Path, help="rows alone, for the process that puts them together")
    options = made.parse_args()
    clock, size = Clock(options.threads, options.wall), SIZES[options.size]
    rows: list[dict[str, Any]] = []
    sources = {}
    chosen = options.only or COMPARISONS
    if len(chosen) == 1 or options.size == "tiny":
        begin(options.threads)
        for name in size.workloads:
            work = workload(name, size.vocabulary)
            sources[name] = work.source
            for method in chosen:
                rows += measure(size, work, method, options.rounds or size.rounds, clock)
    else:
        for method in chosen:
            with tempfile.TemporaryDirectory() as folder:
                raw = Path(folder, "rows.json")
                again = [word for word in sys.argv[1:] if word not in chosen and word != "--only"]
                subprocess.run([sys.executable, __file__, *again, "--only", method, "--raw", str(raw)], check=True)
                part = json.loads(raw.read_text())
            rows += part["rows"]
            sources |= part["lengths"]
    result = {"size": options.size, "settings": vars(size), "lengths": sources, "rows": rows, "targets": targets(rows)}
    if options.raw:
        options.raw.write_text(json.dumps(result))
        return
    result["machine"] = machine(clock)
    finish("training", options, result, shown(result))


if __name__ == "__main__":
    main()
