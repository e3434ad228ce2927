"""States raised to fp32: the same gradients, and no raised copy outlives the place that reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from adapterstilts.encoder.base import load_base
from adapterstilts.encoder.upcast import upcasts
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import leaves
from adapterstilts.modules.expressions import parse
from adapterstilts.settings import EngineSettings
from tests.encoder.test_engine import PLAIN, gradients
from tests.encoder.test_packed import batch_for
from tests.modules.conftest import tiny_directory, trained  # noqa: F401


@pytest.mark.parametrize("lean", [True, False])
def test_what_reads_a_view_of_a_raised_tensor_has_the_same_gradients(lean: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 5, 8, generator=generator).bfloat16()
    weight = torch.randn(3, 4, generator=generator)
    found = []
    for kept in (lean, False):
        x, w = states.clone().requires_grad_(), weight.clone().requires_grad_()
        with upcasts(x, kept) as raised:
            high = raised(x.transpose(0, 1))
            half = high[..., 4:]  # an offset, and strides that are not those of a copy
            loss = ((half @ w.T) * (half * half).sum(-1, keepdim=True)).sum() + raised(x).exp().sum()
        loss.backward()
        found.append((x.grad, w.grad))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_fp32_is_left_alone() -> None:
    x = torch.randn(3, requires_grad=True)
    with upcasts(x) as raised:
        assert raised(x) is x


KINDS = ("lora", "rslora", "adalora", "seq_bn", "double_seq_bn", "par_bn", "compacter")
TREES = {kind: {"a": kind} for kind in KINDS} | {
    "stack(a, b)": {"a": "lora", "b": "seq_bn"},
    "fuse(a, b)": {"a": "lora", "b": "lora"},
    "fuse(c, d)": {"c": "seq_bn", "d": "seq_bn"},
}


@pytest.mark.parametrize("case", TREES)
def test_no_raised_copy_outlives_its_place(tiny_directory: Path, case: str) -> None:  # noqa: F811
    made = {name: trained(load_base(str(tiny_directory)), kind, ord(name)) for name, kind in TREES[case].items()}
    tree = parse(case if "(" in case else "a")
    adapted = Adapted(load_base(str(tiny_directory), "bf16"), made, tree, train=frozenset(leaves(tree)))
    read: list[StorageWeakRef] = []

    def watch(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].dtype == torch.float32 and inputs[0].shape[-1] >= adapted.base.width:
            read.append(StorageWeakRef(inputs[0].untyped_storage()))

    for path, module in adapted.model.named_modules():
        if path.endswith((".lora_A.m0", ".lora_A.m1", ".adapter_down.0")):
            module.register_forward_pre_hook(watch)
    # AdaLoRA's factors are no modules: there the gradients alone are compared.
    loss = adapted.encode(batch_for("tagging")).square().sum()
    assert (read or case == "adalora") and all(reference.expired() for reference in read)
    loss.backward()
    assert all(parameter.grad is not None for parameter in adapted.trainable().values())


@pytest.mark.parametrize("kind", [*KINDS, "dora", "ia3", "vera", "pissa"])
def test_a_base_in_bf16_trains_with_the_bits_of_copies_that_are_kept(tiny_directory: Path, kind: str) -> None:  # noqa: F811
    """Recomputed segments keep nothing through the hooks, so they raise plainly."""
    weights, batch = {"a": trained(load_base(str(tiny_directory)), kind, 1)}, batch_for("tagging")
    bases = [load_base(str(tiny_directory), "bf16") for _ in range(2)]
    wanted = gradients(bases[0], weights, "a", batch, "tagging", EngineSettings(recompute=1))
    found = gradients(bases[1], weights, "a", batch, "tagging", PLAIN)
    assert found[0] == wanted[0] and torch.equal(found[1], wanted[1])
