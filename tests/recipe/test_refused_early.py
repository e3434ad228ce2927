"""What would fail in the middle of a run is refused when it is planned, with the place and a way out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.api.planning import plan_recipe
from adapterstilts.errors import MissingDependency, RecipeError

NF4 = {"precision": "nf4"}
RECIPE: dict[str, Any] = {
    "name": "small",
    "base": "lab/s0",
    "languages": ["en"],
    "targets": {"copa": {"task": "lab-copa", "limit": 50}},
    "arms": {"none": {}},
}


def test_rows_longer_than_the_base_has_positions(tmp_path: Path) -> None:
    def longest(tokens: int) -> dict[str, Any]:
        return {**RECIPE, "tasks": {"lab-copa": {"settings": {"max_length": tokens}}}}

    assert plan_recipe(longest(128), store=tmp_path).plan.stages
    with pytest.raises(RecipeError, match="rows of up to 129 tokens") as caught:
        plan_recipe(longest(129), store=tmp_path)
    assert "positions for 128" in str(caught.value) and "max_length: 128" in str(caught.value)


@pytest.mark.parametrize(
    "asking",
    [
        {"train": NF4},
        {"modules": {"m": {"train": "lab-nli"}}, "evaluate": [{"tasks": "lab-nli", "modules": "m", **NF4}]},
    ],
)
def test_nf4_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asking: dict[str, Any]) -> None:
    there = importlib.util.find_spec
    absent = lambda name, *more: None if name == "bitsandbytes" else there(name, *more)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(MissingDependency, match="bitsandbytes") as caught:
        plan_recipe({**RECIPE, **asking}, store=tmp_path)
    assert "adapterstilts[lowbit]" in str(caught.value)
