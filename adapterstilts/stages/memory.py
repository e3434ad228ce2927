"""Memory of this process: its measured peak, and how it is taken from the system. Torch-free until asked."""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress

from adapterstilts.settings import EngineSettings

M_MMAP_THRESHOLD = -3  # of glibc's mallopt
LARGE = 1 << 20  # bytes from which an allocation is its own mapping and goes back to the system when freed
EXPANDABLE = "expandable_segments:True"


def use_allocator(engine: EngineSettings | None) -> None:
    """``lean``: what is freed goes back to the system. On a CPU it costs a fifth to a quarter more time.

    Measured with XLM-R Large layers: 1.65 times fewer resident bytes of activations (glibc). On a GPU torch reads its
    setting at the first allocation; not measured there. Elsewhere nothing happens.
    """
    if engine is None or engine.allocator == "default":
        return
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", EXPANDABLE)
    with suppress(OSError, AttributeError):  # another system's C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def peak_memory() -> dict[str, int]:
    """Peak resident bytes of this process so far, and peak bytes allocated on the GPU when one is used."""
    import torch

    found = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if torch.cuda.is_available():
        found["device"] = int(torch.cuda.max_memory_allocated())
    return found
