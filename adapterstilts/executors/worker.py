"""A worker process of the local pool: reads jobs from a pipe, runs them, says how it went.

Started by `executors.pool` as ``python -m adapterstilts.executors.worker FD`` with the thread settings already in the
environment. It ends when the pipe closes or the process that started it dies.
"""

from __future__ import annotations

import signal
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from adapterstilts.executors.crew import Job, Progressed, Started
from adapterstilts.executors.signals import end_with_parent, interruptible
from adapterstilts.executors.work import place, work
from adapterstilts.store import Store

INTERVAL = 0.1  # seconds between two progress messages


def main(descriptor: int) -> None:
    """Serve until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    end_with_parent()
    pipe: Connection[Any, Any] = Connection(descriptor)
    with suppress(EOFError, OSError, KeyboardInterrupt), interruptible():
        serve(pipe)


def serve(pipe: Connection[Any, Any]) -> None:
    """Run what comes, one after the other.

    Raises:
        EOFError, OSError: the pipe is closed. KeyboardInterrupt: the run is gone, or stops.
    """
    root, kinds = pipe.recv()
    store = Store(root)
    while True:
        job: Job = pipe.recv()
        pipe.send(Started(job.hash, place()))
        progress = _Progress(pipe, job.hash)
        given: dict[str, Any] = {"processes": job.needs.processes, "companions": job.companions}
        pipe.send(work(store, job.hash, kinds, **given, progress=progress, own_process=True))


class _Progress:
    def __init__(self, pipe: Connection[Any, Any], hash: str) -> None:
        self.pipe, self.hash, self.last = pipe, hash, 0.0

    def __call__(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        if now - self.last >= INTERVAL:
            self.last = now
            try:
                self.pipe.send(Progressed(self.hash, fraction, text))
            except OSError:
                raise KeyboardInterrupt from None  # the run is gone: stop as if it had asked


if __name__ == "__main__":
    main(int(sys.argv[1]))
