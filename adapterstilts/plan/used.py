"""Modules that a recipe takes from the store (``use:``) instead of making them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from adapterstilts.errors import RecipeError, StoreError
from adapterstilts.modules.composition import BASE, Leaf, Merge
from adapterstilts.modules.expressions import parse
from adapterstilts.recipe.facts import Facts, merged, trained
from adapterstilts.recipe.problems import placed
from adapterstilts.recipe.schema import Recipe
from adapterstilts.settings import MethodSettings
from adapterstilts.stages.specs import MODULES, BaseRef
from adapterstilts.store import Store

_INSTANCE = re.compile(r"/[^/]+/seed\d+$")


@dataclass
class Used:
    """What was found: facts by module name, hashes by (module, base, seed), and what is wrong."""

    facts: dict[str, Facts] = field(default_factory=dict)
    hashes: dict[tuple[str, str, int], str] = field(default_factory=dict)
    problems: list[RecipeError] = field(default_factory=list)

    def hash(self, name: str, base: BaseRef, seed: int) -> str:
        """The artifact that a module of the recipe stands for."""
        return self.hashes[name, base.ref, seed]


def instance(base: str, seed: int) -> str:
    """What follows a module's name when it was trained on several bases or with several seeds."""
    return f"/{base.strip('./').replace('/', '-').replace('@', '-')}/seed{seed}"


def without_instance(name: str) -> str:
    """The module's name alone."""
    return _INSTANCE.sub("", name)


def find_used(recipe: Recipe, store: Store, bases: Sequence[BaseRef]) -> Used:
    """Resolve every ``use:`` by its name with /base/seed behind, its plain name, or its hash."""
    used = Used()
    for name, entry in recipe.modules.items():
        if not entry.use:
            continue
        where = recipe.where("modules", name, "use")
        for base in bases:
            for seed in recipe.seeds:
                try:
                    exact = store.names.get(entry.use + instance(base.ref, seed))
                    hash = exact or store.resolve(entry.use)
                    manifest = store.manifest(hash)
                    used.facts[name] = stored_facts(store, hash)
                except StoreError as error:
                    used.problems.append(placed(error, where))
                    continue
                used.hashes[name, base.ref, seed] = hash
                other = _other_base(manifest, base)
                if other:
                    used.problems.append(RecipeError(f"`{entry.use}` cannot be used here", where=where, why=other))
    return used


def _other_base(manifest: dict[str, Any], base: BaseRef) -> str | None:
    if manifest["kind"] not in MODULES:
        return f"it is the result of {manifest['kind']}, not a module"
    own = manifest["spec"]["base"]
    if own["fingerprint"] == base.fingerprint:
        return None
    return f"it is a module of another base: {own['ref']} ({own['fingerprint'][:12]}), not {base.ref}"


def stored_facts(store: Store, hash: str) -> Facts:
    """What is known of a stored module, from its manifest and those it was made from.

    Raises:
        StoreError: it or one of them is not there.
    """
    manifest = store.manifest(hash)
    spec = manifest["spec"]
    if manifest["kind"] == "merge":
        tree = Merge(tuple(map(Leaf, spec["of"])), spec["how"], None, tuple(sorted(spec["parameters"].items())))
        return merged(tree, {part: stored_facts(store, part) for part in spec["of"]})
    if spec.get("facts"):  # it came from outside, with what was said of it
        return from_facts(spec["facts"])
    tasks = frozenset(share["task"] for share in spec.get("mix", ()))
    if spec.get("start"):
        start = stored_facts(store, spec["start"])
        return replace(start, tasks=tasks)
    if spec.get("method") is None:
        raise StoreError(f"artifact {hash[:12]} is no module", where=str(store.path(hash)))
    on = parse(spec["below"]) if spec.get("below") else BASE
    known = {
        name: stored_facts(store, name)
        for role, name in manifest["parents"].items()
        if role.startswith(("module:", "bind:"))
    }
    return trained(MethodSettings.model_validate(spec["method"]), on, tasks, known, spec.get("filling"))


def plain_facts(facts: Facts) -> dict[str, Any]:
    """Facts as JSON, for a module that is shared."""
    found = {item.name: getattr(facts, item.name) for item in fields(facts)}
    found["method"] = None if facts.method is None else facts.method.model_dump(mode="json")
    return {name: sorted(value) if isinstance(value, frozenset) else value for name, value in found.items()}


def from_facts(plain: Mapping[str, Any]) -> Facts:
    """What ``plain_facts`` said.

    Raises:
        StoreError: it says something else.
    """
    try:
        return Facts(
            frozenset(plain["families"]),
            None if plain["method"] is None else MethodSettings.model_validate(plain["method"]),
            plain["shape"],
            frozenset(plain["tasks"]),
            frozenset(plain["below"]),
            tuple(plain["methods"]),
            bool(plain["open"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError("the facts of a shared module cannot be read", why=str(error)) from None
