"""Run stages on this machine: in this process, or in a pool of persistent worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from adapterstilts.executors import drive
from adapterstilts.executors.crew import Crew, Job, Progressed, Setup, Started, Tell
from adapterstilts.executors.events import Listener, RunResult
from adapterstilts.executors.pool import Pool
from adapterstilts.executors.work import place, work
from adapterstilts.plan.graph import Plan
from adapterstilts.stages.run import KINDS
from adapterstilts.store import Store


def crew(setup: Setup) -> Crew:
    """This process for one stage at a time, else a pool."""
    setup.option({})
    jobs = setup.jobs or 1
    return Pool(min(jobs, setup.total), setup) if jobs > 1 else Here(setup)


class Here:
    """This process: a job given is run by `wait`."""

    ahead = False

    def __init__(self, setup: Setup) -> None:
        self.setup, self.base = setup, ""
        self.job: Job | None = None

    def room(self) -> str | None:
        return self.base if self.job is None else None

    def give(self, job: Job) -> None:
        self.job, self.base = job, job.base

    def drop(self, hash: str) -> None:
        raise AssertionError("this process has no job that has not started")

    def busy(self) -> bool:
        return self.job is not None

    def wait(self, tell: Tell) -> None:
        """Run the job. ``tell`` must not print through `sys` while it runs: that goes to the stage's log."""
        assert self.job is not None
        job = self.job

        def progress(fraction: float, text: str) -> None:
            tell(Progressed(job.hash, fraction, text))

        tell(Started(job.hash, place()))
        given: dict[str, Any] = {"processes": job.needs.processes, "companions": job.companions}
        ended = work(self.setup.store, job.hash, self.setup.kinds, **given, progress=progress)
        self.job = None
        tell(ended)

    def __enter__(self) -> Here:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left."""


def run(
    plan: Plan,
    store: Store,
    jobs: int = 1,
    keep_going: bool = True,
    on_event: Listener | None = None,
    kinds: Mapping[str, str] = KINDS,
) -> RunResult:
    """Run what is missing of a plan on this machine; see `executors.drive.run`."""
    return drive.run(plan, Setup(store, jobs, kinds=kinds), keep_going=keep_going, on_event=on_event)
