"""Training above layer k with the hidden states below it held on disk, against computing them in every pass.

    python benchmarks/held.py --size tiny
    python benchmarks/held.py --size slice --out benchmarks/results

Four layers; the module (LoRA of rank 8 on query and value) sits on those from k = 1, 2 and 3 on. A turn is one pass:
four updates of real NLI lengths. What is held is written anew in its own turn (``write``): a run of n passes takes one
write and n passes. The losses and every trained number of two passes are compared.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    LABELS,
    SIZES,
    Clock,
    Size,
    Workload,
    arrays,
    begin,
    checkpoint,
    finish,
    interleaved,
    machine,
    parser,
    spread,
    table,
    tokens,
    workload,
)

UPDATES, RATE = 4, 1e-3


class Above:
    """A module on the layers from ``k`` on, its head, and its data, with their states held in a folder or not."""

    def __init__(
        self, size: Size, rows: Any, k: int, folder: Path | None, clock: Clock, precision: Any = "fp32"
    ) -> None:
        from adapterstilts.encoder.base import load_base
        from adapterstilts.encoder.heads import build_head
        from adapterstilts.modules.attach import Adapted
        from adapterstilts.modules.composition import Leaf
        from adapterstilts.modules.leaf import LeafWeights
        from adapterstilts.modules.methods import resolve
        from adapterstilts.settings import EngineSettings, MethodSettings, TrainSettings
        from adapterstilts.training.course import Share
        from adapterstilts.training.schedule import make_schedule

        self.clock, self.folder = clock, folder
        data = arrays(rows)
        given = {"r": 8, "alpha": 16, "sites": ["query", "value"], "layers": list(range(k, size.layers))}
        leaf = LeafWeights(resolve(MethodSettings(name="lora", parameters=given)))
        base = load_base(str(checkpoint(size)), precision, used=[data.ids])
        self.adapted = Adapted(base, {"a": leaf}, Leaf("a"), train=frozenset("a"), engine=EngineSettings(tokens=8192))
        self.head = build_head("classification", size.width, LABELS)
        self.start = [p.detach().clone() for p in self.parameters()]
        self.settings = TrainSettings(batch=len(rows) // UPDATES, steps=2 * UPDATES, checkpoints=0)
        self.share = Share(data, np.arange(len(rows)), "head")
        self.schedule = make_schedule([len(rows)], self.settings, seed=0)
        self.used, self.bytes = self.share, 0
        if folder is not None:
            self.write()

    def parameters(self) -> list[Any]:
        named = [*self.adapted.trainable().items(), *self.head.named_parameters()]
        return [parameter for _, parameter in sorted(named)]

    def write(self) -> float:
        """Seconds to compute and write what is held."""
        from adapterstilts.training.held import hold_states

        assert self.folder is not None
        for path in self.folder.iterdir():
            path.unlink()
        start = self.clock()
        shares, _, facts = hold_states(
            self.adapted,
            {"nli": self.share},
            {},
            self.schedule,
            self.settings,
            self.folder,
            lambda fraction, text: None,
        )
        seconds = self.clock() - start
        self.used, self.bytes = shares["nli"], (facts or {}).get("bytes", 0)
        return seconds

    def trained(self, passes: int) -> tuple[float, list[float]]:
        """Seconds and losses from the start."""
        import torch

        from adapterstilts.training.loop import fit
        from adapterstilts.training.schedule import make_schedule

        with torch.no_grad():
            for parameter, value in zip(self.parameters(), self.start, strict=True):
                parameter.copy_(value)
        settings = self.settings.model_copy(update={"steps": passes * UPDATES})
        schedule = make_schedule([len(self.share.chosen)], settings, seed=0)
        start = self.clock()
        with tempfile.TemporaryDirectory() as work:
            made = fit(
                self.adapted,
                {"head": self.head},
                [self.used],
                schedule,
                settings,
                learning_rate=RATE,
                seed=0,
                work=Path(work),
                score=lambda: 0.0,
                progress=lambda fraction, text: None,
            )
        return self.clock() - start, [row["loss"] for row in made.metrics]


def measure(size: Size, work: Workload, rounds: int, clock: Clock, precision: str = "fp32") -> list[dict[str, Any]]:
    """A row for each k."""
    size = replace(size, layers=4)
    rows = work.take(size.examples * UPDATES)
    every = Above(size, rows, 0, None, clock, precision)
    made = []
    for k in (1, 2, 3):
        with tempfile.TemporaryDirectory() as folder:
            plain, held = (Above(size, rows, k, place, clock, precision) for place in (None, Path(folder)))
            equal = compare(plain, held)
            turns = interleaved(
                {
                    "every layer": lambda: every.trained(1)[0],
                    "plain": lambda plain=plain: plain.trained(1)[0],
                    "held": lambda held=held: held.trained(1)[0],
                    "write": held.write,
                },
                rounds,
            )
        made.append(
            {
                "k": k,
                "layers": size.layers,
                "precision": precision,
                "tokens": tokens(rows),
                "bytes": held.bytes,
                **equal,
                "pass_faster": turns.ratio("plain", "held"),
                "than_every_layer": turns.ratio("every layer", "held"),
                "write_in_passes": turns.ratio("write", "plain"),
                "seconds": {name: turns.median(name) for name in turns.seconds},
            }
        )
    return made


def compare(plain: Above, held: Above) -> dict[str, Any]:
    """What two passes from the same start differ in: losses, and all trained numbers as one vector."""
    import torch

    for one, other in zip(plain.start, held.start, strict=True):
        other.copy_(one)
    losses = [way.trained(2)[1] for way in (plain, held)]
    trained = ([parameter.detach() for parameter in way.parameters()] for way in (plain, held))
    pairs = list(zip(*trained, strict=True))
    difference = sum(float((a - b).double().square().sum()) for a, b in pairs)
    norm = sum(float(a.double().square().sum()) for a, _ in pairs)
    return {
        "bits": losses[0] == losses[1] and all(torch.equal(a, b) for a, b in pairs),
        "loss": max(abs(a - b) for a, b in zip(*losses, strict=True)),
        "relative": (difference / norm) ** 0.5,
    }


def of_passes(row: dict[str, Any], count: int) -> float:
    """How many times faster a run of so many passes is, the write among them."""
    seconds = row["seconds"]
    return float(count * seconds["plain"] / (seconds["write"] + count * seconds["held"]))


def shown(result: dict[str, Any]) -> str:
    def same(row: dict[str, Any]) -> str:
        return "same bits" if row["bits"] else f"loss {row['loss']:.0e}, trained {row['relative']:.0e}"

    columns = {
        "base": lambda row: row["precision"],
        "k": lambda row: f"{row['k']} of {row['layers']}",
        "a pass is faster": lambda row: spread(row["pass_faster"]),
        "than with every layer": lambda row: spread(row["than_every_layer"]),
        "write, in passes": lambda row: spread(row["write_in_passes"]),
        "3 passes": lambda row: f"{of_passes(row, 3):.2f}",
        "10 passes": lambda row: f"{of_passes(row, 10):.2f}",
        "MB": lambda row: f"{row['bytes'] / 1e6:.1f}",
        "equal": same,
    }
    return table(result["rows"], columns)


def main() -> None:
    options = parser(__doc__).parse_args()
    clock, size = Clock(options.threads, options.wall), SIZES[options.size]
    begin(options.threads)
    work = workload("nli", size.vocabulary)
    rounds = options.rounds or size.rounds
    rows = [row for precision in ("fp32", "bf16") for row in measure(size, work, rounds, clock, precision)]
    result = {"size": options.size, "lengths": work.source, "rows": rows, "machine": machine(clock)}
    finish("held", options, result, shown(result))


if __name__ == "__main__":
    main()
