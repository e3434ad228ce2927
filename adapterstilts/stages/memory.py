"""Memory of this process: its measured peak in each stage, and how it is taken from the system.

Torch is asked only when it is there already.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

from adapterstilts.settings import EngineSettings

M_MMAP_THRESHOLD = -3  # of glibc's mallopt
LARGE = 1 << 20  # bytes from which an allocation is its own mapping and goes back to the system when freed
EXPANDABLE = "expandable_segments:True"


def use_allocator(engine: EngineSettings | None) -> None:
    """``lean``: what is freed goes back to the system, large blocks at once and small ones every few layers (glibc).

    docs/engine.md has what it costs and saves. On a GPU torch reads its setting at the first allocation; not measured
    there. Elsewhere nothing happens.
    """
    if engine is None or engine.allocator == "default":
        return
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", EXPANDABLE)
    with suppress(OSError, AttributeError):  # another system's C library
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


def reset_peak() -> None:
    """Begin a new peak: a worker runs one stage after the other, and each has its own."""
    with suppress(OSError):  # not Linux, or not allowed: the peak is then that of the process so far
        Path("/proc/self/clear_refs").write_text("5")
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, int]:
    """Peak resident bytes since ``reset_peak``, and peak bytes allocated on the GPU when one is used."""
    found = {"host": _host()}
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        found["device"] = int(torch.cuda.max_memory_allocated())
    return found


def _host() -> int:
    try:
        text = Path("/proc/self/status").read_text()
        return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
