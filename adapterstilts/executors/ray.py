"""Stages as Ray tasks, on this machine's own Ray or on a cluster by its address.

A task asks for the cores, GPUs and memory of its stage and takes its parents' results as object references, so Ray
orders the whole plan. Artifacts travel through the store, which all nodes must see. A task whose node dies is run again
elsewhere and goes on from its checkpoint.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from adapterstilts.errors import MissingDependency, StageFailed
from adapterstilts.executors.cluster import Listener, perform, python_path
from adapterstilts.executors.crew import Crew, Ended, Job, Setup, Tell, number

OPTIONS = {"address": "", "retries": "3"}
PATIENCE = 10.0  # seconds that interrupted tasks have to leave their checkpoints


def crew(setup: Setup) -> Crew:
    """Ray at ``address=`` (``auto``: the cluster that runs on this machine), else one of its own.

    Raises:
        MissingDependency: no Ray. RecipeError: an option that it does not have, or no number. StageFailed: no cluster
            at the address.
    """
    try:
        import ray
    except ImportError:
        fix = "pip install 'adapterstilts[ray]'"
        raise MissingDependency("the Ray executor needs the package `ray`", fix=fix) from None
    options = setup.option(OPTIONS)
    retries = int(number("retries", options["retries"]))
    address = options["address"] or os.environ.get("RAY_ADDRESS") or "local"
    fix = "ray start --head, or leave `address` out; RAY_AUTH_MODE=token for a cluster that asks for a token"
    host, _, port = address.rpartition(":")
    if port.isdigit() and not host.startswith("ray://"):
        try:  # Ray itself asks for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError as error:
            raise StageFailed(f"no Ray cluster at {address}", why=str(error), fix=fix) from None
    environment = {"env_vars": {"PYTHONPATH": python_path(), "OMP_WAIT_POLICY": "PASSIVE"}}
    own: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level="error", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise StageFailed(f"no Ray cluster at {address}", why=str(error).partition("\n")[0], fix=fix) from None
    return Tasks(setup, ray, retries)


class Tasks:
    """Jobs as Ray tasks."""

    def __init__(self, setup: Setup, ray: Any, retries: int) -> None:
        self.setup, self.ray, self.retries = setup, ray, retries
        self.ahead = setup.jobs is None  # with a limit, a task that waits would take the place of one that could run
        self.listener = Listener(setup.store)
        self.task = ray.remote(_task)
        self.refs: dict[str, Any] = {}
        self.began: dict[str, float] = {}
        self.hashes: dict[Any, str] = {}  # the jobs that are not ended

    def room(self) -> str | None:
        return "" if self.setup.jobs is None or len(self.hashes) < self.setup.jobs else None

    def give(self, job: Job) -> None:
        needs = job.needs
        settings: dict[str, Any] = {"num_cpus": needs.cores, "num_gpus": needs.gpus, "name": job.hash[:12]}
        settings |= {"memory": needs.memory} if needs.memory else {}
        parents = [self.refs[hash] for hash in job.parents]
        task = self.task.options(max_retries=self.retries, **settings)
        ref = task.remote(str(self.setup.store.root), job.hash, dict(self.setup.kinds), needs.processes, *parents)
        self.refs[job.hash], self.hashes[ref], self.began[job.hash] = ref, job.hash, time.perf_counter()

    def drop(self, hash: str) -> None:
        ref = self.refs[hash]
        self.hashes.pop(ref, None)
        self.ray.cancel(ref)

    def busy(self) -> bool:
        return bool(self.hashes)

    def wait(self, tell: Tell) -> None:
        ready, _ = self.ray.wait(list(self.hashes), num_returns=1, timeout=1.0)
        self.listener.hear(self.hashes.values(), tell)
        for ref in ready:
            hash = self.hashes.pop(ref, None)
            ended = None if hash is None else self._ended(ref, hash)
            if ended is not None:  # else a parent failed, which is told by itself
                tell(ended)

    def _ended(self, ref: Any, hash: str) -> Ended | None:
        try:
            ended: Ended | None = self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            why = str(error).partition("\n")[0]
            told = StageFailed("its Ray task died", why=why, fix=f"see {self.setup.store.log(hash)}")
            return Ended(hash, time.perf_counter() - self.began[hash], error=told)
        return ended

    def __enter__(self) -> Tasks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = list(self.hashes)
        for ref in left:
            self.ray.cancel(ref)
        if left:
            self.ray.wait(left, num_returns=len(left), timeout=PATIENCE)
        self.ray.shutdown()


def _task(root: str, hash: str, kinds: dict[str, str], processes: int, *parents: Ended | None) -> Ended | None:
    if any(parent is None or parent.error is not None for parent in parents):
        return None
    return perform(Path(root), hash, kinds, processes)
