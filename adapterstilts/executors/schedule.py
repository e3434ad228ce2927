"""Which stage runs next: the longest chain first, and stages of one base after each other."""

from __future__ import annotations

from collections.abc import Iterable

from adapterstilts.plan.graph import Stage


class Schedule:
    """The stages still to run, given out when their parents are done."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self.waiting = {stage.hash: stage for stage in stages}
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
        self._ready = {hash: None for hash, parents in self._open.items() if not parents}

    def take(self, base: str = "") -> Stage | None:
        """The next stage for a worker that has ``base`` loaded, or None when nothing is ready."""
        if not self._ready:
            return None
        hash = max(self._ready, key=lambda h: (self.waiting[h].base == base, self._chain[h]))
        del self._ready[hash]
        return self.waiting.pop(hash)

    def done(self, hash: str) -> None:
        """A stage is there: its children may be ready."""
        for child in self._children.get(hash, ()):
            self._open[child].discard(hash)
            if not self._open[child] and child in self.waiting:
                self._ready[child] = None

    def failed(self, hash: str) -> list[Stage]:
        """A stage will not be there: everything that needs it is taken out and returned."""
        lost: list[Stage] = []
        front = list(self._children.get(hash, ()))
        while front:
            child = front.pop(0)
            stage = self.waiting.pop(child, None)
            if stage is not None:
                self._ready.pop(child, None)
                lost.append(stage)
                front.extend(self._children.get(child, ()))
        return lost

    def clear(self) -> list[Stage]:
        """Take everything out."""
        rest = list(self.waiting.values())
        self.waiting.clear()
        self._ready.clear()
        return rest
