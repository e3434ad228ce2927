"""AdapterFusion by associativity against the adapters library's own, with equal parameters.

    python benchmarks/fusion.py --size tiny
    python benchmarks/fusion.py --size slice --out benchmarks/results

All rows have one length, so that padding plays no part: what differs is the order of the products alone. Modules are
frozen, the mixture trains. A turn is forward and backward; ``kept`` are the bytes that autograd holds in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import (
    LABELS,
    PAD,
    SIZES,
    Clock,
    Size,
    arrays,
    begin,
    checkpoint,
    compared,
    finish,
    interleaved,
    machine,
    parser,
    spread,
    table,
)

LENGTH = 40
COUNTS = (3, 9)


def names(count: int) -> list[str]:
    return [f"a{index}" for index in range(count)]


class Ours:
    """A fusion of ours, its head, and one batch."""

    def __init__(self, size: Size, rows: Any, count: int) -> None:
        from ways import METHODS

        from adapterstilts.encoder.base import load_base
        from adapterstilts.encoder.batch import collate
        from adapterstilts.encoder.heads import build_head
        from adapterstilts.modules.attach import Adapted
        from adapterstilts.modules.expressions import parse
        from adapterstilts.modules.leaf import LeafWeights
        from adapterstilts.modules.methods import resolve

        data = arrays(rows)
        leaf = LeafWeights(resolve(METHODS["seq_bn"]))
        tree = parse(f"fuse({', '.join(names(count))}, how=attention)")
        base = load_base(str(checkpoint(size)), used=[data.ids])
        self.adapted = Adapted(base, dict.fromkeys(names(count), leaf), tree)
        for parameter in self.adapted.fusion_tensors().values():
            parameter.requires_grad_(True)
        self.head = build_head("classification", size.width, LABELS)
        self.batch = collate(data.ids, data.rows, data.examples, data.fields, range(len(rows)), pad_id=PAD)

    def parameters(self) -> dict[str, Any]:
        """What trains, by names that both sides share."""
        found = {name.partition("/")[2].replace("/", "."): p for name, p in self.adapted.fusion_tensors().items()}
        return {**found, **{f"head.{name}": p for name, p in self.head.named_parameters()}}

    def frozen(self) -> dict[str, Any]:
        return {f"{name}.{path}": p for name in names(9) if name in self.adapted.parts
                for path, p in self.adapted.tensors(name).items()}  # fmt: skip

    def loss(self) -> Any:
        loss, units = self.head.loss(self.adapted.logits(self.head, self.batch), self.batch)
        return loss / units


class Library:
    """adapters' own Fuse of as many modules."""

    def __init__(self, size: Size, rows: Any, count: int) -> None:
        import adapters
        import torch
        from adapters.composition import Fuse
        from transformers import XLMRobertaForSequenceClassification
        from ways import METHODS

        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        self.model = XLMRobertaForSequenceClassification.from_pretrained(
            checkpoint(size), attn_implementation="sdpa", num_labels=LABELS, **off
        )
        adapters.init(self.model)
        for name in names(count):
            reduction = METHODS["seq_bn"].parameters["reduction"]
            self.model.add_adapter(name, config=adapters.SeqBnConfig(reduction_factor=reduction))
        self.model.add_adapter_fusion(Fuse(*names(count)))
        self.model.train_adapter_fusion(Fuse(*names(count)))
        self.ids = torch.from_numpy(np.stack(rows)).long()
        self.labels = torch.arange(len(rows)) % LABELS

    def parameters(self) -> dict[str, Any]:
        found = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and "adapter_fusion_layer" in name:
                place, _, rest = name.partition(".adapter_fusion_layer.")
                found[f"{place.removeprefix('roberta.')}.{rest.partition('.')[2]}"] = parameter
            elif parameter.requires_grad:
                found["head." + name.removeprefix("classifier.").replace("out_proj", "out")] = parameter
        return found

    def frozen(self) -> dict[str, Any]:
        found = {}
        for name, parameter in self.model.named_parameters():
            place, behind, rest = name.removeprefix("roberta.").partition(".adapters.")
            if behind:
                module, _, rest = rest.partition(".")
                found[f"{module}.{place}.{rest}"] = parameter
        return found

    def loss(self) -> Any:
        return self.model(input_ids=self.ids, labels=self.labels).loss


def kept_bytes(side: Any) -> int:
    """Bytes of distinct storages that autograd holds of one forward pass, parameters left out."""
    import torch

    model = side.adapted.model if isinstance(side, Ours) else side.model
    held = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *side.parameters().values()]}
    kept: dict[int, int] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in held:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        side.loss().backward()
    return sum(kept.values())


def measure(size: Size, count: int, rounds: int, clock: Clock) -> dict[str, Any]:
    """One row: a fusion of so many modules."""
    import torch
    from ways import reset

    random = np.random.default_rng(0)
    rows = [random.integers(5, size.vocabulary, LENGTH).astype(np.int32) for _ in range(size.examples)]
    sides: dict[str, Any] = {"ours": Ours(size, rows, count), "library": Library(size, rows, count)}
    states, kept = {}, {}
    for name, side in sides.items():
        reset({**side.parameters(), **side.frozen()})
        kept[name] = kept_bytes(side)
        gradients = {n: p.grad for n, p in side.parameters().items() if p.grad is not None}
        states[name] = float(side.loss().detach()), {n: gradient.clone() for n, gradient in gradients.items()}
    equal = compared(states["ours"][1], states["library"][1])

    def train(side: Any) -> Callable[[], float]:
        def run() -> float:
            start = clock()
            side.loss().backward()
            return clock() - start

        return run

    def infer(side: Any) -> Callable[[], float]:
        def run() -> float:
            start = clock()
            with torch.no_grad():
                side.loss()
            return clock() - start

        return run

    training = interleaved({name: train(side) for name, side in sides.items()}, rounds)
    inference = interleaved({name: infer(side) for name, side in sides.items()}, rounds)
    return {
        "modules": count,
        "tokens": LENGTH * len(rows),
        "training_faster": training.ratio("library", "ours"),
        "inference_faster": inference.ratio("library", "ours"),
        "seconds": {name: training.median(name) for name in sides},
        "kept": kept,
        "kept_share": kept["ours"] / kept["library"],
        "loss": abs(states["ours"][0] - states["library"][0]),
        **equal,
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    clock, size = Clock(options.threads, options.wall), SIZES[options.size]
    begin(options.threads)
    rows = [measure(size, count, options.rounds or size.rounds, clock) for count in COUNTS]
    result = {"size": options.size, "settings": vars(size), "rows": rows, "machine": machine(clock)}
    columns = {
        "modules": lambda row: str(row["modules"]),
        "training is faster": lambda row: spread(row["training_faster"]),
        "inference is faster": lambda row: spread(row["inference_faster"]),
        "kept MiB": lambda row: " / ".join(f"{row['kept'][side] / 2**20:.0f}" for side in ("ours", "library")),
        "equal": lambda row: f"loss {row['loss']:.0e}, gradient {row['relative']:.0e}",
    }
    finish("fusion", options, result, table(rows, columns))


if __name__ == "__main__":
    main()
