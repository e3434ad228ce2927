"""Which stage runs next: the longest chain first, and stages of one base after each other."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from adapterstilts.plan.graph import Stage


class Schedule:
    """The stages still to run, given out when their parents are done, or, ``ahead``, when these are given out."""

    def __init__(self, stages: Iterable[Stage], ahead: bool = False) -> None:
        self.ahead = ahead
        self.waiting = {stage.hash: stage for stage in stages}
        self.given: dict[str, Stage] = {}
        self._open: dict[str, set[str]] = {}
        self._children: dict[str, list[str]] = {}
        for stage in self.waiting.values():
            self._open[stage.hash] = {hash for hash in stage.parents.values() if hash in self.waiting}
            for parent in self._open[stage.hash]:
                self._children.setdefault(parent, []).append(stage.hash)
        self._chain: dict[str, int] = {}
        for hash in reversed(self.waiting):
            below = (self._chain[child] for child in self._children.get(hash, ()))
            self._chain[hash] = 1 + max(below, default=0)
        self._place = {hash: place for place, hash in enumerate(self.waiting)}
        self._ready: dict[str, list[tuple[int, int, str]]] = {}  # base -> heap of (-chain, place, hash)
        for hash in [hash for hash, parents in self._open.items() if not parents]:
            self._push(hash)

    def _push(self, hash: str) -> None:
        heap = self._ready.setdefault(self.waiting[hash].base, [])
        heapq.heappush(heap, (-self._chain[hash], self._place[hash], hash))

    def take(self, base: str = "") -> Stage | None:
        """The next stage for a worker that has ``base`` loaded, or None when nothing is ready."""
        for heap in self._ready.values():
            while heap and heap[0][2] not in self.waiting:
                heapq.heappop(heap)  # taken out meanwhile: a parent failed
        filled = [heap for heap in self._ready.values() if heap]
        if not filled:
            return None
        _, _, hash = heapq.heappop(self._ready.get(base) or min(filled))
        stage = self.given[hash] = self.waiting.pop(hash)
        if self.ahead:
            self._release(hash)
        return stage

    def ready(self) -> list[Stage]:
        """What could be taken now, in the order of the plan."""
        hashes = sorted((place, hash) for heap in self._ready.values() for _, place, hash in heap)
        return [self.waiting[hash] for _, hash in hashes if hash in self.waiting]

    def join(self, hashes: Iterable[str]) -> None:
        """Give out stages that are ready, in the company of another."""
        self.given |= {hash: self.waiting.pop(hash) for hash in hashes}

    def back(self, stage: Stage) -> None:
        """A stage that was given out was not made: it is ready again."""
        self.waiting[stage.hash] = self.given.pop(stage.hash)
        self._push(stage.hash)

    def parents(self, stage: Stage) -> tuple[str, ...]:
        """The parents of a stage that are given out and not done."""
        return tuple(dict.fromkeys(hash for hash in stage.parents.values() if hash in self.given))

    def done(self, hash: str) -> None:
        """A stage is there: its children may be ready."""
        self.given.pop(hash, None)
        if not self.ahead:
            self._release(hash)

    def _release(self, hash: str) -> None:
        for child in self._children.get(hash, ()):
            self._open[child].discard(hash)
            if not self._open[child] and child in self.waiting:
                self._push(child)

    def failed(self, hash: str) -> list[Stage]:
        """A stage will not be there: everything that needs it, given out or not, is taken out and returned."""
        self.given.pop(hash, None)
        lost: list[Stage] = []
        front = list(self._children.get(hash, ()))
        for child in front:  # grows as it goes
            stage = self.waiting.pop(child, None) or self.given.pop(child, None)
            if stage is not None:
                lost.append(stage)
                front.extend(self._children.get(child, ()))
        return lost

    def clear(self) -> list[Stage]:
        """Take everything out that is not given out."""
        rest = list(self.waiting.values())
        self.waiting.clear()
        return rest
