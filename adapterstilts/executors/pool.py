"""A pool of persistent worker processes, each with its share of the threads and GPUs. One that dies costs one stage."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any

from adapterstilts.errors import StageFailed
from adapterstilts.executors.crew import Ended, Job, Message, Setup, Tell
from adapterstilts.executors.devices import cores, gpus, share
from adapterstilts.executors.signs import drop_sign

PATIENCE = 10.0  # seconds that an interrupted worker has to leave its checkpoint
LISTEN = 1.0  # seconds that `Pool.wait` waits for a message


class Worker:
    """One process and the job it has. It is a fresh interpreter: nothing of the caller's program runs in it."""

    def __init__(self, number: int, setup: Setup, threads: int, devices: tuple[str, ...]) -> None:
        self.number, self.base = number, ""
        self.job: Job | None = None
        self.began = 0.0
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
        environment |= {"MKL_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        environment |= {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
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
        self.pipe.send((setup.store.root, dict(setup.kinds)))

    def give(self, job: Job) -> None:
        """Hand a job to the worker; a worker that is gone is noticed in `Pool.wait`."""
        self.job, self.base, self.began = job, job.base, time.perf_counter()
        try:
            self.pipe.send(job)
        except OSError:
            return

    def receive(self) -> Message | None:
        """The worker's next message; None when it is gone without one."""
        try:
            message: Message = self.pipe.recv()
        except (EOFError, OSError):
            return None
        if isinstance(message, Ended):
            self.job = None
        return message

    def buried(self, log: str) -> Ended:
        """The end of the job of a worker that died."""
        assert self.job is not None
        code = self.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        why = "the kernel may have killed it for memory" if code == -signal.SIGKILL else None
        error = StageFailed(f"its worker process died ({how})", why=why, fix=f"see {log}")
        return Ended(self.job.hash, time.perf_counter() - self.began, error=error)

    def close(self, patience: float) -> None:
        """End the process: without a pipe it leaves by itself; one that does not is killed."""
        self.pipe.close()
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Pool:
    """``size`` workers; threads and GPUs are shared out evenly."""

    ahead = False

    def __init__(self, size: int, setup: Setup) -> None:
        self.setup, self.devices = setup, gpus()
        self.threads = max(1, cores() // size)
        self.workers = [self._worker(number) for number in range(1, size + 1)]

    def _worker(self, number: int) -> Worker:
        return Worker(number, self.setup, self.threads, share(number - 1, self.setup.processes, self.devices))

    def _idle(self) -> Worker | None:
        return next((worker for worker in self.workers if worker.job is None), None)

    def room(self) -> str | None:
        worker = self._idle()
        return None if worker is None else worker.base

    def give(self, job: Job) -> None:
        worker = self._idle()
        assert worker is not None
        worker.give(job)

    def drop(self, hash: str) -> None:
        raise AssertionError("a pool has no job that has not started")

    def busy(self) -> bool:
        return any(worker.job is not None for worker in self.workers)

    def wait(self, tell: Tell) -> None:
        """Block until some worker says something or dies; a dead one is replaced."""
        by_pipe = {worker.pipe: worker for worker in self.workers if worker.job is not None}
        for pipe in wait(list(by_pipe), LISTEN):
            worker = by_pipe[pipe]  # type: ignore[index]
            message = worker.receive()
            if message is None and worker.job is not None:
                drop_sign(self.setup.store, worker.job.hash)
                message = worker.buried(str(self.setup.store.log(worker.job.hash)))
                worker.pipe.close()
                self.workers[self.workers.index(worker)] = self._worker(worker.number)
            if message is not None:
                tell(message)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            if worker.job is not None:
                worker.process.terminate()
        for worker in self.workers:
            worker.close(PATIENCE)
