"""What the values of a method's parameters may be. Torch-free: a wrong one is refused when the recipe is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from adapterstilts.errors import RecipeError

SEVERAL = ("sites", "inputs")  # `all` or names
ZERO = ("key", "alpha", "warmup", "tail")  # numbers that may be zero


def check_values(method: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise RecipeError for a value of another kind than the default's, or a size that is not above zero."""
    for key, value in given.items():
        problem = _problem(key, defaults[key], value)
        if problem is not None:
            what = f"`{key}` of method `{method}` cannot be {value!r}"[:200]
            raise RecipeError(what, why=problem, fix=f"adapterstilts show {method}")


def _problem(key: str, default: Any, value: Any) -> str | None:
    if key == "layers":
        listed = isinstance(value, (list, tuple)) and value and all(type(item) is int and item >= 0 for item in value)
        return None if listed or value is None else "layers are a list of numbers from 0, the lowest layer"
    if key in SEVERAL:
        listed = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        return None if (listed and (value or key != "sites")) or value == "all" else "it is `all` or a list of sites"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "it is true or false"
    if isinstance(default, str):
        return None if isinstance(value, str) else "it is a word"
    if isinstance(default, (int, float)) and (isinstance(value, bool) or not isinstance(value, (int, float))):
        return "it is a number"
    if isinstance(default, (int, float)):
        if not math.isfinite(value) or value < 0 or (value == 0 and key not in ZERO):
            return "it is a number above zero"
        if isinstance(default, int) and key in ("r", "dim", "length", "inner") and value != int(value):
            return "it is a whole number"
    return None
