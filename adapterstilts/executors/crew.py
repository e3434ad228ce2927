"""Who runs stages: the one interface behind every executor. A crew sees hashes and needs, nothing else of a stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from adapterstilts.errors import AdapterstiltsError, RecipeError
from adapterstilts.plan.needs import Needs
from adapterstilts.stages.run import KINDS
from adapterstilts.store import Store


@dataclass(frozen=True)
class Job:
    """One stage as a crew sees it. ``parents``: stages that the crew has, too, and that must be done before."""

    hash: str
    needs: Needs = field(default_factory=Needs)
    parents: tuple[str, ...] = ()
    base: str = ""  # what a worker has loaded after it
    companions: tuple[str, ...] = ()  # training stages that are made in the same loop where that goes well


@dataclass(frozen=True)
class Started:
    hash: str
    where: str


@dataclass(frozen=True)
class Progressed:
    hash: str
    fraction: float
    text: str


@dataclass(frozen=True)
class Ended:
    """``made``: whether this run made the artifact; ``error``: None when it is there."""

    hash: str
    seconds: float
    made: bool = False
    error: AdapterstiltsError | None = None


Message = Started | Progressed | Ended
Tell = Callable[[Message], None]


class Crew(Protocol):
    """Workers that are handed jobs while they have room, and tell how these go.

    As a context it ends its workers on leaving: what still runs is interrupted and keeps its checkpoints.
    """

    ahead: bool  # whether it takes jobs whose parents it has not done yet, and waits for these itself

    def room(self) -> str | None:
        """The base that the next free worker has loaded (empty: none), or None when no worker is free."""
        ...

    def give(self, job: Job) -> None:
        """Hand over a job; only after `room`."""
        ...

    def drop(self, hash: str) -> None:
        """Forget a job that was given and has not started: a parent failed."""
        ...

    def busy(self) -> bool:
        """Whether a job is not ended."""
        ...

    def wait(self, tell: Tell) -> None:
        """Tell what happened; returns after the first message, or after about a second without one."""
        ...

    def __enter__(self) -> Crew: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Setup:
    """What a crew is made of. ``jobs``: stages at a time, None: as many as there is room for."""

    store: Store
    jobs: int | None = 1
    total: int = 1  # stages that will be given
    processes: int = 1  # the most that one stage is shared by
    kinds: Mapping[str, str] = field(default_factory=lambda: dict(KINDS))
    options: Mapping[str, str] = field(default_factory=dict)  # of this executor alone

    def option(self, allowed: Mapping[str, str]) -> dict[str, str]:
        """The options over their defaults.

        Raises:
            RecipeError: one that the executor does not have.
        """
        for name in self.options:
            if name not in allowed:
                known = ", ".join(allowed) or "none"
                raise RecipeError(f"no option `{name}`", where="--with", why=f"there are: {known}", fix="leave it out")
        return {**allowed, **self.options}


def number(name: str, text: str) -> float:
    """The value of an option that is a number, 0 or more.

    Raises:
        RecipeError: it is something else.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise RecipeError("this option is a number, 0 or more", where=f"--with {name}={text}", fix=f"--with {name}=60")
    return value
