"""Run folders: runs/<recipe>/<plan id>/ with what was planned, readable by people and by workers.

recipe.json   the recipe as resolved        plan.json    stages, cells, names
stages/<hash>.json   one stage each: a worker needs nothing but the hash
links/<label>        the artifacts that are done
"""

from __future__ import annotations

import importlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from adapterstilts.errors import StageFailed, StoreError
from adapterstilts.plan.graph import SPECS, Cell, Plan, Stage, State
from adapterstilts.stages.specs import Spec
from adapterstilts.store import Store, beside, write_text

LOOK_BACK = 10  # earlier runs that are searched for stale labels


def record(plan: Plan, store: Store) -> Path:
    """Write the run folder of a plan; the same plan has the same folder.

    Raises:
        StoreError: the disk is full.
    """
    folder = store.runs / plan.recipe / plan.id
    (folder / "stages").mkdir(parents=True, exist_ok=True)
    for stage in plan.stages:
        path, text = folder / "stages" / f"{stage.hash}.json", json.dumps(stage.to_plain(), ensure_ascii=False)
        # One hash may be told several ways to run (`engine`): the way of the last run counts.
        if path.exists() and path.read_text(encoding="utf-8") == text:
            os.utime(path)
        else:
            write_text(path, text)
    write_text(folder / "recipe.json", plan.text or "{}")
    plain = {
        "schema": 1,
        "recipe": plan.recipe,
        "stages": [{"hash": stage.hash, "kind": stage.kind, "label": stage.label} for stage in plan.stages],
        "cells": [asdict(cell) for cell in plan.cells],
        "names": dict(plan.names),
        "warnings": list(plan.warnings),
    }
    write_text(folder / "plan.json", json.dumps(plain, ensure_ascii=False, indent=1))
    return folder


class Links:
    """The links of a run folder to the artifacts that are done, and the names that stand for them."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.store, self.folder = store, store.runs / plan.recipe / plan.id / "links"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.names: dict[str, list[str]] = {}
        for name, hash in plan.names.items():
            self.names.setdefault(hash, []).append(name)

    def add(self, stage: Stage) -> None:
        """Link a done stage, and let its names say so."""
        for name in self.names.get(stage.hash, ()):
            self.store.names.set(name, stage.hash)
        place = self.folder / re.sub(r"[^A-Za-z0-9_.+-]+", "_", stage.label)
        target = os.path.relpath(self.store.path(stage.hash), self.folder)
        if place.is_symlink() and os.readlink(place) == target:
            return
        # Made beside and renamed: another run of the same recipe may do the same.
        fresh = beside(place)
        fresh.symlink_to(target)
        os.replace(fresh, place)


def runs_of(store: Store, recipe: str | None = None) -> list[Path]:
    """Run folders, the newest first; of one recipe, or of all."""
    found = store.runs.glob(f"{recipe or '*'}/*/plan.json")
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)]


def outline(folder: Path) -> dict[str, Any]:
    """What plan.json of a run folder says: recipe, stages (hash, kind, label), cells, names, warnings.

    Raises:
        StoreError: it cannot be read.
    """
    plain: dict[str, Any] = _read(folder / "plan.json")
    return plain


def load_plan(store: Store, run: str) -> Plan:
    """The plan of a run, by recipe name (its newest run), ``recipe/id`` or id.

    Raises:
        StoreError: no such run.
    """
    for folder in runs_of(store):
        if run in (folder.name, folder.parent.name, f"{folder.parent.name}/{folder.name}"):
            plain = _read(folder / "plan.json")
            stages = [_read(folder / "stages" / f"{stage['hash']}.json") for stage in plain["stages"]]
            return Plan(
                plain["recipe"],
                tuple(map(Stage.from_plain, stages)),
                tuple(Cell(**cell) for cell in plain["cells"]),
                plain["names"],
                tuple(plain["warnings"]),
                (folder / "recipe.json").read_text(encoding="utf-8"),
            )
    known = ", ".join(dict.fromkeys(folder.parent.name for folder in runs_of(store))) or "none"
    raise StoreError(
        f"no run `{run}`", where=str(store.runs), why=f"there are runs of {known}", fix="adapterstilts run"
    )


def load_stage(store: Store, hash: str, kinds: Mapping[str, str] | None = None) -> Stage:
    """Rebuild a stage from its hash alone, from a run folder or from the manifest of its artifact.

    Args:
        kinds: kind -> ``module:function`` of kinds that are not ours; that module has the class of their specs.

    Raises:
        StoreError: no run of this store planned it. StageFailed: no such kind.
    """
    planned = store.runs.glob(f"*/*/stages/{hash}.json")
    found = max(planned, key=lambda path: path.stat().st_mtime_ns, default=None)
    if found is not None or store.has(hash):
        plain = _read(found) if found is not None else store.manifest(hash)
        specs = {**_specs(kinds or {}), **SPECS}
        if plain["kind"] not in specs:
            raise StageFailed(f"no stage of kind `{plain['kind']}`", why=f"known are {', '.join(specs)}")
        return Stage.from_plain(plain, specs)
    fix = "adapterstilts plan RECIPE --save"
    raise StoreError(f"no stage {hash[:12]}", where=str(store.runs), why="no run planned it", fix=fix)


@cache
def _foreign(module: str) -> Mapping[str, type[Spec]]:
    found = vars(importlib.import_module(module)).values()
    specs = [item for item in found if isinstance(item, type) and issubclass(item, Spec) and "kind" in vars(item)]
    return {spec.kind: spec for spec in specs}


def _specs(kinds: Mapping[str, str]) -> dict[str, type[Spec]]:
    foreign = {entry.partition(":")[0] for kind, entry in kinds.items() if kind not in SPECS}
    return {kind: spec for module in sorted(foreign) for kind, spec in _foreign(module).items()}


def states(plan: Plan, store: Store) -> dict[str, State]:
    """hash -> hit, stale or missing.

    Stale: missing, and an earlier run of this recipe made the same label with another hash: something it depends on
    changed since.
    """
    found: dict[str, State] = {}
    earlier: dict[str, set[str]] | None = None
    for stage in plan.stages:
        if store.has(stage.hash):
            found[stage.hash] = "hit"
            continue
        if earlier is None:
            earlier = earlier_labels(store, plan.recipe)
        others = earlier.get(stage.label, set()) - {stage.hash}
        found[stage.hash] = "stale" if any(store.has(hash) for hash in others) else "missing"
    return found


def earlier_labels(store: Store, recipe: str) -> dict[str, set[str]]:
    """label -> hashes in the last runs of a recipe."""
    found: dict[str, set[str]] = {}
    for folder in runs_of(store, recipe)[:LOOK_BACK]:
        for stage in _read(folder / "plan.json")["stages"]:
            found.setdefault(stage["label"], set()).add(stage["hash"])
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError("a run folder cannot be read", where=str(path), why=str(error)) from None
