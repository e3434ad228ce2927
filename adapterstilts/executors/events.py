"""What a run tells while it goes, and what it says at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from adapterstilts.errors import AdapterstiltsError
from adapterstilts.plan.graph import Stage

EventKind = Literal["started", "progress", "done", "hit", "failed", "skipped"]
Outcome = Literal["done", "hit", "failed", "skipped", "unneeded", "interrupted", "open"]


@dataclass(frozen=True)
class Event:
    """Something happened to a stage. ``where``: this process, a worker of the pool, a job, a node."""

    kind: EventKind
    stage: Stage
    fraction: float | None = None
    text: str = ""
    seconds: float | None = None
    error: AdapterstiltsError | None = None
    where: str = ""


@dataclass
class StageResult:
    """How one stage ended. ``unneeded``: missing, but everything that would need it is done."""

    stage: Stage
    outcome: Outcome = "open"
    seconds: float = 0.0
    error: AdapterstiltsError | None = None
    log: Path | None = None
    where: str = ""


@dataclass
class RunResult:
    """How a run ended; ``folder`` is its run folder."""

    stages: dict[str, StageResult] = field(default_factory=dict)
    folder: Path | None = None
    interrupted: bool = False
    seconds: float = 0.0

    def having(self, *outcomes: Outcome) -> list[StageResult]:
        """The stages that ended so."""
        return [result for result in self.stages.values() if result.outcome in outcomes]

    @property
    def ok(self) -> bool:
        """Whether every stage that was needed is there now."""
        return not self.interrupted and not self.having("failed", "skipped", "interrupted", "open")

    @property
    def exit_code(self) -> int:
        """0, 130 after an interrupt, else that of the first failure."""
        if self.interrupted:
            return 130
        failed = self.having("failed")
        return (failed[0].error.exit_code if failed[0].error else 1) if failed else 0 if self.ok else 1


Listener = Callable[[Event], None]
