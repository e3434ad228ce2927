"""Several modules in one loop against one after another: the table that decides where it pays.

    python benchmarks/together.py --size tiny
    python benchmarks/together.py --size slice --out benchmarks/results

Two bases: the lab's shape (4 layers, width 96) and 3 layers of XLM-R Large's width (tiny: the lab's alone). Rows of a
log-normal length, 8 or 32 of mean 12 or 4, 8 and 32 of mean 40 in an update of each module, two updates in a turn, the
optimizer's among them. The trained numbers of all modules are compared after two updates from the same start.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    LABELS,
    Clock,
    Size,
    arrays,
    begin,
    checkpoint,
    finish,
    interleaved,
    machine,
    parser,
    spread,
    table,
)

LAB, WIDE = Size(4, 96, 600, 8, 2, 2), Size(3, 1024, 16384, 8, 2, 1)
UPDATES = ((12, 8), (12, 32), (40, 4), (40, 8), (40, 32))  # mean length, rows
COUNTS = (2, 4, 8)
STEPS = 2


def rows_of(size: Size, mean: int, count: int, seed: int) -> list[Any]:
    """Random rows of a log-normal length."""
    random = np.random.default_rng(seed)
    lengths = np.clip(np.round(np.exp(random.normal(np.log(mean), 0.3, count))), 5, 120).astype(int)
    return [random.integers(5, size.vocabulary, length).astype(np.int32) for length in lengths]


class Modules:
    """Modules with data of their own, on one base; trained in one loop or one after another."""

    def __init__(self, size: Size, method: str, count: int, clock: Clock, precision: Any) -> None:
        import torch
        from ways import METHODS

        from adapterstilts.encoder.base import load_base
        from adapterstilts.encoder.heads import build_head
        from adapterstilts.modules.attach import Adapted
        from adapterstilts.modules.leaf import LeafWeights
        from adapterstilts.modules.methods import resolve

        self.size, self.clock, self.names = size, clock, [f"m{number}" for number in range(count)]
        leaf = LeafWeights(resolve(METHODS[method]))
        base = load_base(str(checkpoint(size)), precision)
        self.adapted = Adapted(base, dict.fromkeys(self.names, leaf), None)
        self.heads = {name: build_head("classification", size.width, LABELS) for name in self.names}
        torch.manual_seed(0)
        every = [p for name in self.names for p in self.parameters(name).values()]
        self.start = [(p, torch.randn(p.shape) * 0.02) for p in every]

    def parameters(self, name: str) -> dict[str, Any]:
        return {**self.adapted.tensors(name), **dict(self.heads[name].named_parameters())}

    def courses(self, mean: int, rows: int, folder: Path) -> list[Any]:
        """A course of each, from the start."""
        import torch

        from adapterstilts.modules.composition import Leaf
        from adapterstilts.settings import TrainSettings
        from adapterstilts.training.course import Course, Share
        from adapterstilts.training.schedule import make_schedule
        from adapterstilts.training.together import Member

        with torch.no_grad():
            for parameter, value in self.start:
                parameter.copy_(value)
        settings = TrainSettings(batch=rows, steps=STEPS, checkpoints=0)
        members = []
        for number, name in enumerate(self.names):
            share = Share(arrays(rows_of(self.size, mean, rows, number)), np.arange(rows), "head")
            course = Course(
                self.adapted.tensors(name),
                {"head": self.heads[name]},
                [share],
                make_schedule([rows], settings, seed=number),
                settings,
                learning_rate=1e-3,
                seed=number,
                work=folder,
                score=lambda: 0.0,
                progress=lambda fraction, text: None,
            )
            members.append(Member(Leaf(name), name, course))
        return members

    def turn(self, mean: int, rows: int, together: bool) -> float:
        """Seconds of all updates of all modules."""
        from accelerate import Accelerator

        from adapterstilts.training.loop import gradients
        from adapterstilts.training.together import fit_together

        with tempfile.TemporaryDirectory() as folder:
            members = self.courses(mean, rows, Path(folder))
            if together:
                self.adapted.activate_apart([m.tree for m in members], train=frozenset(self.names))
                start = self.clock()
                fit_together(self.adapted, members)
                return self.clock() - start
            seconds = 0.0
            for member in members:
                self.adapted.activate(member.tree, frozenset({member.leaf}))
                self.adapted.train_mode(False)
                course, share, accelerator = member.course, member.course.shares[0], Accelerator()
                start = self.clock()
                while course.open:
                    _, indices = course.begin()
                    head = course.heads["head"]
                    course.update(0, gradients(self.adapted, head, share, indices, (0, course.state.step), accelerator))
                course.finish()
                seconds += self.clock() - start
            return seconds

    def trained(self) -> Any:
        import torch

        return torch.cat([parameter.detach().flatten().clone() for parameter, _ in self.start])


def measure(size: Size, method: str, count: int, rounds: int, clock: Clock, precision: str) -> list[dict[str, Any]]:
    """A row for each shape of an update."""
    import torch

    modules = Modules(size, method, count, clock, precision)
    made = []
    for mean, rows in UPDATES:
        if size.width > 256 and count * mean * rows > 3000:
            continue
        found = []
        for together in (False, True):
            modules.turn(mean, rows, together)
            found.append(modules.trained())
        turns = interleaved(
            {
                "alone": lambda mean=mean, rows=rows: modules.turn(mean, rows, False),
                "together": lambda mean=mean, rows=rows: modules.turn(mean, rows, True),
            },
            rounds,
        )
        made.append(
            {
                "width": size.width,
                "layers": size.layers,
                "method": method,
                "precision": precision,
                "modules": count,
                "rows": rows,
                "mean": mean,
                "tokens": rows * mean,
                "faster": turns.ratio("alone", "together"),
                "bits": bool(torch.equal(*found)),
                "relative": float((found[0] - found[1]).norm() / found[0].norm()),
            }
        )
    return made


def shown(rows: Sequence[dict[str, Any]]) -> str:
    return table(
        rows,
        {
            "width": lambda row: str(row["width"]),
            "base": lambda row: row["precision"],
            "method": lambda row: row["method"],
            "modules": lambda row: str(row["modules"]),
            "an update of each": lambda row: f"{row['rows']} rows of {row['mean']}",
            "together is faster": lambda row: spread(row["faster"]),
            "trained": lambda row: "same bits" if row["bits"] else f"{row['relative']:.0e} apart",
        },
    )


def main() -> None:
    options = parser(__doc__).parse_args()
    clock = Clock(options.threads, options.wall)
    begin(options.threads)
    rows: list[dict[str, Any]] = []
    for size in (LAB,) if options.size == "tiny" else (LAB, WIDE):
        for method in ("lora", "seq_bn"):
            for precision in ("fp32",) if options.size == "tiny" or size is WIDE else ("fp32", "bf16"):
                for count in COUNTS[1:2] if options.size == "tiny" else COUNTS:
                    rows += measure(size, method, count, options.rounds or size.rounds, clock, precision)
                    print(shown(rows), flush=True)
    result = {"size": options.size, "rows": rows, "machine": machine(clock)}
    finish("together", options, result, shown(rows))


if __name__ == "__main__":
    main()
