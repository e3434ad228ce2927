"""One stage by several processes: each runs the kind's function in one process group, the first one's artifact counts.

Started by `together` as ``python -m adapterstilts.stages.ranks FD`` with RANK, WORLD_SIZE and the like in the
environment, where accelerate finds them: nccl with one GPU each, gloo on a machine without.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from adapterstilts.errors import AdapterstiltsError, StageFailed

Kind = Callable[..., dict[str, Any]]


def function_of(entry: str) -> Kind:
    """The function of a kind, named ``module:function``."""
    module, _, name = entry.partition(":")
    function: Kind = getattr(import_module(module), name)
    return function


def together(
    entry: str,
    processes: int,
    spec: Any,
    parents: Mapping[str, Path],
    directory: Path,
    work: Path,
    progress: Callable[[float, str], None],
) -> dict[str, Any]:
    """Run a kind's function in ``processes`` processes; returns the facts of the first.

    Raises:
        StageFailed: a process died. Whatever the function raises in any of them; the others are killed then.
    """
    ranks = [_Rank(number, processes, *group) for group in [_address(processes)] for number in range(processes)]
    try:
        for rank in ranks:
            own = directory if rank.number == 0 else work / f"rank-{rank.number}"
            rank.pipe.send((entry, spec, dict(parents), own, work))
        facts: dict[int, dict[str, Any]] = {}
        while len(facts) < processes:
            by_pipe = {rank.pipe: rank for rank in ranks if rank.number not in facts}
            for pipe in wait(list(by_pipe), 1.0):
                rank = by_pipe[pipe]  # type: ignore[index]
                kind, *rest = rank.receive()
                if kind == "failed":
                    raise rest[0]
                if kind == "done":
                    facts[rank.number] = rest[0]
                elif rank.number == 0:
                    progress(*rest)
        return {**facts[0], "processes": processes}
    finally:
        for rank in ranks:
            rank.end()


class _Rank:
    def __init__(self, number: int, processes: int, port: int, threads: int) -> None:
        self.number = number
        ours, theirs = socket.socketpair()
        own = {
            "RANK": number,
            "LOCAL_RANK": number,
            "WORLD_SIZE": processes,
            "LOCAL_WORLD_SIZE": processes,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": threads,
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "adapterstilts.stages.ranks", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **{name: str(value) for name, value in own.items()}},
            stdin=subprocess.DEVNULL,
            stdout=sys.stdout,  # the stage's log by now
            stderr=sys.stderr,
        )
        theirs.close()
        self.pipe: Connection[Any, Any] = Connection(ours.detach())

    def receive(self) -> tuple[Any, ...]:
        try:
            message: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, OSError):
            code = self.process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise StageFailed(f"process {self.number} of the stage died ({how})") from None
        return message

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait()


def _address(processes: int) -> tuple[int, int]:
    """A free port for the group, and the threads of each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return port, max(1, int(os.environ.get("OMP_NUM_THREADS", cores)) // processes)


def main(descriptor: int) -> None:
    """Run one rank; it ends when the process that started it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides
    pipe: Connection[Any, Any] = Connection(descriptor)
    entry, spec, parents, directory, work = pipe.recv()
    threading.Thread(target=_leave_with, args=[pipe], daemon=True).start()
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    else:
        os.environ["ACCELERATE_USE_CPU"] = "true"
    directory.mkdir(parents=True, exist_ok=True)
    try:
        facts = function_of(entry)(spec, parents, directory, work, lambda *step: pipe.send(("progress", *step)))
        pipe.send(("done", facts))
    except Exception as error:
        traceback.print_exc()
        ours = isinstance(error, AdapterstiltsError)
        pipe.send(("failed", error if ours else StageFailed(f"{type(error).__name__}: {error}".splitlines()[0])))


def _leave_with(pipe: Connection[Any, Any]) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
