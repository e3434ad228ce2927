"""A worker process of the local pool: reads stages from a pipe, runs them, says how it went.

Started by `executors.pool` as ``python -m adapterstilts.executors.worker FD`` with the thread settings already in the
environment. It ends when the pipe closes, so it never outlives the run by more than a stage.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any

from adapterstilts.executors.log import explained, logged
from adapterstilts.plan.graph import Stage
from adapterstilts.stages.run import run_stage
from adapterstilts.store import Store

INTERVAL = 0.1  # seconds between two progress messages


def main(descriptor: int) -> None:
    """Serve until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGTERM, _interrupt)
    pipe: Connection[Any, Any] = Connection(descriptor)
    try:
        root, kinds = pipe.recv()
        store = Store(root)
        while True:
            stage: Stage = pipe.recv()
            pipe.send(_outcome(stage, store, kinds, pipe))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: the clean-up must not be interrupted
    raise KeyboardInterrupt  # unwinds the stage: temporary files go, checkpoints stay


def _outcome(stage: Stage, store: Store, kinds: Mapping[str, str], pipe: Connection[Any, Any]) -> tuple[str, Any]:
    last = 0.0

    def progress(fraction: float, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= INTERVAL:
            last = now
            try:
                pipe.send(("progress", fraction, text))
            except OSError:
                raise KeyboardInterrupt from None  # the run is gone: stop as if it had asked

    try:
        with logged(store, stage) as log:
            # Descriptors, not sys.stdout: what libraries print from C goes to the log too.
            for number, stream in ((1, sys.stdout), (2, sys.stderr)):
                stream.flush()
                os.dup2(log.fileno(), number)
            return "done", run_stage(stage, store, progress, kinds)
    except Exception as error:
        return "failed", explained(error, stage, store)


if __name__ == "__main__":
    main(int(sys.argv[1]))
