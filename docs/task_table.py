"""Writes the table of all tasks into docs/tasks.md, from their YAML files:  python docs/task_table.py [--check]"""

from __future__ import annotations

import sys
from pathlib import Path

from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec

PAGE = Path(__file__).parent / "tasks.md"
BEGIN, END = "<!-- tasks: begin -->\n", "<!-- tasks: end -->\n"
FEW = 3


def row(task: TaskSpec) -> str:
    languages = " ".join(task.languages) if len(task.languages) <= FEW else str(len(task.languages))
    trained = "" if task.train_task == task.name else f"`{task.train_task}`"
    sizes = ", ".join(f"{split} {size:,}" for split in task.splits if (size := task.size(split, task.languages[0])))
    sources = ", ".join(source.name + ("*" if source.stand_in else "") for source in task.sources)
    cells = (f"`{task.name}`", task.title, task.format, languages, task.metric, trained, sizes, sources, task.licence)
    return f"| {' | '.join(cells)} |\n"


def table() -> str:
    """Every task that is no lab task, then those of the lab."""
    registry = TaskRegistry()
    names = sorted(registry.names(), key=lambda name: (name.startswith("lab-"), name))
    head = ("task", "title", "format", "languages", "metric", "trained on", "published sizes", "sources", "licence")
    lines = [f"| {' | '.join(head)} |\n", "|---" * len(head) + "|\n"]
    return "".join([*lines, *(row(registry.get(name)) for name in names)])


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    made = before + BEGIN + table() + END + after
    if "--check" in sys.argv:
        return int(made != text)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
