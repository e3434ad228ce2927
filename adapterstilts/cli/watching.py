"""A live table of the stages of a run, from any machine that sees the store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from adapterstilts.cli.output import STYLES, Output, duration

if TYPE_CHECKING:
    from rich.console import Group

States = list[dict[str, Any]]
EVERY = 1.0  # seconds between two looks
ORDER = ("failed", "running", "queued", "started", "open", "done")


def look_on(output: Output, title: str, look: Callable[[], States]) -> States:
    """Show the stages, on stderr, until none is queued or running; returns the last look. Ctrl-C ends only the look."""
    if not output.errors().is_terminal:
        return _plainly(output, title, look)
    from rich.live import Live

    states = look()
    try:
        with Live(_view(title, states, output.errors().size.height), console=output.errors(), transient=True) as live:
            while _alive(states):
                time.sleep(EVERY)
                states = look()
                live.update(_view(title, states, live.console.size.height))
    except KeyboardInterrupt:
        pass
    return states


def _alive(states: States) -> bool:
    return any(state["state"] in ("queued", "running") for state in states)


def _plainly(output: Output, title: str, look: Callable[[], States]) -> States:
    said = ""
    while True:
        states = look()
        line = f"{title}: {_counts(states)}"
        if line != said:
            output.say(said := line)
        if not _alive(states):
            return states
        time.sleep(EVERY)


def _counts(states: States) -> str:
    counts = Counter(state["state"] for state in states)
    return ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])


def _view(title: str, states: States, height: int) -> Group:
    from rich import box
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in ("stage", "state", "where", "progress", "took", "left", "says", "logs"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    shown = sorted(states, key=lambda state: ORDER.index(state["state"]))[: max(3, height - 6)]
    for state in shown:
        fraction = state["fraction"]
        table.add_row(
            Text(state["name"]),
            Text(state["state"], style=STYLES.get(state["state"], "")),
            Text(state["where"]),
            "" if fraction is None else ProgressBar(1.0, fraction, width=12),
            Text(duration(state["seconds"])),
            Text(duration(state["left"])),
            Text((state["text"] or state["error"] or "").partition("\n")[0]),
            Text(state["hash"][:12]),
        )
    head = Text(f"{title}  {_counts(states)}", style="bold")
    return Group(head, table, *([Text(f"and {len(states) - len(shown)} more")] if len(shown) < len(states) else []))
