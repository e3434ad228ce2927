"""Prediction with an adapted encoder against the library's padded forward, paired in one process.

    python benchmarks/inference.py --size tiny
    python benchmarks/inference.py --size slice --out benchmarks/results

Same rows, same trained module, a classification head on <s>. The peer runs batches of 8 in the order of the data,
padded to the maximum and to the longest, and at its best: sorted by length, in fp32 and in bf16 (autocast, or the
whole model). Larger batches hold more padding when sorted (NLI pairs fill .73 in 32, .94 in 8), which costs more than
larger products gain. ``hidden`` is the relative error of the last layer's states of <s>, against fp32 padded to the
longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from common import (
    PAD,
    SIZES,
    Clock,
    Size,
    Workload,
    arrays,
    begin,
    finish,
    interleaved,
    machine,
    parser,
    spread,
    table,
    tokens,
    workload,
)
from numpy.typing import NDArray

BATCH = 8
COUNTS = {"nli": 8, "qa": 2, "sentences": 8}  # times the examples of an update
REFERENCE = "library, fp32, longest"
Rows = Sequence[NDArray[np.int32]]
Run = Callable[[], Any]  # -> (R, d) states of <s> in the order of the rows


def ours(size: Size, rows: Rows, precision: str, clock: Clock) -> Run:
    """Packed, only the embedding rows that occur, micro-batches of one token budget."""
    import torch
    from ways import Ours, reset

    from adapterstilts.evaluation.predict import outputs
    from adapterstilts.settings import EngineSettings

    way = Ours(size, rows, "seq_bn", precision, clock, EngineSettings(tokens=4096))
    reset(way.parameters())
    data = arrays(rows)

    def run() -> Any:
        return torch.stack([torch.from_numpy(found[0]) for found in outputs(way.adapted, First(), data)])

    return run


class First:
    """A head that says the state of <s> itself."""

    reads_first = True

    def eval(self) -> First:
        return self

    def __call__(self, hidden: Any, batch: Any) -> Any:
        return hidden[batch.starts]

    def outputs(self, logits: Any, batch: Any) -> list[Any]:
        return list(logits.unbind(0))


def peer(size: Size, rows: Rows, width: int | None, how: str, ordered: bool) -> tuple[Run, float]:
    """The library's padded forward and its fill; ``how``: fp32, autocast or bf16."""
    import torch
    from ways import peer_model, reset, shared_name

    model = peer_model(size, "seq_bn")
    reset({shared_name(name): p for name, p in model.named_parameters() if p.requires_grad})
    model = model.to(torch.bfloat16 if how == "bf16" else torch.float32).eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i])) if ordered else list(range(len(rows)))
    parts = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    widths = [width or max(len(rows[i]) for i in part) for part in parts]

    def run() -> Any:
        states = torch.empty(len(rows), size.width)
        for part, wide in zip(parts, widths, strict=True):
            ids = torch.full((len(part), wide), PAD)
            for place, index in enumerate(part):
                ids[place, : len(rows[index])] = torch.from_numpy(rows[index])
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
                found = model.roberta(input_ids=ids, attention_mask=(ids != PAD).long()).last_hidden_state
            states[part] = found[:, 0].float()
        return states

    return run, tokens(rows) / sum(len(part) * wide for part, wide in zip(parts, widths, strict=True))


def measure(size: Size, work: Workload, count: int, rounds: int, clock: Clock) -> list[dict[str, Any]]:
    """The rows of one workload."""
    rows = work.take(count)
    runs: dict[str, Run] = {}
    fills = {}
    for precision in ("fp32", "bf16", "int8-dynamic"):
        runs[f"ours, {precision}"], fills[f"ours, {precision}"] = ours(size, rows, precision, clock), 1.0
    for name, width, how, ordered in (
        ("library, fp32, maximum", work.longest, "fp32", False),
        (REFERENCE, None, "fp32", False),
        ("library, fp32, sorted", None, "fp32", True),
        ("library, autocast, sorted", None, "autocast", True),
        ("library, bf16, sorted", None, "bf16", True),
    ):
        runs[name], fills[name] = peer(size, rows, width, how, ordered)
    states = {name: run() for name, run in runs.items()}
    wanted = states[REFERENCE]

    def timed(run: Run) -> float:
        start = clock()
        run()
        return (clock() - start) / tokens(rows) * 1000

    turns = interleaved({name: lambda run=run: timed(run) for name, run in runs.items()}, rounds)
    return [
        {
            "workload": work.name,
            "lengths": work.source,
            "way": name,
            "examples": count,
            "real_tokens": tokens(rows),
            "fill": fills[name],
            "seconds_per_1000_tokens": turns.median(name),
            "ours_fp32_faster": turns.ratio(name, "ours, fp32"),
            "ours_bf16_faster": turns.ratio(name, "ours, bf16"),
            "hidden": float((states[name] - wanted).norm() / wanted.norm()),
        }
        for name in runs
    ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--only", choices=COUNTS, action="append", help="default: all lengths that the size has")
    options = made.parse_args()
    clock, size = Clock(options.threads, options.wall), SIZES[options.size]
    begin(options.threads)
    rows: list[dict[str, Any]] = []
    for name in options.only or [name for name in COUNTS if name != "qa" or size.width >= 1024]:
        work = workload(name, size.vocabulary)
        rows += measure(size, work, COUNTS[name] * size.examples, options.rounds or size.rounds, clock)
    result = {"size": options.size, "settings": vars(size), "rows": rows, "machine": machine(clock)}
    columns = {
        "lengths": lambda row: row["workload"],
        "way": lambda row: row["way"],
        "fill": lambda row: f"{row['fill']:.2f}",
        "s / 1000 real tokens": lambda row: f"{row['seconds_per_1000_tokens']:.3f}",
        "ours fp32 is faster": lambda row: spread(row["ours_fp32_faster"]),
        "ours bf16 is faster": lambda row: spread(row["ours_bf16_faster"]),
        "hidden": lambda row: f"{row['hidden']:.0e}",
    }
    finish("inference", options, result, table(rows, columns))


if __name__ == "__main__":
    main()
