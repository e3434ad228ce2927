"""The stages that make modules, on one base with one seed: trainings and merges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adapterstilts.errors import RecipeError
from adapterstilts.modules.composition import BASE, Leaf, Merge, Slot, Tree, has_slot, leaves, map_leaves, simplify
from adapterstilts.modules.expressions import format_tree
from adapterstilts.modules.methods import default_rate, require_library, resolve
from adapterstilts.plan.collected import Collected
from adapterstilts.plan.layers import Layers, settled
from adapterstilts.recipe.facts import Facts, default_how, merge_tree
from adapterstilts.recipe.schema import Arm, ModuleEntry
from adapterstilts.settings import MERGES
from adapterstilts.stages.specs import BaseRef, MergeSpec, TaskShare, TrainSpec
from adapterstilts.tasks.spec import split_task

RANDOM_MERGES = ("dare_ties", "dare_linear", "search")


class Modules:
    """The modules of a recipe on one base with one seed; stages are added when somebody asks for them."""

    def __init__(self, collected: Collected, base: BaseRef, seed: int) -> None:
        self.all, self.base, self.seed = collected, base, seed
        self.recipe, self.data = collected.recipe, collected.data
        self.place = f"{base.ref} seed {seed}"
        self.lifted: set[str] = set()  # hashes of merges that were written inside an expression

    def module(self, name: str) -> str:
        """The hash of a module of the recipe, its stage added when it is the first to ask."""
        key = (name, self.base.ref, self.seed)
        if key not in self.all.made:
            self.all.made[key] = self._module(name, self.recipe.modules[name])
        return self.all.made[key]

    def _module(self, name: str, entry: ModuleEntry) -> str:
        if entry.use:
            return self.all.used.hash(name, self.base, self.seed)
        if entry.merge:
            return self._merge(merge_tree(entry), f"merge {name} {self.place}")
        mix = self.mix(entry, ("modules", name))
        layers = self.layers(self.data.training_defaults(mix.values()), **{f"modules.{name}.settings": entry.settings})
        return self.train(entry, mix, layers, self.all.facts[name], f"train {name} {self.place}")

    def layers(self, defaults: Mapping[str, Any], **overrides: Mapping[str, Any]) -> Layers:
        """The layers of training settings: a task's, the recipe's, then these; later ones win."""
        return {"task": defaults, "train": self.recipe.train, **overrides}

    def mix(self, entry: ModuleEntry | Arm, steps: tuple[str, ...]) -> dict[str, TaskShare]:
        """The training items of an entry by task/language. Raises RecipeError for one that comes twice."""
        shares: dict[str, TaskShare] = {}
        general = entry.limit if isinstance(entry, ModuleEntry) else None
        for index, item in enumerate(entry.train):
            for task, language in self.data.training(item):
                key = f"{task}/{language}"
                if key in shares:
                    where = self.recipe.where(*steps, "train", index)
                    raise RecipeError(f"`{key}` is trained on twice", where=where, fix="name it once")
                shares[key] = TaskShare(key=key, task=task, limit=item.limit or general)
        return shares

    def train(
        self,
        entry: ModuleEntry | Arm,
        mix: Mapping[str, TaskShare],
        layers: Layers,
        facts: Facts,
        label: str,
        before: str | None = None,
    ) -> str:
        """The stage that trains a module; ``before`` is one of the same entry that training goes on in."""
        settings, origins = settled(layers, default_rate(facts.method) if facts.method is not None else None)
        for family in facts.families:
            require_library(family)
        if "weights" in facts.families and settings.precision != "fp32":
            why = "its weights are those of the whole base, to the bit"
            raise RecipeError(f"{label}: `full` in {settings.precision}", why=why, fix="train.precision: fp32")
        parents = self.data.trained_on(self.base, list(mix.values()), bool(settings.evaluate))
        start = before or (self.module(entry.continue_) if entry.continue_ else None)
        below = None if before else self._bound(entry.on, parents)
        filling = self._filling(mix, has_slot(entry.on), label) if facts.open else None
        if filling is not None:
            parents["bind:language"] = filling
        if start is not None:
            parents["start"] = start
        spec = TrainSpec(
            base=self.base,
            method=None if start else resolve(entry.method or self.recipe.method),
            below=below,
            start=start,
            filling=filling,
            mix=tuple(mix.values()),
            settings=settings,
            seed=self.seed,
            overrides={s.task: self.recipe.tasks[s.task] for s in mix.values() if s.task in self.recipe.tasks},
            engine=self.recipe.engine,
        )
        hash = self.all.add("train", spec, parents, label)
        self.all.origins.setdefault(hash, origins)
        return hash

    def _filling(self, mix: Mapping[str, TaskShare], needed: bool, label: str) -> str | None:
        """The module that stands in {language} while this trains: that of the one training language.

        Raises:
            RecipeError: several training languages, or no module for the one.
        """
        languages = sorted({str(split_task(key)[1]) for key in mix})
        name = self.recipe.filling.get(languages[0])
        where, fix = self.recipe.where("slots", "language"), f"slots: {{language: {{{languages[0]}: NAME}}}}"
        if len(languages) > 1:
            why = f"one module at a time can stand there; this trains in {', '.join(languages)}"
            raise RecipeError(f"{label}: {{language}} in several training languages", where=where, why=why, fix=fix)
        if name is None and needed:
            raise RecipeError(f"{label}: no module for {{language}} in {languages[0]}", where=where, fix=fix)
        return None if name is None else self.module(name)

    def _bound(self, tree: Tree, parents: dict[str, str]) -> str | None:
        """An expression over hashes; the modules in it become parents. None for the bare base."""
        bound = simplify(
            map_leaves(self._lifted(simplify(tree)), lambda leaf: Leaf(self._hash(leaf.name), leaf.weight))
        )
        if bound == BASE:
            return None
        for hash in leaves(bound):
            parents[f"module:{hash}"] = hash
        return format_tree(bound)

    def _hash(self, name: str) -> str:
        return name if name in self.lifted else self.module(name)

    def _lifted(self, tree: Tree) -> Tree:
        """The tree with every inner merge made a stage of its own."""
        if isinstance(tree, Merge):
            hash = self._merge(tree, f"{format_tree(tree)} {self.place}")
            self.lifted.add(hash)
            return Leaf(hash)
        if isinstance(tree, (Leaf, Slot)):
            return tree
        return replace(tree, children=tuple(map(self._lifted, tree.children)))

    def _merge(self, tree: Merge, label: str) -> str:
        parts = [child for child in tree.children if isinstance(child, Leaf)]
        names = tuple(part.name for part in parts)
        how = tree.how or default_how(names, self.all.facts)
        even = 1.0 / len(parts) if how == "average" else 1.0
        weights = tree.weights or tuple(part.weight * even for part in parts)
        hashes = tuple(self.module(name) for name in names)
        parents = {f"module:{hash}": hash for hash in hashes}
        parameters = MERGES[how].model_validate(dict(tree.parameters)).model_dump(exclude_none=True)
        overrides: dict[str, Any] = {}
        if how == "search":
            weights = ()
            task, language = split_task(parameters["task"])
            spec = self.data.spec(task)
            code = language or self.data.english(spec)
            parameters["task"] = f"{task}/{code}"
            parents["dev"] = self.data.prepared(self.base, task, code, spec.selection.split)
            overrides = self.recipe.tasks.get(task, {})
        merge = MergeSpec(
            base=self.base,
            how=how,
            of=hashes,
            weights=weights,
            parameters=parameters,
            seed=self.seed if how in RANDOM_MERGES else 0,
            overrides=overrides,
            engine=self.recipe.engine,
        )
        return self.all.add("merge", merge, parents, label)
