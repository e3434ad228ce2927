"""One stage by its hash, as every worker of every executor does it: log, signs of life, the error as one message."""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from adapterstilts.errors import AdapterstiltsError, StageFailed, StoreError
from adapterstilts.executors.crew import Ended
from adapterstilts.executors.signs import Reporter
from adapterstilts.offline import stay_offline
from adapterstilts.plan.graph import Stage
from adapterstilts.plan.runs import load_stage
from adapterstilts.redact import redacted
from adapterstilts.stages.run import KINDS, Progress, run_group, run_stage
from adapterstilts.store import Store

EVERY = 5.0  # seconds between two lines of progress in a log


def place() -> str:
    """This process, for people."""
    return f"{socket.gethostname()}:{os.getpid()}"


def work(
    store: Store,
    hash: str,
    kinds: Mapping[str, str] = KINDS,
    *,
    processes: int = 1,
    where: str = "",
    job: str = "",
    companions: Sequence[str] = (),
    progress: Progress | None = None,
    own_process: bool = False,
) -> Ended:
    """Run a planned stage and say how it went; only an interrupt leaves as an exception.

    Args:
        where, job: told in its signs of life.
        companions: training stages that share its loop. They are there afterwards, or not: then they run alone.
        own_process: this process belongs to stages, so that what libraries print from C goes to the log, too.
    """
    stay_offline()
    began = time.perf_counter()
    stage: Stage | None = None
    reporter: Reporter | None = None
    try:
        stage = load_stage(store, hash, kinds)
        missing = [parent for parent in stage.parents.values() if not store.has(parent)]
        if missing:
            why = f"{len(missing)} of its parents are not done, first {missing[0][:12]}"
            raise StoreError("it cannot run yet", why=why, fix="adapterstilts run RECIPE")
        reporter = Reporter(store, hash, where or place(), job)
        with _logged(store, hash) as log, (_descriptors if own_process else _streams)(log):
            tell = _all([reporter, _Lines(log), *([progress] if progress else [])])
            made = _shared(store, stage, companions, tell)
            made = run_stage(stage, store, tell, kinds, processes) or made
        reporter.done()
        return Ended(hash, time.perf_counter() - began, made)
    except Exception as error:
        told = explained(error, stage.label if stage else hash[:12], str(store.log(hash)))
        if reporter is not None:
            reporter.failed(told)
        return Ended(hash, time.perf_counter() - began, error=told)
    except BaseException:
        if reporter is not None:
            reporter.done()  # nobody has it now
        raise


def _shared(store: Store, stage: Stage, companions: Sequence[str], progress: Progress) -> bool:
    """Try one loop for all; whatever goes wrong in it is told by the stage that it goes wrong in, alone."""
    if not companions:
        return False
    for hash in companions:
        with store.log(hash).open("a", encoding="utf-8") as log:
            log.write(f"trained together with {stage.label}: see {store.log(stage.hash)}\n")
    try:
        return run_group([stage, *(load_stage(store, hash) for hash in companions)], store, progress)
    except Exception:
        print(redacted(traceback.format_exc()), file=sys.stderr)  # noqa: T201  the stage's log
        return False


def explained(error: Exception, label: str, log: str) -> AdapterstiltsError:
    """The error of a stage as one message that names the stage."""
    if isinstance(error, AdapterstiltsError):
        where = f"{label}: {error.where}" if error.where else label
        return type(error)(error.what, where=where, why=error.why, fix=error.fix)
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return StageFailed(what, where=label, fix=f"see {log}")


def _all(listeners: Sequence[Progress]) -> Progress:
    def report(fraction: float, text: str) -> None:
        for listen in listeners:
            listen(fraction, text)

    return report


class _Lines:
    """Progress as lines of the log, one every few seconds."""

    def __init__(self, log: TextIO) -> None:
        self.log, self.next = log, 0.0

    def __call__(self, fraction: float, text: str) -> None:
        now = time.monotonic()
        if now >= self.next:
            self.next = now + EVERY
            self.log.write(f"{time.strftime('%H:%M:%S')} {fraction:.0%} {text}".rstrip() + "\n")


@contextmanager
def _logged(store: Store, hash: str) -> Iterator[TextIO]:
    """The stage's log, open for writing; the traceback of an error is written into it."""
    path = store.log(hash)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", buffering=1) as log:
        try:
            yield log
        except BaseException:
            log.write(redacted(traceback.format_exc()))
            raise


@contextmanager
def _streams(log: TextIO) -> Iterator[None]:
    with redirect_stdout(log), redirect_stderr(log):
        yield


@contextmanager
def _descriptors(log: TextIO) -> Iterator[None]:
    kept = [(number, os.dup(number), stream) for number, stream in ((1, sys.stdout), (2, sys.stderr))]
    try:
        for number, _, stream in kept:
            stream.flush()
            os.dup2(log.fileno(), number)
        yield
    finally:
        for number, copy, stream in kept:
            stream.flush()
            os.dup2(copy, number)
            os.close(copy)
