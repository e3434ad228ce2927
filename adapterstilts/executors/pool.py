"""A pool of persistent worker processes, each with its share of the threads. A worker that dies costs one stage."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from adapterstilts.errors import AdapterstiltsError, StageFailed
from adapterstilts.plan.graph import Stage
from adapterstilts.store import Store

PATIENCE = 10.0  # seconds that an interrupted worker has to leave its checkpoint


@dataclass(frozen=True)
class Progressed:
    stage: Stage
    fraction: float
    text: str


@dataclass(frozen=True)
class Done:
    stage: Stage
    seconds: float
    made: bool


@dataclass(frozen=True)
class Failed:
    stage: Stage
    seconds: float
    error: AdapterstiltsError


Message = Progressed | Done | Failed


class Worker:
    """One process and the stage it has. It is a fresh interpreter: nothing of the caller's program runs in it."""

    def __init__(self, number: int, store: Store, kinds: Mapping[str, str], threads: int) -> None:
        self.number, self.base = number, ""
        self.stage: Stage | None = None
        self.began = 0.0
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        environment |= {"MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        # The package may be found by a path that only this process knows.
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adapterstilts.executors.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # stdout is the run's own; stages print into their logs
        )
        theirs.close()
        self.pipe: Connection[Any, Any] = Connection(ours.detach())
        self.pipe.send((store.root, dict(kinds)))

    def give(self, stage: Stage) -> None:
        """Hand a stage to the worker; a worker that is gone is noticed in `Pool.wait`."""
        self.stage, self.base, self.began = stage, stage.base, time.perf_counter()
        try:
            self.pipe.send(stage)
        except OSError:
            return

    def receive(self) -> Message | None:
        """The worker's next message; None when it is gone without one."""
        assert self.stage is not None
        seconds = time.perf_counter() - self.began
        try:
            kind, *rest = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if kind == "progress":
            return Progressed(self.stage, *rest)
        stage, self.stage = self.stage, None
        return Done(stage, seconds, rest[0]) if kind == "done" else Failed(stage, seconds, rest[0])

    def buried(self, log: str) -> Failed:
        """The failure of the stage of a worker that died."""
        assert self.stage is not None
        code = self.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        why = "the kernel may have killed it for memory" if code == -signal.SIGKILL else None
        seconds = time.perf_counter() - self.began
        error = StageFailed(f"its worker process died ({how})", where=self.stage.label, why=why, fix=f"see {log}")
        return Failed(self.stage, seconds, error)

    def close(self, patience: float) -> None:
        """End the process: without a pipe it leaves by itself; one that does not is killed."""
        self.pipe.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Pool:
    """``size`` workers; threads are shared out evenly."""

    def __init__(self, size: int, store: Store, kinds: Mapping[str, str]) -> None:
        self.store, self.kinds = store, kinds
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.threads = max(1, cores // size)
        self.workers = [self._worker(number) for number in range(1, size + 1)]

    def _worker(self, number: int) -> Worker:
        return Worker(number, self.store, self.kinds, self.threads)

    def idle(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.stage is None]

    def busy(self) -> bool:
        return any(worker.stage is not None for worker in self.workers)

    def wait(self) -> list[tuple[int, Message]]:
        """Block until some worker says something or dies; a dead one is replaced."""
        by_pipe = {worker.pipe: worker for worker in self.workers if worker.stage is not None}
        found: list[tuple[int, Message]] = []
        for pipe in wait(list(by_pipe)):
            worker = by_pipe[pipe]  # type: ignore[index]
            message = worker.receive()
            if message is None and worker.stage is not None:
                message = worker.buried(str(self.store.log(worker.stage.hash)))
                worker.pipe.close()
                self.workers[self.workers.index(worker)] = self._worker(worker.number)
            if message is not None:
                found.append((worker.number, message))
        return found

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if worker.stage is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.close(PATIENCE)
