"""Writes the tables that the code knows into the pages of this folder:  python docs/tables.py [--check]

A table stands between two comments that name it, <!-- tasks: begin --> and <!-- tasks: end -->.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from adapterstilts.modules.methods import METHODS, capabilities, families_of, resolve
from adapterstilts.modules.sizes import base_shape, parameter_count, stored_bytes
from adapterstilts.settings import MethodSettings
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec

FEW = 3
LARGE = base_shape("xlm-roberta-large")


def tasks() -> str:
    """Every task that is no lab task, then those of the lab."""
    registry = TaskRegistry()
    names = sorted(registry.names(), key=lambda name: (name.startswith("lab-"), name))
    head = ("task", "title", "format", "languages", "metric", "trained on", "published sizes", "sources", "licence")
    return _table(head, (_task(registry.get(name)) for name in names))


def _task(task: TaskSpec) -> Sequence[str]:
    languages = " ".join(task.languages) if len(task.languages) <= FEW else str(len(task.languages))
    trained = [f"`{name}`" for name in (*task.before, task.train_task) if name != task.name]
    sizes = ", ".join(f"{split} {size:,}" for split in task.splits if (size := task.size(split, task.languages[0])))
    sources = ", ".join(source.name + ("*" if source.stand_in else "") for source in task.sources)
    then = ", then ".join(trained)
    return (f"`{task.name}`", task.title, task.format, languages, task.metric, then, sizes, sources, task.licence)


def methods() -> str:
    """One row a method, with its defaults on XLM-R Large."""
    head = ("method", "family", "trains", "stored", "learning rate", "selects by", "stack", "fuse", "merge", "weight",
            "export", "unpadded")  # fmt: skip
    return _table(head, map(_method, METHODS))


def _method(name: str) -> Sequence[Any]:
    method = resolve(MethodSettings(name=name))
    can = capabilities(method)
    selects = [key for key in ("sites", "layers") if key in METHODS[name].defaults]
    return (
        f"`{name}`",
        " + ".join(sorted(families_of(method), reverse=True)),
        f"{parameter_count(method, LARGE) / 1e6:.2f} M",
        f"{stored_bytes(method, LARGE) / 1e6:.1f} MB",
        f"{METHODS[name].learning_rate:g}",
        " ".join(selects) or "of its parts",
        *(can[what] for what in ("stack", "fuse", "merge", "weight", "export", "unpadded")),
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, tuple) else str(value)


TABLES: dict[str, Callable[[], str]] = {"tasks": tasks, "methods": methods}
PAGES = {"tasks": "tasks.md", "methods": "composition.md"}


def main() -> int:
    stale = 0
    for name, make in TABLES.items():
        page = Path(__file__).parent / PAGES[name]
        text = page.read_text(encoding="utf-8")
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
        before, rest = text.split(begin)
        made = before + begin + make() + end + rest.split(end)[1]
        stale += made != text
        if "--check" not in sys.argv:
            page.write_text(made, encoding="utf-8")
    return int(stale > 0 and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
