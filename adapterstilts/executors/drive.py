"""The loop behind every executor: gives out what is ready, tells what happened, ends early when asked to."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from adapterstilts.errors import AdapterstiltsError
from adapterstilts.executors.crew import Crew, Ended, Job, Message, Progressed, Setup, Started
from adapterstilts.executors.events import Event, Listener, RunResult, StageResult
from adapterstilts.executors.schedule import Schedule
from adapterstilts.executors.signals import interruptible
from adapterstilts.plan.graph import Plan, Stage
from adapterstilts.plan.needs import Needs
from adapterstilts.plan.runs import Links, record
from adapterstilts.store import Store

EXECUTORS: Mapping[str, str] = {
    "local": "adapterstilts.executors.local:crew",
    "ray": "adapterstilts.executors.ray:crew",
    "slurm": "adapterstilts.executors.slurm:crew",
}
Companions = Callable[[Stage, Sequence[Stage]], Sequence[Stage]]
STOP = "stop"  # the file in a run folder that asks the run to stop


def run(
    plan: Plan,
    setup: Setup,
    executor: str = "local",
    *,
    keep_going: bool = True,
    needs: Callable[[Stage], Needs] = lambda stage: Needs(),
    companions: Companions | None = None,
    on_event: Listener | None = None,
) -> RunResult:
    """Run what is missing, parents first. Stages that do not need a failed one go on.

    Args:
        setup: store, number of stages at a time, kinds, options of the executor; its ``total`` is filled in here.
        keep_going: False starts nothing new after a failure.
        companions: which of the stages that are ready share the loop of one that is given out, here or in a pool.
        on_event: called in this thread for every change.

    Returns:
        How every stage ended. Ctrl-C, SIGTERM and `cancel` end the run early, which ``interrupted`` tells.
    """
    started = time.perf_counter()
    run = _Run(plan, setup.store, keep_going, on_event or (lambda event: None))
    try:
        if run.needed:
            module, _, name = EXECUTORS[executor].partition(":")
            make: Callable[[Setup], Crew] = getattr(importlib.import_module(module), name)
            with interruptible(), make(replace(setup, total=len(run.needed))) as crew:
                run.drive(crew, needs, companions)
    except KeyboardInterrupt:
        run.interrupt()
    finally:
        setup.store.drop_shared()
    run.result.seconds = time.perf_counter() - started
    return run.result


def request_stop(folder: Path) -> None:
    """Ask the run of a run folder to stop, wherever it is driven from."""
    (folder / STOP).touch()


class _Run:
    def __init__(self, plan: Plan, store: Store, keep_going: bool, tell: Listener) -> None:
        self.plan, self.store, self.keep_going, self.tell = plan, store, keep_going, tell
        folder = record(plan, store)
        self.stop = folder / STOP
        self.stop.unlink(missing_ok=True)
        self.shared: dict[str, list[Stage]] = {}  # stage that runs -> those in its company
        self.alone: set[str] = set()  # what was not made in company
        self.result = RunResult({stage.hash: StageResult(stage) for stage in plan.stages}, folder)
        self.links = Links(plan, store)
        self.needed = plan.needed(store)
        missing = {stage.hash for stage in self.needed}
        for stage in plan.stages:
            if stage.hash not in missing:
                if store.has(stage.hash):
                    self._end(stage, "hit")
                else:
                    self.result.stages[stage.hash].outcome = "unneeded"

    def drive(self, crew: Crew, needs: Callable[[Stage], Needs], companions: Companions | None) -> None:
        """Keep the crew busy until nothing is left."""
        self.crew, self.schedule = crew, Schedule(self.needed, crew.ahead)
        while True:
            while (base := crew.room()) is not None:
                stage = self.schedule.take(base)
                if stage is None:
                    break
                if companions is not None and stage.hash not in self.alone:
                    ready = [other for other in self.schedule.ready() if other.hash not in self.alone]
                    self.shared[stage.hash] = list(companions(stage, ready))
                hashes = tuple(other.hash for other in self.shared.get(stage.hash, ()))
                self.schedule.join(hashes)
                crew.give(Job(stage.hash, needs(stage), self.schedule.parents(stage), stage.base, hashes))
            if not crew.busy():
                return
            crew.wait(self.heard)
            if self.stop.exists():
                raise KeyboardInterrupt

    def heard(self, message: Message) -> None:
        """Something that the crew told, of a stage and of those in its company."""
        for other in self.shared.get(message.hash, ()):
            if not isinstance(message, Ended):
                self._heard(replace(message, hash=other.hash))
            elif self.store.has(other.hash):
                self._heard(Ended(other.hash, message.seconds, made=True))
            else:
                self.alone.add(other.hash)
                self.schedule.back(other)
        if isinstance(message, Ended):
            self.shared.pop(message.hash, None)
        self._heard(message)

    def _heard(self, message: Message) -> None:
        result = self.result.stages[message.hash]
        if isinstance(message, Ended) and result.log is None:
            self._heard(Started(message.hash, ""))  # over before anybody looked
        if isinstance(message, Started):
            result.log, result.where = self.store.log(message.hash), message.where
            self.tell(Event("started", result.stage, 0.0, where=message.where))
        elif isinstance(message, Progressed):
            self.tell(Event("progress", result.stage, message.fraction, message.text, where=result.where))
        elif message.error is not None:
            self._fail(message, message.error)
        else:
            self.schedule.done(message.hash)
            self._end(result.stage, "done" if message.made else "hit", message.seconds)

    def _end(self, stage: Stage, kind: Literal["done", "hit"], seconds: float = 0.0) -> None:
        result = self.result.stages[stage.hash]
        result.outcome, result.seconds = kind, seconds
        self.links.add(stage)
        self.tell(Event(kind, stage, 1.0, seconds=seconds, where=result.where))

    def _fail(self, message: Ended, error: AdapterstiltsError) -> None:
        result = self.result.stages[message.hash]
        if error.where is None:
            error = type(error)(error.what, where=result.stage.label, why=error.why, fix=error.fix)
        result.outcome, result.seconds, result.error = "failed", message.seconds, error
        self.tell(Event("failed", result.stage, seconds=message.seconds, error=error, where=result.where))
        given = set(self.schedule.given)
        lost = self.schedule.failed(message.hash)
        for stage in lost:
            if stage.hash in given:
                self.crew.drop(stage.hash)
            self._skip(stage, f"needs {result.stage.label}")
        for stage in [] if self.keep_going else self.schedule.clear():
            self._skip(stage, "the run stops at the first failure")

    def _skip(self, stage: Stage, why: str) -> None:
        self.result.stages[stage.hash].outcome = "skipped"
        self.tell(Event("skipped", stage, text=why))

    def interrupt(self) -> None:
        """What was open is told as interrupted; checkpoints stay in the store."""
        self.stop.unlink(missing_ok=True)
        self.result.interrupted = True
        for result in self.result.stages.values():
            if result.outcome == "open":
                result.outcome = "done" if self.store.has(result.stage.hash) else "interrupted"
