"""Help: instant, without torch, with examples that exist."""

from __future__ import annotations

import os
import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from adapterstilts import __version__
from adapterstilts.cli.group import Group, Verb
from adapterstilts.cli.root import root
from tests.cli.conftest import Program


def verbs(group: Group = root, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Verb]]:
    """(words, command) of every verb."""
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, Group):
            yield from verbs(command, (*above, name))
        else:
            assert isinstance(command, Verb), name
            yield (*above, name), command


ALL = dict(verbs())


def test_the_verbs_are_there() -> None:
    wanted = ["run", "plan", "validate", "report", "status", "train", "stack", "fuse", "merge", "evaluate", "retrieve"]
    assert {(name,) for name in [*wanted, "ls", "show", "explain", "doctor"]} <= set(ALL)
    assert {("lab", "pretrain"), ("store", "verify"), ("store", "gc"), ("store", "du"), ("stage", "run")} <= set(ALL)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_of_every_verb(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(root, [*words, "--help"])
    assert done.exit_code == 0
    for part in ("Usage: ", "Examples:", "--format", "--store", "--verbose", "--no-color"):
        assert part in done.stdout


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_examples_can_be_parsed(words: tuple[str, ...]) -> None:
    command = ALL[words]
    assert len(command.examples) >= (1 if words == ("stage", "run") else 2)
    for example in command.examples:
        ours = next(part for part in example.split("|") if "adapterstilts" in part)
        first, *arguments = shlex.split(re.split(r" [<>] ", ours)[0])
        assert (first, *arguments[: len(words)]) == ("adapterstilts", *words)
        try:
            command.make_context(words[-1], arguments[len(words) :])
        except click.BadParameter as error:
            assert "does not exist" in error.message  # a file that the reader has


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_options_are_kebab_case_and_explained(words: tuple[str, ...]) -> None:
    for option in ALL[words].params:
        if isinstance(option, click.Option):
            assert not any("_" in name for name in option.opts)


def loaded(code: str) -> set[str]:
    """Heavy modules that are there after some code has run in a process of its own."""
    heavy = ("torch", "transformers", "peft", "adapters", "faiss", "datasets")
    tail = f"\nprint('LOADED', *[m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code + tail], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


def test_no_help_imports_torch() -> None:
    calls = "\n".join(f"    {[*words, '--help']!r}," for words in ALL)
    code = (
        f"from adapterstilts.cli.root import root\nfor words in [\n{calls}\n]: root.main(words, standalone_mode=False)"
    )
    assert loaded(code) == set()


def test_looking_and_planning_import_no_torch(fresh: Program) -> None:
    os.environ.update(fresh.options())
    calls = [
        ["plan", str(fresh.recipe)], ["validate", str(fresh.recipe)], ["ls", "tasks"],
        ["explain", "stack(lora, seq_bn)"], ["show", "lora"], ["status"], ["doctor", "--quick"],
    ]  # fmt: skip
    code = f"from adapterstilts.cli.root import root\nfor words in {calls!r}: root.main(words, standalone_mode=False)"
    try:
        assert loaded(code) == set()
    finally:
        for name in fresh.options():
            os.environ.pop(name, None)


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["train", "--help"], ["store", "gc", "--help"]])
def test_help_is_instant(arguments: list[str]) -> None:
    """Little slower than the interpreter with the two packages that every verb needs."""
    ours, bare = [], []
    for _ in range(5):
        ours.append(started([sys.executable, "-m", "adapterstilts", *arguments]))
        bare.append(started([sys.executable, "-c", "import click, importlib.metadata, json, logging"]))
    assert min(ours) < 3 * min(bare), (ours, bare)


def started(command: list[str]) -> float:
    """CPU seconds of a program from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_version_and_module_are_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adapterstilts", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == f"adapterstilts, version {__version__}"


def test_the_package_is_light_and_offers_the_verbs() -> None:
    assert (
        loaded("import adapterstilts; adapterstilts.run, adapterstilts.train, adapterstilts.load, dir(adapterstilts)")
        == set()
    )
