"""What there is, by kind: lists of objects that each have a name, and one object by name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from adapterstilts.api.places import PathLike, open_store, open_tasks, recipe_files
from adapterstilts.encoder.reference import SHIPPED, shipped
from adapterstilts.errors import AdapterstiltsError, RecipeError
from adapterstilts.modules.methods import METHODS, capabilities, families_of, resolve
from adapterstilts.recipe.problems import nearest
from adapterstilts.settings import MethodSettings
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.suites import get_suite, suite_names

Entry = dict[str, Any]
HUB_BASES = {
    "xlm-roberta-base": "12 layers, 768 wide, 278 million parameters; 100 languages",
    "xlm-roberta-large": "24 layers, 1024 wide, 560 million parameters; 100 languages; the default",
}
COMPOSITIONS: Mapping[str, tuple[str, str, str]] = {
    "stack": ("stack(a, b)", "W x + Δ_a x + Δ_b x", "g_b(g_a(h))"),
    "fuse": ("fuse(a, b, how=gate)", "W x + α_1(x) Δ_a x + α_2(x) Δ_b x", "α_1(h) g_a(h) + α_2(h) g_b(h)"),
    "merge": ("merge(a, b, how=cat)", "a new module: the exact weighted sum", "a new module: the parameters' average"),
    "weight": ("0.5*a", "W x + 0.5 Δ_a x", "refused"),
    "slot": ("{language}", "a module bound when the composition is used", "likewise"),
    "base": ("base", "W x", "h"),
}


def tasks(store: Store, registry: TaskRegistry) -> list[Entry]:
    """Every task with its format, languages and metric."""
    found = []
    for name in registry.names():
        spec = registry.get(name)
        found.append(
            {
                "name": name,
                "title": spec.title,
                "format": spec.format,
                "metric": spec.metric,
                "languages": list(spec.languages),
                "splits": list(spec.splits),
                "train": list((*spec.before, spec.train_task)),
                "licence": spec.licence,
            }
        )
    return found


def suites(store: Store, registry: TaskRegistry) -> list[Entry]:
    """The shipped suites of tasks."""
    return [_suite(name) for name in suite_names()]


def _suite(name: str) -> Entry:
    suite = get_suite(name)
    plain = suite.model_dump(mode="json", exclude={"name"})
    return {"name": suite.name, **plain, "tasks": list(suite.tasks)}


def methods(store: Store, registry: TaskRegistry) -> list[Entry]:
    """Every method with its family, default learning rate and parameters."""
    return [
        {
            "name": method.name,
            "family": " and ".join(sorted(families_of(settings), reverse=True)),
            "summary": method.summary,
            "learning_rate": method.learning_rate,
            "parameters": {k: list(v) if isinstance(v, tuple) else v for k, v in method.defaults.items()},
            "source": method.source,
            "capabilities": {k: list(v) if isinstance(v, tuple) else v for k, v in capabilities(settings).items()},
        }
        for method in METHODS.values()
        for settings in [resolve(MethodSettings(name=method.name))]
    ]


def bases(store: Store, registry: TaskRegistry) -> list[Entry]:
    """The shipped bases and well-known ones of the Hub; any XLM-R / RoBERTa checkpoint is one, too."""
    found: list[Entry] = []
    for name in shipped():
        config = json.loads((SHIPPED / name.removeprefix("lab/") / "config.json").read_text(encoding="utf-8"))
        shape = f"{config['num_hidden_layers']} layers, {config['hidden_size']} wide"
        found.append({"name": name, "where": "shipped", "description": f"{shape}; the embedded world's languages"})
    return found + [{"name": name, "where": "hub", "description": text} for name, text in HUB_BASES.items()]


def modules(store: Store, registry: TaskRegistry) -> list[Entry]:
    """The named modules of the store."""
    found: list[Entry] = []
    for name, hash in store.names.items():
        if not store.has(hash):
            found.append({"name": name, "hash": hash, "kind": "missing"})
            continue
        manifest = store.manifest(hash)
        spec = manifest["spec"]
        found.append(
            {
                "name": name,
                "kind": manifest["kind"],
                "base": spec["base"]["ref"],
                "method": (spec.get("method") or {}).get("name"),
                "tasks": [share["key"] for share in spec.get("mix", ())],
                "parameters": manifest.get("facts", {}).get("parameters", {}).get("module"),
                "dev": manifest.get("facts", {}).get("dev"),
                "made": _when(manifest["created"]),
                "hash": hash,
            }
        )
    return found


def recipes(store: Store, registry: TaskRegistry) -> list[Entry]:
    """The recipes of ./recipes and of the checkout."""
    found = []
    for name, path in recipe_files().items():
        found.append({"name": name, "path": _shown(path), "description": _described(path)})
    return found


def _described(path: Path) -> str:
    """The ``description`` of a recipe, else its first comment; a broken file is still listed."""
    text = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith("description:"):
            return line.partition(":")[2].strip(" '\"|>")
    return next((line.strip("# :") for line in text.splitlines() if line.startswith("#")), "")


def runs(store: Store, registry: TaskRegistry) -> list[Entry]:
    """The runs of the store, the newest first."""
    from adapterstilts.api.following import runs as found

    return found(store)


def artifacts(store: Store, registry: TaskRegistry) -> list[Entry]:
    """Every artifact of the store, the newest first."""
    found = []
    for kind, hash in store.hashes():
        manifest = store.manifest(hash)
        size = sum(file["bytes"] for file in manifest["files"].values())
        entry = {"name": hash[:12], "kind": kind, "label": manifest.get("label", ""), "bytes": size}
        found.append((manifest["created"], {**entry, "made": _when(manifest["created"]), "hash": hash}))
    return [entry for _, entry in sorted(found, key=lambda item: -item[0])]


def languages(store: Store, registry: TaskRegistry) -> list[Entry]:
    """Every language code of the tasks, with the tasks that have it; of lab languages the distance from English."""
    from adapterstilts.lab.languages import LANGUAGES, distance

    found: dict[str, list[str]] = {}
    for name in registry.names():
        for language in registry.get(name).languages:
            found.setdefault(language, []).append(name)
    return [
        {
            "name": code,
            "tasks": found[code],
            "lab": code in LANGUAGES and code != "en",
            "distance": distance(code) if code in LANGUAGES else None,
        }
        for code in sorted(found, key=lambda code: (code in LANGUAGES and code != "en", code))
    ]


def compositions(store: Store, registry: TaskRegistry) -> list[Entry]:
    """The ways to compose modules and what each computes."""
    return [
        {"name": name, "expression": expression, "delta": delta, "bottleneck": bottleneck}
        for name, (expression, delta, bottleneck) in COMPOSITIONS.items()
    ]


KINDS: Mapping[str, Callable[[Store, TaskRegistry], list[Entry]]] = {
    "tasks": tasks,
    "suites": suites,
    "methods": methods,
    "bases": bases,
    "modules": modules,
    "recipes": recipes,
    "runs": runs,
    "artifacts": artifacts,
    "languages": languages,
    "compositions": compositions,
}


def catalogue(
    kind: str, *, store: PathLike | Store | None = None, task_files: Iterable[PathLike] | TaskRegistry = ()
) -> list[Entry]:
    """Everything of one kind (`KINDS`), each with its ``name``.

    Raises:
        RecipeError: no such kind.
    """
    if kind not in KINDS:
        raise RecipeError(f"no kind `{kind}`", why=f"the kinds are {', '.join(KINDS)}", fix=nearest(kind, KINDS))
    return KINDS[kind](open_store(store), open_tasks(task_files))


# -- one object -------------------------------------------------------------------------------------------------------


def _sizes(method: str, base: str | None) -> dict[str, Any]:
    """What a module of a method with its defaults takes on a base, or on the usual ones."""
    from adapterstilts.modules.sizes import base_shape, parameter_count, stored_bytes

    settings = resolve(MethodSettings(name=method))
    shapes = [base_shape(name) for name in ([base] if base else HUB_BASES)]
    return {s.ref: {"parameters": parameter_count(settings, s), "bytes": stored_bytes(settings, s)} for s in shapes}


def show(
    name: str,
    *,
    base: str | None = None,
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> Entry:
    """One task, suite, method, composition, base, recipe, module or artifact, resolved: {kind, name, ...}.

    Args:
        base: of the sizes of a method; default the published XLM-R models.

    Raises:
        RecipeError: nothing has this name.
    """
    opened, registry = open_store(store), open_tasks(task_files)
    if name in registry:
        spec = registry.get(name)
        return {
            "kind": "task",
            "name": name,
            **spec.model_dump(mode="json", exclude={"name"}),
            "file": str(registry.path(name)),
        }
    if name in suite_names():
        return {"kind": "suite", **_suite(name)}
    for kind in ("methods", "compositions", "bases"):
        for entry in KINDS[kind](opened, registry):
            if entry["name"] == name:
                sizes = {"sizes": _sizes(name, base)} if kind == "methods" else {}
                return {"kind": kind.removesuffix("s"), **entry, **sizes}
    if Path(name).suffix in (".yaml", ".yml") or name in recipe_files():
        return _recipe(name, registry)
    try:
        hash = opened.resolve(name)
    except AdapterstiltsError as error:
        known = [*registry.names(), *suite_names(), *METHODS, *COMPOSITIONS, *recipe_files(), *opened.names]
        raise RecipeError(
            f"nothing is called `{name}`",
            why="looked among tasks, suites, methods, compositions, bases, recipes and what the store has",
            fix=nearest(name, known, error.fix),
        ) from None
    manifest = opened.manifest(hash)
    named = [other for other, known_hash in opened.names.items() if known_hash == hash]
    return {
        "kind": manifest["kind"],
        "name": name,
        "names": named,
        "path": str(opened.path(hash)),
        "manifest": manifest,
    }


def _recipe(name: str, registry: TaskRegistry) -> Entry:
    from adapterstilts.api.places import find_recipe
    from adapterstilts.api.planning import read_recipe

    path = find_recipe(name)
    recipe = read_recipe(path, task_files=registry)
    return {"kind": "recipe", "name": recipe.name, "path": _shown(path), "resolved": json.loads(recipe.text)}


def _when(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
