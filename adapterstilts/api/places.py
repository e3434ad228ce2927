"""Where things are: the store, the tasks, the recipes, the base of a stored module."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adapterstilts.errors import DataError, RecipeError
from adapterstilts.stages.specs import MODULES
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

DEFAULT_STORE = "store"
DEFAULT_BASE = "xlm-roberta-large"
PathLike = str | os.PathLike[str]
# The recipes of a checkout, or where an installed package has put them (pyproject.toml, data-files).
_CHECKOUT = Path(__file__).resolve().parent.parent.parent / "recipes"
OURS = _CHECKOUT if _CHECKOUT.is_dir() else Path(sysconfig.get_path("data")) / "share" / "adapterstilts" / "recipes"


def open_store(store: PathLike | Store | None = None) -> Store:
    """The store at a path; default $ADAPTERSTILTS_STORE, else ./store."""
    if isinstance(store, Store):
        return store
    return Store(Path(store or os.environ.get("ADAPTERSTILTS_STORE") or DEFAULT_STORE))


def open_tasks(task_files: Iterable[PathLike] | TaskRegistry = ()) -> TaskRegistry:
    """The shipped tasks and those of further YAML files or folders."""
    given = task_files
    return given if isinstance(given, TaskRegistry) else TaskRegistry([Path(place) for place in given])


def recipe_files() -> dict[str, Path]:
    """name -> recipe file, of ./recipes and of this checkout; those of the working directory win."""
    found: dict[str, Path] = {}
    for folder in (OURS, Path("recipes")):
        files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if folder.is_dir() else []
        found |= {path.stem: path for path in files}
    return found


def find_recipe(name: PathLike) -> Path:
    """A recipe by path, or by name from ./recipes and this checkout.

    Raises:
        DataError: there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = recipe_files()
    if str(name) in known:
        return known[str(name)]
    from adapterstilts.recipe.problems import nearest

    hint = nearest(path.stem, known, "adapterstilts ls recipes")
    why = "it is a folder" if path.is_dir() else "there is no such file"
    raise DataError(f"no recipe `{name}`", why=why, fix=hint)


def module_base(store: Store, modules: Iterable[str]) -> str | None:
    """The base that stored modules were trained on, as it was written; None without modules.

    Raises:
        StoreError: no such module. RecipeError: modules of different bases, or something that is no module.
    """
    found: dict[str, tuple[str, str]] = {}
    for module in modules:
        manifest: dict[str, Any] = store.manifest(store.resolve(module))
        if manifest["kind"] not in MODULES:
            raise RecipeError(
                f"`{module}` is the result of {manifest['kind']}, not a module", fix="adapterstilts ls modules"
            )
        base = manifest["spec"]["base"]
        found[base["fingerprint"]] = (module, base["ref"])
    if len(found) > 1:
        each = ", ".join(f"`{module}` on {ref}" for module, ref in found.values())
        raise RecipeError("modules of different bases cannot be composed", why=each, fix="train them on one base")
    return next((ref for _, ref in found.values()), None)


def absolute(base: str) -> str:
    """A base that is a local folder by its full path: a module remembers it and is used from anywhere."""
    return str(Path(base).expanduser().resolve()) if Path(base).expanduser().is_dir() else base
