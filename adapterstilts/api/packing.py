"""One file with everything a recipe needs (data, bases, task files, itself), to run it where there is no network."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adapterstilts import __version__
from adapterstilts.api.places import PathLike
from adapterstilts.api.planning import Planned, plan_recipe
from adapterstilts.data.archive import Content, pack, unpack
from adapterstilts.data.hashes import FileHashes
from adapterstilts.data.root import DataRoot
from adapterstilts.data.sources import Resolved
from adapterstilts.encoder.reference import shipped
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.stages.specs import PrepareSpec
from adapterstilts.store import Store
from adapterstilts.tasks.registry import SHIPPED, TaskRegistry, read_yaml

BASE_FILES = ("*.json", "*.safetensors", "*.model", "*.txt")
README = """\
Packed by adapterstilts {version}. In this folder:

    adapterstilts run recipe.yaml{tasks}

recipe.yaml names data/ and bases/ beside it; manifest.json in the archive held the checksums of all files.
"""


def pack_recipe(
    recipe: PathLike,
    out: PathLike,
    sets: Iterable[str] = (),
    *,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> dict[str, Any]:
    """Write data files, bases with their tokenizers, own task files and the recipe into one tar.

    Stages of the unpacked recipe have the same hashes, because these name the bytes of data and bases, not their
    places. (A base of the Hub becomes a local one and is then named by its bytes.)

    Returns:
        {schema_version, name, path, files, bytes, data, bases, tasks}

    Raises:
        RecipeError: the recipe uses modules of a store. DataError: data that only the Hub has, or that is missing.
    """
    planned = plan_recipe(recipe, sets, store=store, task_files=task_files)
    if stored := [name for name, entry in planned.recipe.modules.items() if entry.use]:
        why = f"`{stored[0]}` is taken from the store, which is not packed"
        raise RecipeError("this recipe cannot be packed", why=why, fix="let the recipe train it")
    files = _data(planned)
    data = len(files)
    bases = {ref: _base(ref, files) for ref in planned.recipe.bases}
    own = _tasks(planned, files)
    plain = json.loads(planned.recipe.text)
    plain.pop("base", None)
    plain["bases"] = list(bases.values())
    if data:
        plain["data"] = "data"
    else:
        plain.pop("data", None)
    files["recipe.yaml"] = _yaml(plain)
    extra = " --tasks tasks" if own else ""
    files["README.txt"] = README.format(version=__version__, tasks=extra).encode()
    about = {"name": planned.recipe.name, "adapterstilts": __version__}
    hashes = FileHashes(planned.store.fingerprints)
    listed = pack(files, Path(out), about, hashes)
    hashes.save()
    return {
        "schema_version": 1,
        "name": planned.recipe.name,
        "path": str(Path(out)),
        "files": len(listed),
        "bytes": sum(entry["bytes"] for entry in listed.values()),
        "data": data,
        "bases": list(bases.values()),
        "tasks": own,
    }


def unpack_recipe(archive: PathLike, out: PathLike) -> dict[str, Any]:
    """Unpack and check an archive; returns {schema_version, name, folder, recipe, files, command}."""
    folder = Path(out)
    manifest = unpack(Path(archive), folder)
    own = any(name.startswith("tasks/") for name in manifest["files"])
    return {
        "schema_version": 1,
        "name": str(manifest.get("name", "")),
        "folder": str(folder),
        "recipe": str(folder / "recipe.yaml"),
        "files": len(manifest["files"]),
        "command": f"cd {folder} && adapterstilts run recipe.yaml" + (" --tasks tasks" if own else ""),
    }


def _data(planned: Planned) -> dict[str, Content]:
    """data/<layout>/<place below the layout's folder> -> file, for everything that a prepare stage reads."""
    root = DataRoot.of(planned.recipe.data)
    files: dict[str, Content] = {}
    for stage in planned.plan.stages:
        if isinstance(stage.spec, PrepareSpec):
            resolved = Resolved.from_plain(stage.spec.source)
            files |= {f"data/{layout}/{place}": path for layout, place, path in _places(resolved, root)}
    return files


def _places(resolved: Resolved, root: DataRoot) -> Iterable[tuple[str, str, Path]]:
    source = resolved.source
    if source.kind == "hub" and not resolved.files:
        name = f"{resolved.task.name}/{resolved.language} {resolved.split}"
        fix = f"adapterstilts data fetch {resolved.task.name} --out DIR, then `data: DIR`"
        raise DataError(f"only the Hub has {name}", why="an archive must run without a network", fix=fix)
    layout = "hub" if source.kind == "hub" else source.layout
    for paths in resolved.files.values():
        yield from ((layout, _below(path, layout, root), path) for path in paths)
    if resolved.gold is not None:
        own = resolved.gold.layout
        yield from ((own, _below(path, own, root), path) for path in resolved.gold_files)
    for part in resolved.parts:
        yield from _places(part, root)


def _below(path: Path, layout: str, root: DataRoot) -> str:
    for folder in root.folders(layout):
        place = Path(os.path.relpath(path, folder))
        if ".." not in place.parts:
            return place.as_posix()
    raise DataError("a file outside the data root", where=str(path))


def _base(ref: str, files: dict[str, Content]) -> str:
    """Where the base lies after unpacking; shipped ones are part of the package."""
    if ref in shipped():
        return ref
    from adapterstilts.stages.prepare import base_directory

    directory = base_directory(ref)
    place = f"bases/{ref.strip('./~').replace('/', '-').replace('@', '-') or directory.name}"
    for pattern in BASE_FILES:
        files |= {f"{place}/{path.name}": path for path in directory.glob(pattern) if path.is_file()}
    return f"./{place}"


def _tasks(planned: Planned, files: dict[str, Content]) -> list[str]:
    """The task files that are not ours, with the label files that they name."""
    registry = planned.tasks
    own = [name for name in registry.names() if registry.path(name).parent != SHIPPED]
    for name in own:
        path = registry.path(name)
        plain = read_yaml(path).plain
        plain.pop("name", None)
        files[f"tasks/{name}.yaml"] = path
        if isinstance(plain.get("labels"), dict):
            # Written out: a path means nothing on another machine.
            files[f"tasks/{name}.yaml"] = _yaml({**plain, "labels": list(registry.get(name).labels)})
    return own


def _yaml(plain: dict[str, Any]) -> bytes:
    import yaml

    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).encode()
