"""Three modules measured on the same data: the layers below all of them once for all, or for each again.

    python benchmarks/shared.py --size tiny
    python benchmarks/shared.py --size large --out benchmarks/results

LoRAs on the upper half of the layers, each in an encoder of its own, as evaluation stages have them; rows of real NLI
lengths, a head on <s>. The time of ``shared`` holds the writing of the states. Outputs are compared to the bit.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import (
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

MODULES = 3


def encoders(size: Size, ids: Any, precision: Any) -> list[Any]:
    """The base with one module each."""
    from adapterstilts.encoder.base import load_base
    from adapterstilts.modules.attach import Adapted
    from adapterstilts.modules.composition import Leaf
    from adapterstilts.modules.leaf import LeafWeights
    from adapterstilts.modules.methods import resolve
    from adapterstilts.settings import EngineSettings, MethodSettings

    upper = list(range(size.layers // 2, size.layers))
    made = []
    for number in range(MODULES):
        given = {"r": 8, "alpha": 16, "sites": ["query", "value"], "layers": upper}
        leaf = LeafWeights(resolve(MethodSettings(name="lora", parameters=given)))
        base = load_base(str(checkpoint(size)), precision, used=[ids])
        name = f"m{number}"
        adapted = Adapted(base, {name: leaf}, Leaf(name), train=frozenset([name]), engine=EngineSettings())
        for parameter in adapted.trainable().values():
            parameter.data.normal_(0.0, 0.02)
        made.append(adapted)
    return made


def measure(size: Size, work: Workload, rounds: int, clock: Clock, precision: str) -> dict[str, Any]:
    """One row."""
    from inference import First

    from adapterstilts.evaluation.predict import chunks, outputs
    from adapterstilts.modules.branches import beneath
    from adapterstilts.modules.held import Holding

    rows = work.take(8 * size.examples)
    data = arrays(rows)
    several = encoders(size, data.ids, precision)
    found: dict[str, list[Any]] = {}

    def alone() -> float:
        start = clock()
        found["alone"] = [list(outputs(adapted, First(), data)) for adapted in several]
        return clock() - start

    def shared() -> float:
        start = clock()
        with tempfile.TemporaryDirectory() as folder:
            found["shared"] = []
            for number, adapted in enumerate(several):
                own = Path(folder, str(number))
                own.mkdir()
                layers, does = beneath(adapted)
                holding = Holding(adapted, layers, own, lambda _, text: None, Path(folder, "shared"), does)
                parts = [part for chunk in chunks(data, adapted.engine.tokens) for part in chunk]
                found["shared"].append(list(outputs(adapted, First(), holding.hold("nli", data, parts))))
                holding.let_go()
        return clock() - start

    turns = interleaved({"alone": alone, "shared": shared}, rounds)
    pairs = zip(found["alone"], found["shared"], strict=True)
    same = all((a == b).all() for one, other in pairs for left, right in zip(one, other, strict=True)
               for a, b in zip(left, right, strict=True))  # fmt: skip
    return {
        "precision": precision,
        "modules": MODULES,
        "layers": size.layers,
        "below": size.layers // 2,
        "tokens": tokens(rows),
        "faster": turns.ratio("alone", "shared"),
        "same_bits": bool(same),
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    clock, size = Clock(options.threads, options.wall), SIZES[options.size]
    begin(options.threads)
    work = workload("nli", size.vocabulary)
    rows = [measure(size, work, options.rounds or size.rounds, clock, precision) for precision in ("fp32", "bf16")]
    result = {"size": options.size, "lengths": work.source, "rows": rows, "machine": machine(clock)}
    columns = {
        "base": lambda row: row["precision"],
        "modules": lambda row: str(row["modules"]),
        "layers below": lambda row: f"{row['below']} of {row['layers']}",
        "faster": lambda row: spread(row["faster"]),
        "equal": lambda row: "same bits" if row["same_bits"] else "no",
    }
    finish("shared", options, result, table(rows, columns))


if __name__ == "__main__":
    main()
