"""Modules to and from others: a folder that says all about itself, on disk or on the Hub.

adapterstilts.json   name, base, facts, lineage, scores, data, recipe, and every file with its sha256
README.md            the same for people: the model card
module.json, leaves/, heads/, *.safetensors    the module as the store keeps it
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adapterstilts.api.exchange import base_ref, new_folder
from adapterstilts.api.hub import READ, download, is_folder, refused
from adapterstilts.api.places import PathLike, absolute, open_store, open_tasks
from adapterstilts.encoder.reference import locate
from adapterstilts.errors import DataError, RecipeError, StoreError
from adapterstilts.inside import why_outside
from adapterstilts.modules.composition import check_name
from adapterstilts.modules.expressions import format_tree, parse
from adapterstilts.plan.graph import make_stage
from adapterstilts.plan.used import from_facts, plain_facts, stored_facts
from adapterstilts.results.lineage import ancestry, data_of, names_of, recipe_of, scores_of
from adapterstilts.stages.specs import MODULES, PullSpec
from adapterstilts.store import Store
from adapterstilts.store.files import sha256
from adapterstilts.tasks.registry import TaskRegistry

ABOUT, CARD = "adapterstilts.json", "README.md"
VERSION = 1


def push(
    module: str,
    to: PathLike,
    *,
    name: str | None = None,
    dry_run: bool = False,
    private: bool = False,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
    hub: Any = None,
) -> dict[str, Any]:
    """Share a module: into a new folder (a path), or on the Hub (``owner/name``) with the token that is logged in.

    Args:
        name: what it is called there; default its own name without what stands before a slash.
        dry_run: say what would be uploaded, and upload nothing.
        hub: stands in for ``huggingface_hub.HfApi()``.

    Returns:
        {schema_version, name, to, uploaded, url, files: [{path, bytes}], card}

    Raises:
        StoreError: no such module. DataError: the folder is not empty, or the Hub refuses.
    """
    opened, tasks = open_store(store), open_tasks(task_files)
    target = str(to)
    own = name or (module if "/" not in module else module.rpartition("/")[2])
    check_name(own)
    about: dict[str, Any] = {"schema_version": VERSION, "name": own, "to": target, "uploaded": False, "url": None}
    if is_folder(target):
        if dry_run:
            raise RecipeError("a dry run into a folder", why="writing it is the dry run", fix="drop --dry-run")
        with new_folder(target) as folder:
            _fill(folder, module, own, ".", opened, tasks)
            return {**about, **_listed(folder)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _fill(folder, module, own, target, opened, tasks)
        about |= _listed(folder)
        if not dry_run:
            about |= {"uploaded": True, "url": _upload(folder, target, private, hub)}
    return about


def _upload(folder: Path, repository: str, private: bool, hub: Any) -> str:
    from huggingface_hub import HfApi

    api = HfApi() if hub is None else hub
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        made = api.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            commit_message="Module shared by adapterstilts",
            allow_patterns=[*READ, "*.md"],
        )
    except Exception as error:
        raise refused(repository, error, "hf auth login, and the right to write there") from None
    return str(getattr(made, "commit_url", made))


def _listed(folder: Path) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = [{"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size} for path in files]
    return {"files": rows, "card": (folder / CARD).read_text(encoding="utf-8")}


def _fill(folder: Path, module: str, name: str, source: str, store: Store, tasks: TaskRegistry) -> None:
    """Write everything that is shared of a module."""
    from adapterstilts.report.card import card

    hash = store.resolve(module)
    if store.manifest(hash)["kind"] not in MODULES:
        raise RecipeError(f"`{module}` is no module", why=f"it is the result of {store.manifest(hash)['kind']}")
    place = store.path(hash)
    for path in sorted(place.rglob("*")):
        inner = path.relative_to(place)
        if path.suffix in (".json", ".safetensors") and str(inner) != "manifest.json":
            (folder / inner.parent).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / inner)
    about = _about(hash, name, store, tasks)
    about["files"] = {
        path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")
    known = [task for task in about["facts"]["tasks"] if task in tasks.names()]
    task = known[0] if known else None
    text = card(about, source=source, task=task, format=tasks.get(task).format if task else None)
    (folder / CARD).write_text(text, encoding="utf-8")


def _about(hash: str, name: str, store: Store, tasks: TaskRegistry) -> dict[str, Any]:
    manifests = ancestry(store, hash)
    names = {**names_of(store, manifests), hash: name}
    own = manifests[hash]
    recipe, why = None, None
    try:
        recipe = recipe_of(manifests, names)
    except RecipeError as error:
        why = f"{error.what}: {error.why}."
    base = _shown(own["spec"]["base"])
    if recipe is not None and base["ref"] is None:
        recipe["bases"] = ["FOLDER OF THE BASE"]
    tree = parse(json.loads((store.path(hash) / "module.json").read_text(encoding="utf-8"))["tree"])
    return {
        "schema_version": VERSION,
        "name": name,
        "hash": hash,
        "expression": format_tree(tree),
        "base": base,
        "facts": plain_facts(stored_facts(store, hash)),
        "lineage": [_line(other, manifest, names) for other, manifest in manifests.items()],
        "scores": scores_of(store, hash),
        "data": data_of(manifests, tasks),
        "recipe": recipe,
        "no_recipe": why,
        "packages": own.get("packages", {}),
    }


def _shown(base: Mapping[str, str]) -> dict[str, Any]:
    """The base of a module for others; a local folder's path is nobody else's business."""
    local = Path(base["ref"]).is_absolute() or base["ref"].startswith((".", "~"))
    repository = None if local or base["ref"].startswith("lab/") else locate(base["ref"]).repository
    shown = Path(base["ref"]).name if local else base["ref"]
    kept = {"fingerprint": base["fingerprint"], "tokenizer": base["tokenizer"]}
    return {"ref": None if local else base["ref"], "shown": shown, "repository": repository, **kept}


def _line(hash: str, manifest: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    spec, kind = manifest["spec"], manifest["kind"]
    learned = [share["key"] for share in spec.get("mix", ())]
    made = kind
    if kind == "merge":
        made = f"merge of {', '.join(names[part] for part in spec['of'])} by {spec['how']}"
    elif kind == "train":
        below = re.sub(r"[0-9a-f]{64}", lambda match: names.get(match[0], match[0]), spec["below"] or "")
        made = f"training on from {names[spec['start']]}" if spec["start"] else f"training over {below or 'the base'}"
    method = spec["method"]["name"] if spec.get("method") else None
    return {
        "name": names[hash],
        "hash": hash,
        "kind": kind,
        "made": made,
        "method": method,
        "learned": learned,
        "seed": spec.get("seed"),
        "parents": sorted(set(manifest["parents"].values()) & set(names)),
    }


# -- pull -------------------------------------------------------------------------------------------------------------


def pull(
    source: PathLike,
    *,
    name: str | None = None,
    base: str | None = None,
    revision: str | None = None,
    store: PathLike | Store | None = None,
) -> dict[str, Any]:
    """Take a shared module into the store, from a folder or from ``owner/name`` on the Hub.

    Only JSON and safetensors are read; every file must be the one that the module's own list names.

    Args:
        name: what it is called here; default its own name.
        base: where its base lies, when that was a local folder or was moved.

    Returns:
        {schema_version, name, hash, base, expression, tasks}

    Raises:
        DataError: nothing is shared there, a file that is missing or altered, or another base.
    """
    opened = open_store(store)
    folder = Path(source) if is_folder(str(source)) else download(str(source), revision)
    about = _read(folder)
    called = name or str(about["name"])
    check_name(called)
    ref = base or about["base"]["ref"]
    if ref is None:
        raise DataError("where is its base?", where=str(source), why="it was a local folder", fix="--base FOLDER")
    found = base_ref(absolute(ref), opened)
    if found.fingerprint != about["base"]["fingerprint"]:
        why = f"it was trained on {about['base']['fingerprint'][:20]}, `{ref}` is {found.fingerprint[:20]}"
        raise DataError("a module of another base", where=str(source), why=why, fix="--base: its own one")
    try:
        from_facts(about["facts"])
    except StoreError as error:
        raise DataError(error.what, where=str(folder / ABOUT), why=error.why) from None
    content = hashlib.sha256(json.dumps(sorted(about["files"].items())).encode()).hexdigest()
    spec = PullSpec(base=found, content=content, facts=about["facts"])
    stage = make_stage("pulled", spec, {}, f"pulled {about['name']}")
    if not opened.has(stage.hash):
        kept = {key: about[key] for key in ("name", "hash", "lineage", "scores", "data", "recipe")}
        manifest = {"label": stage.label, "version": spec.version, "parents": {}, "spec": spec.model_dump(mode="json")}
        with opened.write(stage.hash, "pulled", {**manifest, "facts": kept}) as directory:
            for path in about["files"]:
                (directory / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / path, directory / path)
    opened.names.set(called, stage.hash)
    result = {"schema_version": VERSION, "name": called, "hash": stage.hash, "base": ref}
    return {**result, "expression": about["expression"], "tasks": list(about["facts"]["tasks"])}


def _read(folder: Path) -> dict[str, Any]:
    """What a shared module says of itself, its files checked."""
    try:
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        files = {str(path): str(hash) for path, hash in about["files"].items()}
    except (OSError, ValueError, KeyError, AttributeError) as error:
        fix = "adapterstilts import peft|adapterhub, if another library saved it"
        raise DataError("no shared module", where=str(folder / ABOUT), why=str(error), fix=fix) from None
    if about.get("schema_version") != VERSION:
        raise DataError("a shared module of another version", where=str(folder / ABOUT), fix="a newer adapterstilts")
    for path, hash in files.items():
        why = why_outside(path)
        if why or not path.endswith((".json", ".safetensors")):
            why = why or "JSON and safetensors only"
            raise DataError(f"`{path}` is not read", where=str(folder / ABOUT), why=why)
        if not (folder / path).is_file():
            raise DataError(f"`{path}` is missing", where=str(folder), why="its list of files names it")
        if sha256(folder / path) != hash:
            raise DataError(f"`{path}` was altered", where=str(folder), why="its sha256 is another one")
    if "module.json" not in files:
        raise DataError("no module.json among its files", where=str(folder))
    return about
