"""How far a base in fewer bits is from itself in fp32: hidden states, loss, and the gradient of a small LoRA."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterstilts.encoder.base import Base, device, load_base
from adapterstilts.encoder.batch import Batch
from adapterstilts.errors import MissingDependency, StageFailed
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.modules.leaf import LeafWeights
from adapterstilts.modules.methods import resolve
from adapterstilts.settings import MethodSettings, Precision

PRECISIONS: tuple[Precision, ...] = ("bf16", "int8", "nf4", "int8-dynamic")


def distances(
    ref: str, batch: Batch, make_head: Callable[[Base], nn.Module], precisions: Sequence[Precision] = PRECISIONS
) -> Iterator[dict[str, Any]]:
    """Compare precisions on one labelled batch, dropout off; the LoRA (r=8) and the head are random, from a fixed seed.

    Yields:
        {name, state, bytes, hidden, loss, cosine} for fp32 and each precision. ``hidden``: relative Frobenius error
        of the last layer; ``loss``: difference of the mean loss; ``cosine``: of the LoRA's gradients, None where no
        gradient passes; ``bytes``: of the loaded base. What is not installed has ``state`` and ``fix`` alone.
    """
    exact = _measured(ref, "fp32", batch, make_head)
    for precision in ("fp32", *precisions):
        try:
            found = exact if precision == "fp32" else _measured(ref, precision, batch, make_head)
        except (MissingDependency, StageFailed) as error:
            yield {"name": precision, "state": error.what, "fix": error.fix}
            continue
        hidden, loss, gradient, held = found
        yield {
            "name": precision,
            "state": "ok" if gradient is not None else "ok, not for training",
            "bytes": held,
            "hidden": float((hidden - exact[0]).norm() / exact[0].norm()),
            "loss": loss - exact[1],
            "cosine": None if gradient is None else _cosine(gradient, exact[2]),
        }


def _measured(
    ref: str, precision: Precision, batch: Batch, make_head: Callable[[Base], nn.Module]
) -> tuple[Tensor, float, Tensor | None, int]:
    # Of the word embeddings only the batch's rows: the comparison is the same, and takes less memory.
    base = load_base(ref, precision, used=[batch.ids.numpy()])
    held = sum(tensor.numel() * tensor.element_size() for tensor in [*base.model.parameters(), *base.model.buffers()])
    trains = precision != "int8-dynamic"
    method = resolve(MethodSettings(name="lora"))
    adapted = Adapted(base, {"m": LeafWeights(method)}, Leaf("m"), train=frozenset({"m"} if trains else ()))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(adapted.tensors("m").items()):
            parameter.normal_(0.0, 0.02, generator=generator)  # zeros would hide half of the gradient
    torch.manual_seed(0)
    head: Any = make_head(base)
    adapted.to(device())
    head.to(device())
    placed = batch.to(device())
    adapted.train_mode(False)
    with torch.set_grad_enabled(trains):
        hidden = adapted.encode(placed)
        loss, units = head.loss(head(hidden, placed), placed)
        mean = loss / max(1, units)
        if trains:
            mean.backward()
    gradients = [p.grad.flatten() for p in adapted.trainable().values() if p.grad is not None]
    return hidden.detach().cpu(), float(mean.detach()), torch.cat(gradients).cpu() if trains else None, held


def _cosine(one: Tensor, other: Tensor | None) -> float:
    assert other is not None
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=0))
