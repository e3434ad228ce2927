"""Amounts of memory and disk as people write them."""

from __future__ import annotations

import re

from adapterstilts.errors import RecipeError

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def count_bytes(amount: str | int) -> int:
    """``4GB``, ``900 MiB``, ``1.5G`` or a number of bytes; K, M, G and T are powers of 1000, with an i of 1024.

    Raises:
        RecipeError: none of these.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?\s*", str(amount).upper())
    if found is None or found[2] not in UNITS:
        raise RecipeError(f"`{amount}` is no amount of memory", fix="write 4GB, 900MB or 2GiB")
    return int(float(found[1]) * UNITS[found[2]])
