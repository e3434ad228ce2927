"""What a stage needs of the machine that runs it: all that an executor knows about it besides its hash."""

from __future__ import annotations

from dataclasses import dataclass

ON_GPU = frozenset({"train", "evaluate", "retrieve"})
SPREAD = frozenset({"train"})  # kinds whose work several processes can share


@dataclass(frozen=True)
class Needs:
    """``memory``: bytes of main memory, None where no forecast says. ``processes`` share the work of the stage."""

    cores: int = 1
    gpus: int = 0
    memory: int | None = None
    processes: int = 1


def needs_of(kind: str, *, cores: int = 1, gpus: int = 0, memory: int | None = None) -> Needs:
    """The needs of a stage of a kind, when training may have ``gpus`` GPUs and everything else that computes has one.

    On a machine without GPUs the same number of processes shares the cores.
    """
    processes = max(1, gpus) if kind in SPREAD else 1
    return Needs(cores, gpus if kind in SPREAD else min(gpus, 1) if kind in ON_GPU else 0, memory, processes)
