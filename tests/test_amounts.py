"""Amounts of memory: one reader for recipes, options and settings."""

from __future__ import annotations

import pytest

from adapterstilts.amounts import count_bytes
from adapterstilts.api.encoding import Encoding
from adapterstilts.errors import RecipeError
from adapterstilts.settings import EngineSettings

AMOUNTS = {"4GB": 4 * 10**9, "900 MiB": 900 * 2**20, "1.5g": 15 * 10**8, "512M": 512 * 10**6, "2 gib": 2**31, "7": 7}


@pytest.mark.parametrize("text", AMOUNTS)
def test_an_amount_is_the_same_wherever_it_is_written(text: str) -> None:
    assert count_bytes(text) == EngineSettings(cache=text).cache == Encoding(max_memory=text).limit == AMOUNTS[text]  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "GB", "4 parsec", "-1GB", "4IB", "1e9", "4GB."])
def test_what_is_no_amount_is_refused_with_what_to_write(text: str) -> None:
    for reader in (count_bytes, lambda text: EngineSettings(cache=text)):
        with pytest.raises((RecipeError, ValueError), match=r"no amount of memory(.|\n)*900MB"):
            reader(text)
