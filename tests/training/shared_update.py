"""What several processes do together in the tests of `training.distributed`: gradients of odd batches, a whole run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from adapterstilts.encoder.base import load_base
from adapterstilts.encoder.heads import build_head
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.composition import Leaf
from adapterstilts.settings import EngineSettings, TrainSettings
from adapterstilts.training.loop import fit, gradients
from adapterstilts.training.schedule import make_schedule
from tests.modules.conftest import trained
from tests.training.test_loop import share

BATCHES = {"even": range(12), "uneven": range(13), "one": range(1), "two": range(2)}  # of "one" a process has no part


def run(
    spec: str, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """``spec``: the directory of the base."""
    from accelerate import Accelerator

    accelerator = Accelerator()
    tensors: dict[str, torch.Tensor] = {}
    losses = {}
    for format in ("classification", "tagging"):
        for name, chosen in BATCHES.items():
            for tokens in (16, 4096):
                adapted, head = parts(spec, format, tokens)
                rest = build_head("tagging", 32, 3)  # of another task: has no gradient in this update
                key = f"{format}/{name}/{tokens}"
                indices = np.asarray(chosen)
                losses[key] = gradients(adapted, head, share(format, "h", 1), indices, (0, 0), accelerator)
                for number, parameter in enumerate([*adapted.trainable().values(), *head.parameters()]):
                    assert parameter.grad is not None
                    tensors[f"{key}/{number}"] = parameter.grad.clone()
                assert all(parameter.grad is None for parameter in rest.parameters())
    settings = TrainSettings(steps=12, batch=7, evaluate=3, select="best", checkpoints=2, learning_rate=1e-3)
    adapted, first = parts(spec, "classification", 4096)
    heads = {"c": first, "t": build_head("tagging", 32, 3)}
    shares = [share("classification", "c", 1), share("tagging", "t", 2, 20)]
    schedule = make_schedule([40, 20], settings, seed=2)
    scores = iter([1.0, 3.0, 2.0] if accelerator.is_main_process else [9.0, 8.0, 7.0])  # only the first decides
    result = fit(
        adapted, heads, shares, schedule, settings, learning_rate=1e-3, seed=2, work=work,
        score=lambda: next(scores), progress=progress,
    )  # fmt: skip
    assert result.best == 3.0
    tensors |= {f"fit/{name}": tensor for name, tensor in adapted.tensors("a").items()}
    tensors |= {f"fit/{name}/{path}": p for name, head in heads.items() for path, p in head.named_parameters()}
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, directory / "tensors")
    return {"losses": losses, "processes": accelerator.num_processes, "rank": accelerator.process_index}


def parts(base: str, format: str, tokens: int) -> tuple[Adapted, torch.nn.Module]:
    loaded = load_base(base)
    engine = EngineSettings(tokens=tokens)
    adapted = Adapted(loaded, {"a": trained(loaded, "lora", 1)}, Leaf("a"), train=frozenset("a"), engine=engine)
    torch.manual_seed(5)
    return adapted, build_head(format, 32, 3)


def fail_in_one(
    spec: str, parents: Mapping[str, Path], directory: Path, work: Path, progress: Callable[[float, str], None]
) -> dict[str, Any]:
    """The second process fails, the first waits for it."""
    import os
    import time

    if os.environ["RANK"] == "1":
        raise ZeroDivisionError("one by none")
    time.sleep(60)
    return {}
