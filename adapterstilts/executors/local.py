"""Run the missing stages of a plan here: in this process, or in a pool of persistent worker processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Literal

from adapterstilts.errors import AdapterstiltsError
from adapterstilts.executors.events import Event, Listener, RunResult, StageResult
from adapterstilts.executors.log import explained, logged
from adapterstilts.executors.pool import Done, Pool, Progressed
from adapterstilts.executors.schedule import Schedule
from adapterstilts.plan.graph import Plan, Stage
from adapterstilts.plan.runs import link, record
from adapterstilts.stages.run import KINDS, Progress, run_stage
from adapterstilts.store import Store

Ended = Literal["done", "hit"]


def run(
    plan: Plan,
    store: Store,
    jobs: int = 1,
    keep_going: bool = True,
    on_event: Listener | None = None,
    kinds: Mapping[str, str] = KINDS,
) -> RunResult:
    """Run what is missing, parents first. Stages that do not need a failed one go on.

    Args:
        jobs: stages at a time; 1 runs them in this process, more in worker processes with one thread share each.
        keep_going: False starts nothing new after a failure.
        on_event: called in this thread for every change. It must not print to stdout or stderr through `sys` while a
            stage runs in this process: those go to the stage's log.

    Returns:
        How every stage ended. An interrupt (Ctrl-C) ends the run early and is told by ``interrupted``.
    """
    started = time.perf_counter()
    run = _Run(plan, store, keep_going, on_event or (lambda event: None))
    try:
        if run.schedule.waiting:
            run.here(kinds) if jobs <= 1 else run.in_pool(jobs, kinds)
    except KeyboardInterrupt:
        run.interrupt()
    run.result.seconds = time.perf_counter() - started
    return run.result


class _Run:
    def __init__(self, plan: Plan, store: Store, keep_going: bool, tell: Listener) -> None:
        self.plan, self.store, self.keep_going, self.tell = plan, store, keep_going, tell
        self.result = RunResult({stage.hash: StageResult(stage) for stage in plan.stages}, record(plan, store))
        needed = {stage.hash for stage in plan.needed(store)}
        self.schedule = Schedule(stage for stage in plan.stages if stage.hash in needed)
        for stage in plan.stages:
            if stage.hash not in needed:
                if store.has(stage.hash):
                    self._end(stage, "hit")
                else:
                    self.result.stages[stage.hash].outcome = "unneeded"

    # -- in this process ----------------------------------------------------------------------------------------------

    def here(self, kinds: Mapping[str, str]) -> None:
        """One stage after the other."""
        base = ""
        while (stage := self.schedule.take(base)) is not None:
            base = stage.base
            self.start(stage)
            began = time.perf_counter()
            try:
                with logged(self.store, stage) as log, redirect_stdout(log), redirect_stderr(log):
                    made = run_stage(stage, self.store, self._reporter(stage), kinds)
            except Exception as error:
                self.fail(stage, explained(error, stage, self.store), time.perf_counter() - began)
            else:
                self.done(stage, time.perf_counter() - began, made)

    def _reporter(self, stage: Stage) -> Progress:
        def report(fraction: float, text: str) -> None:
            self.tell(Event("progress", stage, fraction, text))

        return report

    # -- in a pool ----------------------------------------------------------------------------------------------------

    def in_pool(self, jobs: int, kinds: Mapping[str, str]) -> None:
        """Keep every worker busy until nothing is left."""
        with Pool(min(jobs, len(self.schedule.waiting)), self.store, kinds) as pool:
            while True:
                for worker in pool.idle():
                    stage = self.schedule.take(worker.base)
                    if stage is None:
                        break
                    self.start(stage, worker.number)
                    worker.give(stage)
                if not pool.busy():
                    return
                for number, message in pool.wait():
                    if isinstance(message, Progressed):
                        self.tell(Event("progress", message.stage, message.fraction, message.text, worker=number))
                    elif isinstance(message, Done):
                        self.done(message.stage, message.seconds, message.made, number)
                    else:
                        self.fail(message.stage, message.error, message.seconds, number)

    # -- what happened ------------------------------------------------------------------------------------------------

    def start(self, stage: Stage, worker: int = 0) -> None:
        self.result.stages[stage.hash].log = self.store.log(stage.hash)
        self.tell(Event("started", stage, 0.0, worker=worker))

    def done(self, stage: Stage, seconds: float, made: bool, worker: int = 0) -> None:
        self.schedule.done(stage.hash)
        self._end(stage, "done" if made else "hit", seconds, worker)

    def _end(self, stage: Stage, kind: Ended, seconds: float = 0.0, worker: int = 0) -> None:
        result = self.result.stages[stage.hash]
        result.outcome, result.seconds = kind, seconds
        link(self.plan, self.store, stage)
        self.tell(Event(kind, stage, 1.0, seconds=seconds, worker=worker))

    def fail(self, stage: Stage, error: AdapterstiltsError, seconds: float, worker: int = 0) -> None:
        result = self.result.stages[stage.hash]
        result.outcome, result.seconds, result.error = "failed", seconds, error
        self.tell(Event("failed", stage, seconds=seconds, error=error, worker=worker))
        lost = self.schedule.failed(stage.hash)
        for other in lost if self.keep_going else [*lost, *self.schedule.clear()]:
            self.result.stages[other.hash].outcome = "skipped"
            text = f"needs {stage.label}" if other in lost else "the run stops at the first failure"
            self.tell(Event("skipped", other, text=text))

    def interrupt(self) -> None:
        """What was open is told as interrupted; checkpoints stay in the store."""
        self.result.interrupted = True
        for result in self.result.stages.values():
            if result.outcome == "open":
                result.outcome = "done" if self.store.has(result.stage.hash) else "interrupted"
