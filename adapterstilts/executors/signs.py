"""Signs of life: where a stage is and how far, as its worker last wrote it into the store, and requests to stop.

signs/<hash>.json   queued, running or failed; removed when the stage is done
signs/<hash>.stop   somebody asks the stage to stop; its worker obeys at its next report of progress
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from adapterstilts import errors
from adapterstilts.errors import AdapterstiltsError, StageFailed
from adapterstilts.store import Store, beside, write_text

EVERY = 0.5  # seconds between two signs of one stage
_NAME = re.compile(r"[0-9a-f]{64}\.json")


@dataclass(frozen=True)
class Sign:
    """What a worker wrote. Times are seconds since 1970; ``job``: what the cluster calls it."""

    state: Literal["queued", "running", "failed"]
    where: str = ""
    job: str = ""
    began: float = 0.0
    at: float = 0.0
    fraction: float = 0.0
    text: str = ""
    error: dict[str, str | None] | None = None

    @property
    def left(self) -> float | None:
        """Seconds that remain when it goes on as it went."""
        if not 0.0 < self.fraction <= 1.0 or self.at <= self.began:
            return None
        return (self.at - self.began) * (1 - self.fraction) / self.fraction


def _file(store: Store, hash: str) -> Path:
    return store.root / "signs" / f"{hash}.json"


def stop_mark(store: Store, hash: str) -> Path:
    """The file that asks a stage to stop."""
    return store.root / "signs" / f"{hash}.stop"


def read_sign(store: Store, hash: str) -> Sign | None:
    """The last sign of a stage that is not done."""
    try:
        return Sign(**json.loads(_file(store, hash).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_sign(store: Store, hash: str, sign: Sign) -> None:
    """Replace the sign of a stage."""
    write_text(_file(store, hash), json.dumps(asdict(sign), ensure_ascii=False))


def queue_sign(store: Store, hash: str, job: str) -> None:
    """A cluster has the stage; a worker that was faster and wrote already keeps its sign."""
    place = _file(store, hash)
    place.parent.mkdir(parents=True, exist_ok=True)
    fresh = beside(place)
    fresh.write_text(json.dumps(asdict(Sign("queued", job=job, began=time.time(), at=time.time()))), encoding="utf-8")
    try:
        os.link(fresh, place)
    except FileExistsError:
        return
    finally:
        fresh.unlink()


def changed_signs(store: Store, seen: dict[str, int]) -> Iterator[tuple[str, Sign]]:
    """(hash, sign) of what was written since the last call; ``seen`` remembers that."""
    try:
        entries = [entry for entry in os.scandir(store.root / "signs") if _NAME.fullmatch(entry.name)]
    except FileNotFoundError:
        return
    for entry in entries:
        hash = entry.name.removesuffix(".json")
        try:
            written = entry.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        if seen.get(hash) != written:
            seen[hash] = written
            sign = read_sign(store, hash)
            if sign is not None:
                yield hash, sign


def drop_sign(store: Store, hash: str) -> None:
    """The stage is done, or nobody has it."""
    _file(store, hash).unlink(missing_ok=True)


def as_plain(error: AdapterstiltsError) -> dict[str, str | None]:
    """An error as JSON-able data; `as_error` makes it again."""
    return {"kind": type(error).__name__, **{name: getattr(error, name) for name in ("what", "where", "why", "fix")}}


def as_error(plain: dict[str, str | None]) -> AdapterstiltsError:
    """The error that ``as_plain`` described."""
    kind: Any = getattr(errors, str(plain["kind"]), StageFailed)
    made: AdapterstiltsError = kind(plain["what"], where=plain["where"], why=plain["why"], fix=plain["fix"])
    return made


class Reporter:
    """What a stage calls with its progress: writes signs, passes progress on, and stops the stage when asked to."""

    def __init__(self, store: Store, hash: str, where: str, job: str = "", every: float = EVERY) -> None:
        self.store, self.hash, self.where, self.job, self.every = store, hash, where, job, every
        self.began = time.time()
        self._next = 0.0
        stop_mark(store, hash).unlink(missing_ok=True)  # asked of an earlier attempt
        self(0.0, "")

    def __call__(self, fraction: float, text: str) -> None:
        """Note the progress.

        Raises:
            StageFailed: somebody asked the stage to stop.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.every
        sign = Sign("running", self.where, self.job, self.began, time.time(), fraction, text)
        write_sign(self.store, self.hash, sign)
        mark = stop_mark(self.store, self.hash)
        if mark.exists():
            mark.unlink(missing_ok=True)
            raise StageFailed("it was cancelled", why="its checkpoints are kept", fix="run again: it goes on from them")

    def failed(self, error: AdapterstiltsError) -> None:
        """The stage ended with an error."""
        sign = Sign("failed", self.where, self.job, self.began, time.time(), error=as_plain(error))
        write_sign(self.store, self.hash, sign)

    def done(self) -> None:
        """The stage is there."""
        drop_sign(self.store, self.hash)
