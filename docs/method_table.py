"""Writes the table of all methods into docs/composition.md, from the code:  python docs/method_table.py [--check]"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from adapterstilts.api.sizes import base_shape, parameter_count, stored_bytes
from adapterstilts.modules.methods import METHODS, capabilities, families_of, resolve
from adapterstilts.settings import MethodSettings

PAGE = Path(__file__).parent / "composition.md"
BEGIN, END = "<!-- methods: begin -->\n", "<!-- methods: end -->\n"
LARGE = base_shape("xlm-roberta-large")


def row(name: str) -> str:
    method = resolve(MethodSettings(name=name))
    can = capabilities(method)
    selects = [key for key in ("sites", "layers") if key in METHODS[name].defaults]
    cells: tuple[Any, ...] = (
        f"`{name}`",
        " + ".join(sorted(families_of(method), reverse=True)),
        f"{parameter_count(method, LARGE) / 1e6:.2f} M",
        f"{stored_bytes(method, LARGE) / 1e6:.1f} MB",
        f"{METHODS[name].learning_rate:g}",
        " ".join(selects) or "of its parts",
        can["stack"],
        can["fuse"],
        can["merge"],
        can["weight"],
        can["export"],
        can["unpadded"],
    )
    return f"| {' | '.join(map(_cell, cells))} |\n"


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if isinstance(value, tuple) else str(value)


def table() -> str:
    """One row a method, with its defaults on XLM-R Large."""
    head = ("method", "family", "trains", "stored", "learning rate", "selects by", "stack", "fuse", "merge", "weight",
            "export", "unpadded")  # fmt: skip
    return "".join([f"| {' | '.join(head)} |\n", "|---" * len(head) + "|\n", *map(row, METHODS)])


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
