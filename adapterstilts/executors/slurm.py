"""Stages as Slurm jobs, through submitit.

The whole plan is handed over at once, level by level: stages with the same needs and the same open parents are one job
array, which waits for its parents (``afterok``). A job that reaches its time limit is put back into the queue and its
stage goes on from its checkpoint. The store must lie where all nodes see it.
"""

from __future__ import annotations

import getpass
import math
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from adapterstilts.errors import MissingDependency, StageFailed
from adapterstilts.executors.cluster import Listener, perform, python_path
from adapterstilts.executors.crew import Crew, Ended, Job, Setup, Tell, number
from adapterstilts.executors.signs import as_error, drop_sign, queue_sign, read_sign

# time, warning: minutes that a job may take, seconds before its end at which it is told; everything else is an option
# of sbatch. cluster=local runs the jobs as processes here, without Slurm.
OPTIONS = {"cluster": "slurm", "time": "240", "warning": "90", "requeues": "20", "poll": "2"}
GRACE = 10.0  # seconds after the end of a job in which its result may still appear on this machine


def crew(setup: Setup) -> Crew:
    """Slurm as this machine sees it.

    Raises:
        MissingDependency: no submitit, or no sbatch. RecipeError: an option is no number.
    """
    try:
        import submitit
    except ImportError:
        raise MissingDependency(
            "the Slurm executor needs the package `submitit`", fix="pip install 'adapterstilts[slurm]'"
        ) from None
    if setup.options.get("cluster", "slurm") == "slurm" and shutil.which("sbatch") is None:
        raise MissingDependency("there is no Slurm on this machine", why="no command `sbatch`", fix="use a login node")
    return Jobs(setup, submitit)


@dataclass(frozen=True)
class Call:
    """What a job runs. At the time limit submitit asks it for a checkpoint: the same call, as the stage has its own."""

    root: Path
    hash: str
    kinds: Mapping[str, str]
    processes: int

    def __call__(self) -> None:
        """Run the stage; its error ends the job with an error, so that nothing starts that needs it."""
        import submitit

        id = submitit.JobEnvironment().job_id
        ended = perform(self.root, self.hash, self.kinds, self.processes, f"slurm {id}")
        if ended.error is not None:
            raise ended.error

    def checkpoint(self) -> Any:
        """For submitit, when the time is over."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Jobs:
    """Jobs in arrays."""

    def __init__(self, setup: Setup, submitit: Any) -> None:
        self.setup, self.submitit = setup, submitit
        options = {**OPTIONS, **setup.options}
        self.cluster = options["cluster"]
        self.numbers = {name: number(name, options[name]) for name in ("time", "warning", "requeues", "poll")}
        self.sbatch = {name: text for name, text in options.items() if name not in OPTIONS}
        # With a limit, or without a scheduler that waits for parents, only what can start is handed over.
        self.ahead = setup.jobs is None and self.cluster == "slurm"
        self.listener = Listener(setup.store)
        self.fresh: list[Job] = []
        self.levels: dict[str, int] = {}
        self.jobs: dict[str, Any] = {}  # of stages that are not ended
        self.ids: dict[str, str] = {}
        self.gone: dict[str, float] = {}  # when a job was first seen to have left the queue

    def room(self) -> str | None:
        given = len(self.fresh) + len(self.jobs)
        return "" if self.setup.jobs is None or given < self.setup.jobs else None

    def give(self, job: Job) -> None:
        self.levels[job.hash] = 1 + max((self.levels[hash] for hash in job.parents), default=0)
        self.fresh.append(job)

    def drop(self, hash: str) -> None:
        self._cancel([hash])
        self.jobs.pop(hash, None)
        drop_sign(self.setup.store, hash)

    def busy(self) -> bool:
        return bool(self.fresh or self.jobs)

    def wait(self, tell: Tell) -> None:
        self._submit()
        time.sleep(self.numbers["poll"])
        self.listener.hear(self.jobs, tell)
        here = self._queued()
        for hash in list(self.jobs):
            ended = self._ended(hash, self.ids[hash] in here)
            if ended is not None and self.jobs.pop(hash, None) is not None:
                tell(ended)

    # -- handing over -------------------------------------------------------------------------------------------------

    def _submit(self) -> None:
        """Hand over what was given: a level after the other, stages with the same needs and parents as one array."""
        arrays: dict[Any, list[Job]] = {}
        for job in sorted(self.fresh, key=lambda job: self.levels[job.hash]):
            arrays.setdefault((job.needs, tuple(sorted(job.parents))), []).append(job)
        self.fresh = []
        store = self.setup.store
        for (_, parents), jobs in arrays.items():
            executor = self._executor(jobs[0], [self.ids[hash] for hash in parents])
            for job in jobs:
                drop_sign(store, job.hash)
            try:
                with executor.batch():
                    made = [executor.submit(self._call(job)) for job in jobs]
            except (self.submitit.core.utils.FailedJobError, OSError) as error:
                why = str(error).strip().rpartition("\n")[2]
                raise StageFailed("Slurm takes no job", why=why, fix="check the options given by --with") from None
            for job, one in zip(jobs, made, strict=True):
                self.jobs[job.hash], self.ids[job.hash] = one, one.job_id
                queue_sign(store, job.hash, f"{self.cluster} {one.job_id}")

    def _call(self, job: Job) -> Call:
        return Call(self.setup.store.root, job.hash, dict(self.setup.kinds), job.needs.processes)

    def _executor(self, job: Job, parents: Sequence[str]) -> Any:
        needs, folder = job.needs, self.setup.store.root / "slurm" / "%j"
        requeues = {"slurm_max_num_timeout": int(self.numbers["requeues"])} if self.cluster == "slurm" else {}
        executor = self.submitit.AutoExecutor(folder=folder, cluster=self.cluster, **requeues)
        executor.update_parameters(
            name=f"adapterstilts-{job.hash[:8]}",
            timeout_min=max(1, round(self.numbers["time"])),
            cpus_per_task=needs.cores,
            gpus_per_node=needs.gpus,
            **({"mem_gb": math.ceil(needs.memory / 2**30)} if needs.memory else {}),
        )
        if self.cluster == "slurm":
            more: dict[str, Any] = dict(self.sbatch)
            if parents:
                more |= {"dependency": "afterok:" + ":".join(parents), "kill-on-invalid-dep": "yes"}
            executor.update_parameters(
                slurm_signal_delay_s=round(self.numbers["warning"]),
                slurm_array_parallelism=self.setup.jobs or 1000,
                slurm_additional_parameters=more,
                slurm_setup=[f"export PYTHONPATH='{python_path()}' OMP_WAIT_POLICY=PASSIVE"],
            )
        return executor

    # -- how it goes --------------------------------------------------------------------------------------------------

    def _queued(self) -> set[str]:
        """The ids of the jobs that wait or run; all of them while the scheduler does not answer."""
        if self.cluster != "slurm":
            return {self.ids[hash] for hash, job in self.jobs.items() if not job.done(force_check=True)}
        command = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return set(done.stdout.split()) if done.returncode == 0 else set(self.ids.values())

    def _ended(self, hash: str, queued: bool) -> Ended | None:
        store, sign = self.setup.store, read_sign(self.setup.store, hash)
        if sign is not None and sign.state == "failed" and sign.error is not None:
            return Ended(hash, max(0.0, sign.at - sign.began), error=as_error(sign.error))
        if queued:
            return None
        if store.has(hash):
            drop_sign(store, hash)
            return Ended(hash, float(store.manifest(hash).get("wall_seconds", 0.0)), made=True)
        if time.monotonic() - self.gone.setdefault(hash, time.monotonic()) < GRACE:
            return None
        drop_sign(store, hash)
        where = self.jobs[hash].paths.stderr
        return Ended(hash, 0.0, error=StageFailed("its job ended without a result", fix=f"see {where}"))

    def _cancel(self, hashes: Sequence[str]) -> None:
        live = [hash for hash in hashes if hash in self.jobs]
        if self.cluster == "slurm" and live:
            subprocess.run(["scancel", *(self.ids[hash] for hash in live)], check=False, capture_output=True)
        else:
            for hash in live:
                self.jobs[hash].cancel()

    def __enter__(self) -> Jobs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = list(self.jobs)
        self._cancel(left)
        for hash in left:
            drop_sign(self.setup.store, hash)
