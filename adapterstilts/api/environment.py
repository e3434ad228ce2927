"""What must be in the environment before torch is imported."""

from __future__ import annotations

import os
import sys

from adapterstilts.executors.devices import cores

DEFAULTS = {
    # Threads that spin while they wait made a step eight times slower on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def prepare() -> None:
    """Set what the user has not set. Too late for threads once torch is there, and harmless then."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "torch" not in sys.modules:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if cores() > 1 else "false")
