"""How much of each module the fusions of evaluated modules used, by layer and language, under the modules' names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from adapterstilts.errors import StoreError
from adapterstilts.plan.graph import Plan
from adapterstilts.plan.used import without_instance
from adapterstilts.stages.specs import MODULES, EvaluateSpec
from adapterstilts.store import Store

FILE = "usage.json"
Row = dict[str, Any]
_LEAF = re.compile(r"\b[0-9a-f]{16}\b")


def plan_usage(plan: Plan, store: Store, scored: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows of every stage behind score rows: base, arm, seed and task as there, and the row of its stage."""
    own = f"{plan.recipe}/"  # what a plan's modules are called inside it needs no prefix
    named = ((without_instance(name.removeprefix(own)), hash) for name, hash in plan.names.items())
    names = leaf_names(store, named)  # base and seed stand beside them
    keys = ("base", "arm", "seed", "task", "stage")
    places = dict.fromkeys(tuple(row[key] for key in keys) for row in scored)
    found = [(dict(zip(keys, place, strict=True)), stage_usage(store, place[-1], names)) for place in places]
    return [{**row, **{key: place[key] for key in keys[:-1]}} for place, rows in found for row in rows]


def module_usage(store: Store, module: str) -> list[Row]:
    """The rows of every evaluation of a stored module.

    Raises:
        StoreError: it fuses nothing, or was not evaluated.
    """
    hash = store.resolve(module)
    names = leaf_names(store, store.names.items())
    rows: list[Row] = []
    for kind, other in store.hashes():
        if kind == EvaluateSpec.kind and store.manifest(other)["parents"].get("module") == hash:
            rows += stage_usage(store, other, names)
    if not rows:
        why = "it fuses nothing, or no evaluation of it is in this store"
        raise StoreError(f"no usage of `{module}`", why=why, fix=f"adapterstilts evaluate {module} TASK")
    return rows


def stage_usage(store: Store, hash: str, names: Mapping[str, str]) -> list[Row]:
    """The rows of one evaluation: {task, split, language, fusion, how, parts, layer, place, share, deviation, tokens}.

    ``share`` is the mean weight of each part over all tokens, ``deviation`` its standard deviation.
    """
    path = store.path(hash) / FILE
    if not path.is_file():
        return []
    try:
        found: list[Row] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError("a usage that cannot be read", where=str(path), why=str(error)) from None
    spec = store.manifest(hash)["spec"]
    place = {"task": spec["task"], "split": spec["split"]}

    def named(expression: str) -> str:
        return _LEAF.sub(lambda match: names.get(match[0], match[0]), expression)

    return [{**place, **row, "parts": [named(part) for part in row["parts"]]} for row in found]


def leaf_names(store: Store, named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Leaf id -> the name of the module whose own leaf it is, the shortest where there are several."""
    found: dict[str, str] = {}
    for name, hash in named:
        if not store.has(hash):
            continue
        manifest = store.manifest(hash)
        leaf = manifest.get("facts", {}).get("trained") if manifest["kind"] in MODULES else None
        if leaf and (leaf not in found or len(name) < len(found[leaf])):
            found[str(leaf)] = name
    return found


def by_layer(rows: Iterable[Row]) -> list[Row]:
    """Rows averaged over the places of a layer and over seeds: {base, arm, task, language, parts, layer, share}."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (row.get("base"), row.get("arm"), row["task"], row["language"], tuple(row["parts"]), row["layer"])
        groups.setdefault(key, []).append(row)
    made = []
    for (base, arm, task, language, parts, layer), group in groups.items():
        columns = zip(*(row["share"] for row in group), strict=True)
        share = [round(sum(values) / len(group), 6) for values in columns]
        place = {"base": base, "arm": arm, "task": task, "language": language}
        made.append({**place, "parts": list(parts), "layer": layer, "share": share})
    return made
