"""A recipe's bases, seeds, modules, arms and targets written out as stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapterstilts.encoder.reference import require_precision
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.modules.composition import BASE, Leaf, Merge, Slot, Tree, has_slot, leaves, map_leaves, simplify
from adapterstilts.modules.expressions import format_tree
from adapterstilts.modules.methods import default_rate, require_library, resolve
from adapterstilts.plan.bases import base_refs
from adapterstilts.plan.data import Data
from adapterstilts.plan.graph import Cell, Plan, in_order, make_stage
from adapterstilts.plan.layers import Layers, settled
from adapterstilts.plan.used import Used, find_used, instance
from adapterstilts.recipe.facts import Facts, default_how, facts_of, merge_tree, module_facts
from adapterstilts.recipe.problems import raise_all
from adapterstilts.recipe.schema import Arm, Evaluate, ModuleEntry, Recipe, Retrieve, Target
from adapterstilts.recipe.validate import validate
from adapterstilts.settings import MERGES, Precision
from adapterstilts.stages.specs import (
    ENGLISH,
    BaseRef,
    EvaluateSpec,
    MergeSpec,
    RetrieveSpec,
    Spec,
    TaskShare,
    TrainSpec,
)
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec, split_task

RANDOM_MERGES = ("dare_ties", "dare_linear", "search")


def make_plan(recipe: Recipe, tasks: TaskRegistry, store: Store, *, prefix: str | None = None) -> Plan:
    """Expand a recipe into stages, each once, parents first.

    Args:
        prefix: of the names that the modules get in the store; default the recipe's name and a slash.

    Raises:
        InvalidRecipe: cross references or compositions that cannot be. DataError: data that is not there, all of it.
    """
    bases = base_refs(recipe, store)
    used = find_used(recipe, store, bases)
    raise_all([*used.problems, *validate(recipe, tasks, used.facts)], recipe.name)
    data = Data(recipe, tasks, store)
    builder = _Builder(recipe, data, used)
    for base in bases:
        for seed in recipe.seeds:
            _World(builder, base, seed).expand()
    data.finish()
    names = builder.names(f"{recipe.name}/" if prefix is None else prefix)
    stages = in_order(builder.stages.values())
    return Plan(
        recipe.name, stages, tuple(builder.cells), names, tuple(data.warnings), recipe.text, builder.origins
    )


class _Builder:
    """What all bases and seeds share: the stages so far, the data, the facts."""

    def __init__(self, recipe: Recipe, data: Data, used: Used) -> None:
        self.recipe, self.data, self.used = recipe, data, used
        self.facts = module_facts(recipe, used.facts)
        self.stages = data.stages
        self.cells: list[Cell] = []
        self.made: dict[tuple[str, str, int], str] = {}  # (module, base, seed) -> hash
        self.origins: dict[str, Mapping[str, str]] = {}

    def add(self, kind: str, spec: Spec, parents: Mapping[str, str], label: str) -> str:
        require_precision(spec.settings.precision if isinstance(spec, TrainSpec) else getattr(spec, "precision", None))
        stage = make_stage(kind, spec, parents, label)
        self.stages.setdefault(stage.hash, stage)
        return stage.hash

    def names(self, prefix: str) -> dict[str, str]:
        """Plain names when there is one base and one seed, else with /base/seed behind."""
        several = len(self.recipe.bases) * len(self.recipe.seeds) > 1
        return {
            f"{prefix}{name}" + (instance(base, seed) if several else ""): hash
            for (name, base, seed), hash in self.made.items()
            if not self.recipe.modules[name].use
        }


class _World:
    """One base and one seed."""

    def __init__(self, builder: _Builder, base: BaseRef, seed: int) -> None:
        self.all, self.base, self.seed = builder, base, seed
        self.recipe, self.data = builder.recipe, builder.data
        self.place = f"{base.ref} seed {seed}"
        self.lifted: set[str] = set()  # hashes of merges that were written inside an expression

    def expand(self) -> None:
        for name in self.recipe.modules:
            self.module(name)
        for target_name, target in self.recipe.targets.items():
            for arm_name, arm in self.recipe.arms.items():
                if arm.targets is None or target_name in arm.targets:
                    self._target(target_name, target, arm_name, arm)
        for number, scores in enumerate(self.recipe.evaluate):
            for task in scores.tasks:
                self._evaluate(("evaluate", number), scores, task)
        for number, search in enumerate(self.recipe.retrieve):
            for task in search.tasks:
                self._retrieve(("retrieve", number), search, task)

    # -- modules ------------------------------------------------------------------------------------------------------

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
        mix = self._mix(entry, ("modules", name))
        layers = self._layers(self.data.training_defaults(mix.values()), **{f"modules.{name}.settings": entry.settings})
        return self._train(entry, mix, layers, self.all.facts[name], f"train {name} {self.place}")

    def _layers(self, defaults: Mapping[str, Any], **overrides: Mapping[str, Any]) -> Layers:
        return {"task": defaults, "train": self.recipe.train, **overrides}

    def _mix(self, entry: ModuleEntry | Arm, steps: tuple[str, ...]) -> dict[str, TaskShare]:
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

    def _train(
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

    # -- what is measured ---------------------------------------------------------------------------------------------

    def _target(self, target_name: str, target: Target, arm_name: str, arm: Arm) -> None:
        steps = ("targets", target_name)
        task = self.data.spec(target.task)
        facts = facts_of(self.recipe, arm, self.all.facts)
        label = f"{target_name} by {arm_name} {self.place}"
        given = {f"targets.{target_name}.train": target.train, f"arms.{arm_name}.settings": arm.settings}
        module = None
        for first in task.before if target.before is None else target.before:
            spec = self.data.spec(first)
            self._needed_first(spec, steps)
            layers = self._layers(spec.training, **given)
            module = self._train(arm, self._own(spec, target), layers, facts, f"train {label} on {first}", module)
        own = self.data.training_task(task)
        mix = self._own(own, target)
        for extra, share in self._mix(arm, ("arms", arm_name)).items():
            mix.setdefault(extra, share)
        layers = self._layers(task.training or own.training, **given)
        module = self._train(arm, mix, layers, facts, f"train {label}", module)
        languages = self.data.languages(target.languages, task, [target.split], (*steps, "languages"))
        stage = self._scores(module, target.task, target.split, languages, target.test_limit, label, facts.open)
        self._cell(arm_name, target.task, stage, target_name, "evaluate")

    def _own(self, spec: TaskSpec, target: Target) -> dict[str, TaskShare]:
        key = f"{spec.name}/{self.data.english(spec)}"
        return {key: TaskShare(key=key, task=spec.name, limit=target.limit)}

    def _needed_first(self, spec: TaskSpec, steps: tuple[str, ...]) -> None:
        """Data that are missing for a task trained on first: say that it can be left out."""
        language = self.data.english(spec)
        if self.data.find(spec.name, language, "train") is None:
            error = DataError(
                f"no data for {spec.name}/{language} train",
                where=self.recipe.where(*steps),
                why="the target is trained on it first",
                fix="add the data, or train without it: `before: []`",
            )
            self.data.missing.setdefault(f"{spec.name}/{language} train", error)

    def _evaluate(self, steps: tuple[str | int, ...], entry: Evaluate, task: str) -> None:
        languages = self.data.languages(entry.languages, self.data.spec(task), [entry.split], (*steps, "languages"))
        for name in entry.modules:
            module = None if name == "base" else self.module(name)
            label = f"{task} with {name} {self.place}"
            is_open = name != "base" and self.all.facts[name].open
            stage = self._scores(module, task, entry.split, languages, entry.limit, label, is_open, entry.precision)
            self._cell(name, task, stage, task, "evaluate")

    def _scores(
        self,
        module: str | None,
        task: str,
        split: str,
        languages: Sequence[str],
        limit: int | None,
        label: str,
        is_open: bool,
        precision: Precision | None = None,
    ) -> str:
        parents = {f"data:{code}": self.data.prepared(self.base, task, code, split) for code in languages}
        if module is not None:
            parents["module"] = module
        bindings = self._bindings(languages, label) if is_open else {}
        parents |= {f"bind:{code}": hash for code, hash in bindings.items()}
        spec = EvaluateSpec(
            base=self.base,
            module=module,
            task=task,
            split=split,
            languages=tuple(languages),
            limit=limit,
            bindings=bindings,
            precision=precision,
            engine=self.recipe.engine,
            overrides=self.recipe.tasks.get(task, {}),
        )
        return self.all.add("evaluate", spec, parents, f"evaluate {label}")

    def _bindings(self, languages: Sequence[str], label: str) -> dict[str, str]:
        """Language -> the module that stands in {language} there; the others keep that of training, and a warning."""
        filling = self.recipe.filling
        rest = [code for code in languages if code not in filling]
        if rest:
            text = f"{label}: no module for {{language}} in {', '.join(rest)}; that of the training language stays"
            self.data.warnings[text] = None
        return {code: self.module(filling[code]) for code in languages if code in filling}

    def _retrieve(self, steps: tuple[str | int, ...], entry: Retrieve, task: str) -> None:
        spec = self.data.spec(task)
        splits = ["test"] if spec.format == "ranking" else [s for s in ("dev", "test") if s in spec.splits]
        languages = self.data.languages(entry.languages, spec, splits, (*steps, "languages"))
        data = {
            f"data:{code}:{split}": self.data.prepared(self.base, task, code, split)
            for code in languages
            for split in splits
        }
        if spec.format == "ranking":
            data |= self.data.pool(self.base, task)
        for name in entry.modules:
            module = None if name == "base" else self.module(name)
            label = f"retrieve {task} with {name}"
            pool = [role.removeprefix("pool:") for role in data if role.startswith("pool:")] or [ENGLISH]
            is_open = name != "base" and self.all.facts[name].open
            bindings = self._bindings(list(dict.fromkeys([*languages, *pool])), label) if is_open else {}
            retrieve = RetrieveSpec(
                base=self.base,
                module=module,
                task=task,
                languages=tuple(languages),
                layers=entry.layers,
                pooling=entry.pooling,
                neighbours=entry.neighbours,
                margin=entry.margin,
                limit=entry.limit,
                bindings=bindings,
                precision=entry.precision,
                engine=self.recipe.engine,
                overrides=self.recipe.tasks.get(task, {}),
            )
            parents = data if module is None else {**data, "module": module}
            parents = {**parents, **{f"bind:{code}": hash for code, hash in bindings.items()}}
            place = self.base.ref if module is None else self.place
            stage = self.all.add("retrieve", retrieve, parents, f"{label} {place}")
            self._cell(name, task, stage, task, "retrieve")

    def _cell(self, arm: str, task: str, stage: str, target: str, kind: str) -> None:
        self.all.cells.append(Cell(self.base.ref, arm, self.seed, task, stage, target, kind))
