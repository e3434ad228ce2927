"""One small recipe on five tiny tasks, run once; the command line in this process and as a program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adapterstilts.cli.root import root
from adapterstilts.errors import MissingDependency
from tests.small_tasks import own_data, small_registry

REPOSITORY = Path(__file__).parent.parent.parent
RECIPE = """\
name: small
base: lab/s0
seeds: [0]
languages: [en, qaa]
train: {epochs: 1}
modules:
  nli: {train: [t-nli]}
arms:
  none: {}
  stack: {on: nli}
targets:
  nli-target: {task: t-nli, limit: 40}
retrieve:
  - {tasks: [t-bucc], modules: [base, nli], layers: [3], languages: [qaa]}
"""


@dataclass
class Program:
    """The command line with a store and task files of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def recipe(self) -> Path:
        return self.folder / "small.yaml"

    def options(self) -> dict[str, str]:
        places = {"ADAPTERSTILTS_STORE": str(self.store), "ADAPTERSTILTS_TASKS": str(self.folder / "tasks")}
        return {**places, "COLUMNS": "160", **self.environment}

    def __call__(self, *arguments: str | Path, code: int = 0) -> Result:
        """Run in this process."""
        result = CliRunner().invoke(root, [str(item) for item in arguments], env=self.options())
        if result.exit_code == MissingDependency.exit_code != code:
            raise MissingDependency(result.stderr)
        assert result.exit_code == code, f"{result.exit_code}\n{result.stdout}\n{result.stderr}"
        return result

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        """What a verb prints for programs."""
        return json.loads(self(*arguments, "--format", "json", code=code).stdout)

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start it as a program of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "adapterstilts", *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **self.options()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell ignores Ctrl-C for what it runs in the background, and that would be inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def program(folder: Path) -> Program:
    small_registry(folder / "tasks")
    (folder / "small.yaml").write_text(RECIPE)
    own_data(folder / "data")
    return Program(folder)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """A program with an empty store, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return program(tmp_path)


@pytest.fixture(scope="session")
def _done(tmp_path_factory: pytest.TempPathFactory) -> Program:
    made = program(tmp_path_factory.mktemp("cli"))
    made("run", made.recipe, "--report", made.folder / "out")
    return made


@pytest.fixture
def done(_done: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """A program whose small recipe has run."""
    monkeypatch.chdir(_done.folder)
    yield _done
