"""Malformed inputs of every kind: one error with place, reason and fix, the right exit code, nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_inputs.case import Bad
from tests.bad_inputs.places import PLACES
from tests.bad_inputs.recipes import RECIPES
from tests.cli.conftest import Program, program
from tests.cli.test_errors import MISTAKES
from tests.data.broken import BROKEN

TABLES = {"recipe": RECIPES, **PLACES}
CASES = {f"{kind}: {name}": case for kind, table in TABLES.items() for name, case in table.items()}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): b"->" if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    }


@pytest.mark.parametrize("name", CASES)
def test_one_clear_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case: Bad = CASES[name]
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    made: Program = program(folder)
    case.write(folder)
    made.environment.update(case.environment)
    before = snapshot(tmp_path)
    result = made(*case.arguments, code=case.code)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr and "not expected" not in result.stderr
    assert "why: " in result.stderr or "fix: " in result.stderr, result.stderr
    assert len(result.stderr) < 3000, "nobody reads that"
    for part in case.told:
        assert part in result.stderr, result.stderr
    after = snapshot(tmp_path)
    assert {key: value for key, value in after.items() if not key.endswith((".lock", "files.json"))} == before


def test_the_tables_are_wide_enough() -> None:
    """With the broken data files and the mistakes on the command line, far over two hundred."""
    assert len(CASES) + len(BROKEN) + len(MISTAKES) >= 300
