"""Resumable training state: one safetensors file, replaced atomically."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

NAME = "checkpoint.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW counts steps per parameter: a head may rest while others train


@dataclass
class State:
    """Where a run stands. ``step`` updates are done."""

    step: int = 0
    best: float | None = None
    since_best: int = 0
    metrics: list[dict[str, Any]] = field(default_factory=list)
    best_tensors: dict[str, Tensor] = field(default_factory=dict)
    budget: dict[str, Tensor] = field(default_factory=dict)  # of a method that spends its ranks


def save(work: Path, state: State, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Write the state; a kill at any moment leaves the old one or the new one."""
    tensors = {f"parameter/{name}": p.detach() for name, p in parameters.items()}
    for name, parameter in parameters.items():
        for moment in MOMENTS:
            if parameter in optimizer.state:
                tensors[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    for group, held in (("best", state.best_tensors), ("budget", state.budget)):
        tensors |= {f"{group}/{name}": tensor for name, tensor in held.items()}
    plain = {"step": state.step, "best": state.best, "since_best": state.since_best, "metrics": state.metrics}
    work.mkdir(parents=True, exist_ok=True)
    temporary = work / f"{NAME}.new"
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, temporary, metadata={"state": json.dumps(plain)})
    os.replace(temporary, work / NAME)


def resume(work: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> State:
    """Fill parameters and optimizer from a stored state; a fresh State where there is none that can be read."""
    path = work / NAME
    if not path.exists():
        return State()
    with safe_open(path, framework="pt") as file:
        plain = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"parameter/{name}"])
            if f"exp_avg/{name}" in tensors:
                optimizer.state[parameter] = {moment: tensors[f"{moment}/{name}"] for moment in MOMENTS}

    def group(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(name): tensor for key, tensor in tensors.items() if key.startswith(name)}

    held = group("best/"), group("budget/")
    return State(plain["step"], plain["best"], plain["since_best"], plain["metrics"], *held)
