"""Where a stored module comes from: its ancestors, the recipe that makes it again, its scores, the data it saw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from adapterstilts.errors import RecipeError
from adapterstilts.modules.composition import Leaf as Module
from adapterstilts.modules.composition import map_leaves
from adapterstilts.modules.expressions import format_tree, parse
from adapterstilts.stages.specs import MODULES, EvaluateSpec, RetrieveSpec
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import split_task

# Of the data of a task; what a card says of it.
ABOUT = ("title", "licence", "citation")


def ancestry(store: Store, hash: str) -> dict[str, dict[str, Any]]:
    """Manifests of a module and of all modules that it was made from, by hash, those it needs before itself.

    Raises:
        StoreError: one of them is not there.
    """
    manifest = store.manifest(hash)
    found: dict[str, dict[str, Any]] = {}
    for parent in manifest["parents"].values():
        if store.manifest(parent)["kind"] in MODULES:
            found |= ancestry(store, parent)
    return {**found, hash: manifest}


def names_of(store: Store, manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """A short name for each module: its name in the store without what stands before a slash, made unique."""
    known: dict[str, str] = {}
    for name in store.names:
        known.setdefault(str(store.names.get(name)), name)
    found: dict[str, str] = {}
    for number, hash in enumerate(manifests, start=1):
        short = known.get(hash, f"module{number}").rpartition("/")[2]
        found[hash] = short if short not in found.values() and short != "base" else f"{short}-{hash[:6]}"
    return found


def recipe_of(manifests: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> dict[str, Any]:
    """The recipe whose plan holds these very stages, when they share a seed; data and store are the reader's own.

    Raises:
        RecipeError: a module whose making no recipe can say (an imported one, seeds that differ).
    """
    *_, last = manifests
    seeds = {m["spec"]["seed"] for m in manifests.values() if m["kind"] == "train"}
    if len(seeds) > 1:
        raise RecipeError("no single recipe makes this", why=f"its modules have the seeds {sorted(seeds)}")
    tasks: dict[str, Any] = {}
    modules: dict[str, Any] = {}
    slots: dict[str, str] = {}
    for hash, manifest in manifests.items():
        if manifest["kind"] not in ("train", "merge"):
            raise RecipeError("no recipe makes this", why=f"`{names[hash]}` came from outside ({manifest['kind']})")
        spec = manifest["spec"]
        modules[names[hash]] = _trained(spec, names) if manifest["kind"] == "train" else _merged(spec, names)
        tasks |= (
            {spec["parameters"]["task"].partition("/")[0]: spec["overrides"]} if spec.get("how") == "search" else {}
        )
        tasks |= spec["overrides"] if manifest["kind"] == "train" else {}
        if spec.get("filling"):
            slots |= {split_task(share["key"])[1] or "": names[spec["filling"]] for share in spec["mix"]}
    plain: dict[str, Any] = {"name": names[last], "bases": [manifests[last]["spec"]["base"]["ref"]]}
    plain |= {"seeds": sorted(seeds)} if seeds else {}
    plain |= {"tasks": {name: change for name, change in tasks.items() if change}} if any(tasks.values()) else {}
    plain["modules"] = modules
    return plain | ({"slots": {"language": slots}} if slots else {})


def _trained(spec: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    items = [{"task": share["key"], **({"limit": share["limit"]} if share["limit"] else {})} for share in spec["mix"]]
    entry: dict[str, Any] = {"train": items}
    if spec["start"]:
        entry["continue"] = names[spec["start"]]
    if spec["method"]:
        entry["method"] = {"name": spec["method"]["name"], **spec["method"]["parameters"]}
    if spec["below"]:
        tree = map_leaves(parse(spec["below"]), lambda leaf: Module(names[leaf.name], leaf.weight))
        entry["on"] = format_tree(tree)
    return {**entry, "settings": {key: value for key, value in spec["settings"].items() if value is not None}}


def _merged(spec: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"merge": [names[hash] for hash in spec["of"]], "how": spec["how"]}
    entry |= {"weights": list(spec["weights"])} if spec["weights"] else {}
    return entry | ({"parameters": spec["parameters"]} if spec["parameters"] else {})


def scores_of(store: Store, hash: str) -> list[dict[str, Any]]:
    """Every score that this store has measured of a module: rows with task, language, split, metric, value, n."""
    rows: list[dict[str, Any]] = []
    for kind, other in store.hashes():
        if kind in (EvaluateSpec.kind, RetrieveSpec.kind):
            manifest = store.manifest(other)
            if manifest["parents"].get("module") == hash:
                found = json.loads((store.path(other) / "scores.json").read_text(encoding="utf-8"))
                rows += [{"task": manifest["spec"]["task"], **row} for row in found]
    return sorted(rows, key=lambda row: (row["task"], row["split"], row["metric"], row["language"]))


def data_of(manifests: Mapping[str, Mapping[str, Any]], tasks: TaskRegistry) -> list[dict[str, Any]]:
    """The tasks that the modules learned from, with their languages and what the task files say of the data."""
    languages: dict[str, dict[str, None]] = {}
    for task, language in _shares(manifests):
        languages.setdefault(task, {})[language] = None
    rows = []
    for task, codes in languages.items():
        about = tasks.get(task).model_dump(mode="json") if task in tasks.names() else {}
        rows.append({"task": task, "languages": list(codes), **{key: about.get(key) or "not stated" for key in ABOUT}})
    return rows


def _shares(manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for manifest in manifests.values():
        keys = [share["key"] for share in manifest["spec"].get("mix", ())]
        keys += [manifest["spec"]["parameters"]["task"]] if manifest["spec"].get("how") == "search" else []
        for key in keys:
            task, language = split_task(key)
            yield task, str(language)
