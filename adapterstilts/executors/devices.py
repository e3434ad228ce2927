"""The cores and GPUs of this machine, found without torch."""

from __future__ import annotations

import os
import shutil
import subprocess


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> tuple[str, ...]:
    """The NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1"))
    if shutil.which("nvidia-smi") is None:
        return ()
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    found = [line for line in done.stdout.splitlines() if line.startswith("GPU ")] if done.returncode == 0 else []
    return tuple(str(number) for number in range(len(found)))


def share(number: int, each: int, devices: tuple[str, ...]) -> tuple[str, ...]:
    """The ``each`` devices of the worker ``number`` (from 0), in turn when there are fewer devices than workers ask."""
    if not devices:
        return ()
    groups = max(1, len(devices) // each)
    first = (number % groups) * each
    return devices[first : first + each]
