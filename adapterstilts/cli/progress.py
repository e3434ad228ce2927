"""A run while it goes, on stderr: a live view on a terminal, else a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from adapterstilts.cli.output import Output, duration

if TYPE_CHECKING:
    from adapterstilts.executors.events import Event

EVERY = 5.0  # seconds between two plain lines
SHOWN = 8  # running stages in the live view


class Watcher:
    """Listens to a run. Stages send what they print to their logs, so this keeps the stderr it started with."""

    def __init__(self, output: Output, total: int) -> None:
        self.output, self.total = output, total
        self.verbose = output.session.verbose
        self.silent = output.session.format == "quiet"
        self.stream = sys.stderr
        self.counts = {"done": 0, "failed": 0, "skipped": 0}
        self.running: dict[str, tuple[str, float, str]] = {}
        self.began = self.last = time.monotonic()
        self._stack = ExitStack()
        self._live: Any = None

    def __enter__(self) -> Watcher:
        if not self.silent and self.total and self.stream.isatty():
            from rich.live import Live

            self._live = Live(
                console=self.output.errors(),
                get_renderable=self._view,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._stack.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __call__(self, event: Event) -> None:
        """One event of the run."""
        key = event.stage.hash
        if event.kind in ("started", "progress"):
            self.running[key] = (event.stage.label, event.fraction or 0.0, event.text)
        else:
            started = self.running.pop(key, None) is not None
            if event.kind == "hit" and not started:
                return  # done before this run began
            self.counts["done" if event.kind == "hit" else event.kind] += 1
        if event.kind == "failed":
            self._line(f"failed: {event.error or event.stage.label}")
        elif event.kind == "skipped" and self.verbose:
            self._line(f"skipped: {event.stage.label} ({event.text})")
        elif event.kind == "done" and self.verbose:
            self._line(f"done: {event.stage.label} ({duration(event.seconds)})")
        elif self._live is None and time.monotonic() - self.last >= EVERY:
            self._line(self._summary())

    def _line(self, text: str) -> None:
        self.last = time.monotonic()
        if self.silent:
            return
        if self._live is not None:
            self._live.console.print(text)
        else:
            self.stream.write(text + "\n")
            self.stream.flush()

    def _summary(self) -> str:
        parts = [f"{self.counts['done']}/{self.total} stages, {duration(time.monotonic() - self.began)}"]
        parts += [f"{self.counts['failed']} failed"] if self.counts["failed"] else []
        if self.running:
            label, fraction, text = list(self.running.values())[-1]
            parts.append(f"{label} {fraction:.0%} {text}".rstrip())
        return " · ".join(parts)

    def _view(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        ended = sum(self.counts.values())
        head = f"{ended}/{self.total} stages  {duration(time.monotonic() - self.began)}"
        failed = f"{self.counts['failed']} failed" if self.counts["failed"] else ""
        grid.add_row(ProgressBar(self.total, ended, width=24), Text(head, style="bold"), Text(failed, style="red"))
        for label, fraction, text in list(self.running.values())[:SHOWN]:
            grid.add_row(ProgressBar(1.0, fraction, width=24), Text(label), Text(text, style="dim"))
        return grid
