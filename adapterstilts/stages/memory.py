"""Measured peak memory of this process."""

from __future__ import annotations

import resource


def peak_memory() -> dict[str, int]:
    """Peak resident bytes of this process so far, and peak bytes allocated on the GPU when one is used."""
    import torch

    found = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available():
        found["device"] = int(torch.cuda.max_memory_allocated())
    return found
