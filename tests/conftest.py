"""Where the tests find real data and small bases. Without them the tests that need them say so and are skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"


def existing(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"no {path}: real data and bases lie outside the repository")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published data sets, see MANIFEST.md there."""
    return existing(SHARED / "data")


@pytest.fixture(scope="session")
def shared_text() -> Path:
    """Plain text in many languages."""
    return existing(SHARED / "text")


@pytest.fixture(scope="session")
def shared_base() -> Path:
    """A small XLM-R pretrained on real text."""
    return existing(SHARED / "base")


@pytest.fixture(scope="session")
def lab_base() -> Path:
    """The miniature base that ships with the package."""
    path = REPOSITORY / "adapterstilts" / "lab" / "bases" / "s0"
    if not (path / "tokenizer.json").is_file():
        pytest.skip(f"no {path}: the lab's base is not built")
    return path
