"""Imports run downward, planning stays torch-free, and one room owns peft and adapters."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "adapterstilts"
FLOORS = {
    "cli": 7,
    "api": 6,
    "executors": 5,
    "results": 5,
    "stages": 4,
    "plan": 4,
    "evaluation": 3,
    "training": 3,
    "retrieval": 3,
    "recipe": 3,
    "data": 2,
    "report": 2,
    "modules": 2,
    "lab": 1,
    "tasks": 1,
    "store": 1,
    "study": 1,
    "encoder": 1,
    "located": 0,
    "settings": 0,
    "inside": 0,
    "offline": 0,
    "amounts": -1,
    "errors": -2,
    "redact": -3,
}
# A plan is made of stage specs, and a stage is run from its plan entry: the two halves of one floor.
NEIGHBOURS = {("plan", "stages"), ("stages", "plan")}
HEAVY = {"torch", "transformers", "peft", "adapters", "faiss", "datasets", "matplotlib", "accelerate", "scipy"}
# scipy is study's own; it has no torch.
TORCH_FREE = [
    "cli", "api", "recipe", "plan", "results", "store", "located", "settings", "amounts", "errors", "executors",
    "stages.specs", "stages.run",
    "tasks.spec", "tasks.registry", "tasks.suites", "modules.methods", "modules.sizes",
    "stages.forecast", "stages.work", "stages.memory",
    "modules.composition", "modules.expressions", "encoder.reference",
    "data.sources", "data.leaks", "data.fetch", "data.archive", "lab",
]  # fmt: skip


def sources() -> Iterator[tuple[Path, str]]:
    """(file, room) of every module inside a room."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in ("__init__", "__main__"):
            yield path, parts[0]


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of every import of a file, those inside functions and for type checkers, too."""
    package = ("adapterstilts", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (start, node.module)))
            if module == "adapterstilts":
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield module, node.lineno


def test_every_room_has_a_floor() -> None:
    assert {room for _, room in sources()} <= set(FLOORS)


def test_imports_run_downward() -> None:
    wrong = []
    for path, room in sources():
        for name, line in imported(path):
            parts = name.split(".")
            if parts[0] != "adapterstilts" or len(parts) < 2 or parts[1] not in FLOORS or parts[1] == room:
                continue
            if FLOORS[parts[1]] >= FLOORS[room] and (room, parts[1]) not in NEIGHBOURS:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_lab_imports_nothing_of_ours() -> None:
    for path, room in sources():
        if room == "lab":
            ours = [name for name, _ in imported(path) if name.startswith("adapterstilts")]
            assert all(name.startswith("adapterstilts.lab") for name in ours), path


def test_only_modules_import_peft_and_adapters() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line} imports {name}"
        for path, room in sources()
        for name, line in imported(path)
        if name.split(".")[0] in ("peft", "adapters") and room != "modules"
    ]
    assert not wrong, "\n".join(wrong)


def test_files_stay_readable() -> None:
    long = {str(p.relative_to(PACKAGE)): n for p, _ in sources() if (n := len(p.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize("room", TORCH_FREE)
def test_room_is_light(room: str) -> None:
    """Importing every file of the room imports nothing heavy."""
    place = PACKAGE.joinpath(*room.split("."))
    files = [place.with_suffix(".py")] if place.with_suffix(".py").is_file() else sorted(place.rglob("*.py"))
    names = [".".join(("adapterstilts", *file.relative_to(PACKAGE).with_suffix("").parts)) for file in files]
    code = f"import sys, importlib\nfor n in {names!r}: importlib.import_module(n.removesuffix('.__init__'))\n"
    code += f"print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent, check=True)
    assert done.stdout.split() == []
