"""What crews on clusters share: the worker's side of a job, and what their signs of life tell."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from adapterstilts.executors.crew import Ended, Progressed, Started, Tell
from adapterstilts.executors.signals import interruptible
from adapterstilts.executors.signs import changed_signs, stop_mark
from adapterstilts.executors.work import work
from adapterstilts.store import Store


def python_path() -> str:
    """Where this process finds its modules: the package may be found by a path that only this process knows."""
    return os.pathsep.join(path or os.getcwd() for path in sys.path)


def perform(root: Path, hash: str, kinds: Mapping[str, str], processes: int, job: str = "") -> Ended:
    """One stage on a node; the scheduler's SIGTERM unwinds it, so that its checkpoint and nothing else stays."""
    with interruptible():
        return work(Store(root), hash, kinds, processes=processes, job=job, own_process=True)


class Listener:
    """Tells what the workers of some jobs wrote into the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._seen: dict[str, int] = {}
        self._started: set[str] = set()

    def hear(self, hashes: Iterable[str], tell: Tell) -> None:
        """Tell starts and progress of these stages since the last call."""
        wanted = set(hashes)
        for hash, sign in changed_signs(self.store, self._seen):
            if hash in wanted and sign.state == "running":
                if hash not in self._started:
                    self._started.add(hash)
                    tell(Started(hash, sign.job or sign.where))
                tell(Progressed(hash, sign.fraction, sign.text))

    def stop(self, hashes: Iterable[str]) -> None:
        """Ask running stages to stop."""
        for hash in hashes:
            if self.store.held(hash):
                stop_mark(self.store, hash).touch()
