"""The README tells the truth: blocks marked to run are run, every other command exists with its options.

A block that begins with ```` ```bash run ```` (or ```` ```python run ````) is run, in order, in one folder with one
store; ```` ```bash ```` blocks are parsed only: long jobs, real data, make.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from adapterstilts.cli.group import Group
from adapterstilts.cli.root import root

REPOSITORY = Path(__file__).parent.parent
FILES = [path for path in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))) if path.is_file()]
FENCE = re.compile(r"^```(?P<kind>bash|sh|console|python)(?P<run> run)?[^\n]*\n(?P<text>.*?)^```", re.M | re.S)


def blocks(kind: str, run: bool) -> Iterator[tuple[str, str]]:
    """(place, text) of the blocks of a kind."""
    for path in FILES:
        for found in FENCE.finditer(path.read_text(encoding="utf-8")):
            if (found["kind"] == "python") == (kind == "python") and bool(found["run"]) == run:
                line = path.read_text(encoding="utf-8")[: found.start()].count("\n") + 1
                yield f"{path.name}:{line}", found["text"]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||[|;]", line.removeprefix("$ ")):
            words = shlex.split(part.split(" > ")[0], comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words


ALL = [
    pytest.param(words, id=f"{place} {' '.join(words)}")
    for run in (True, False)
    for place, text in blocks("bash", run)
    for words in commands(text)
    if words[0] in ("adapterstilts", "make", ".venv/bin/adapterstilts") or words[1:3] == ["-m", "adapterstilts"]
]


@pytest.mark.parametrize("words", ALL)
def test_command_exists(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The reader's files need not be here; the blocks that are run have theirs.
    monkeypatch.setattr(click.Path, "convert", lambda self, value, parameter, context: value)
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
        assert set(word for word in words[1:] if "=" not in word) <= targets
        return
    arguments = words[3:] if words[1:3] == ["-m", "adapterstilts"] else words[1:]
    if {"--help", "-h", "--version"} & set(arguments):
        arguments = [word for word in arguments if not word.startswith("-")]
        assert not arguments or arguments[0] in root.lazy
        return
    group: click.Command = root
    context = root.make_context("adapterstilts", arguments)
    while isinstance(group, Group):
        rest = [*context.protected_args, *context.args] if hasattr(context, "protected_args") else context.args
        if not rest:
            return  # adapterstilts --help
        _, command, rest = group.resolve_command(context, list(rest))
        assert command is not None
        group, context = command, command.make_context(str(command.name), rest, parent=context)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader has it: the repository's recipes, the program, one store for all blocks."""
    made = tmp_path_factory.mktemp("readme")
    (made / "recipes").symlink_to(REPOSITORY / "recipes")
    program = made / "bin" / "adapterstilts"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m adapterstilts "$@"\n')
    program.chmod(0o755)
    return made


def environment(folder: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("ADAPTERSTILTS_")}
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**plain, "PATH": path, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def test_marked_blocks_run(folder: Path) -> None:
    """In order, for a later block goes on where an earlier one stopped."""
    scripts = [(place, ["bash", "-euo", "pipefail", "-c", text]) for place, text in blocks("bash", run=True)]
    scripts += [(place, [sys.executable, "-c", text]) for place, text in blocks("python", run=True)]
    for place, script in scripts:
        done = subprocess.run(script, cwd=folder, env=environment(folder), capture_output=True, text=True)
        assert done.returncode == 0, f"{place}\n{done.stdout}\n{done.stderr}"
