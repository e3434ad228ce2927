"""Presets: settings for a kind of machine, laid under those of the recipe. ``preset: small-gpu``, or --preset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterstilts.errors import RecipeError


def _bf16_is_fast() -> bool:
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return "avx512_bf16" in text or "amx_bf16" in text


def presets() -> Mapping[str, Mapping[str, Any]]:
    """name -> what it sets. ``cpu`` depends on the machine: bf16 where its cores multiply in it."""
    return {
        "reproduce": {
            "train": {"precision": "fp32", "dropout": 0.1, "base_dropout": True},
            "engine": {"packed": True, "compact": True},
        },
        "small-gpu": {"train": {"precision": "bf16"}, "engine": {"tokens": 2048, "compact": True}},
        "tiny": {"train": {"precision": "nf4"}, "engine": {"tokens": 512, "compact": True, "recompute": 1}},
        "cpu": {
            "train": {"precision": "bf16" if _bf16_is_fast() else "fp32"},
            "engine": {"tokens": 2048, "compact": True},
        },
    }


def preset(name: str, where: str | None = None) -> Mapping[str, Any]:
    """The settings of a preset.

    Raises:
        RecipeError: no such preset.
    """
    known = presets()
    if name not in known:
        raise RecipeError(f"no preset `{name}`", where=where, why=f"there are {', '.join(known)}")
    return known[name]
