"""Where the tests find real data and small bases. Without them the tests that need them say so and are skipped."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterstilts.errors import MissingDependency

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"
HAS_ADAPTERS = importlib.util.find_spec("adapters") is not None


# What the environment of `make test-transformers5` lacks, and what a program says that needed it.
ABSENT = ("adapters", "transformers.data.metrics")
NEEDED = "need the package `adapters`"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Where the package adapters is absent, what needs it says so and is skipped (`make test-transformers5`)."""
    yield from _without_adapters()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """As above."""
    yield from _without_adapters()


def _without_adapters() -> Iterator[None]:
    try:
        yield
    except (MissingDependency, ModuleNotFoundError) as error:
        absent = str(getattr(error, "name", "adapters"))
        if HAS_ADAPTERS or absent not in ABSENT:
            raise
        pytest.skip(f"needs {absent}")
    except AssertionError as error:
        if HAS_ADAPTERS or NEEDED not in str(error):
            raise
        pytest.skip("runs a program that needs adapters")


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


def unit() -> float:
    """CPU seconds of a fixed job on this machine now (20,000 small JSON round trips): what speeds are compared with."""
    plain = {"name": "a", "values": [1, 2.5, None, "text"], "more": {"key": True}}

    def once() -> float:
        began = time.process_time()
        for _ in range(20_000):
            json.loads(json.dumps(plain))
        return time.process_time() - began

    return min(once() for _ in range(3))
