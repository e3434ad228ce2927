"""The stages that measure, on one base with one seed: targets by arms, evaluations, searches."""

from __future__ import annotations

from collections.abc import Sequence

from adapterstilts.errors import DataError
from adapterstilts.plan.graph import Cell
from adapterstilts.plan.trained import Modules
from adapterstilts.recipe.facts import facts_of
from adapterstilts.recipe.schema import Arm, Evaluate, Retrieve, Target
from adapterstilts.settings import Precision
from adapterstilts.stages.specs import ENGLISH, EvaluateSpec, RetrieveSpec, TaskShare
from adapterstilts.tasks.spec import TaskSpec


class Measures:
    """Adds what is measured of these modules, and the places of the result table."""

    def __init__(self, modules: Modules) -> None:
        self.modules, self.all = modules, modules.all
        self.recipe, self.data = modules.recipe, modules.data

    def target(self, target_name: str, target: Target, arm_name: str, arm: Arm) -> None:
        """A target by an arm: what trains for it, and its scores."""
        steps = ("targets", target_name)
        task = self.data.spec(target.task)
        facts = facts_of(self.recipe, arm, self.all.facts)
        label = f"{target_name} by {arm_name} {self.modules.place}"
        given = {f"targets.{target_name}.train": target.train, f"arms.{arm_name}.settings": arm.settings}
        module = None
        for first in task.before if target.before is None else target.before:
            spec = self.data.spec(first)
            self._needed_first(spec, steps)
            layers = self.modules.layers(spec.training, **given)
            module = self.modules.train(
                arm, self._own(spec, target), layers, facts, f"train {label} on {first}", module
            )
        own = self.data.training_task(task)
        mix = self._own(own, target)
        for extra, share in self.modules.mix(arm, ("arms", arm_name)).items():
            mix.setdefault(extra, share)
        layers = self.modules.layers(task.training or own.training, **given)
        module = self.modules.train(arm, mix, layers, facts, f"train {label}", module)
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

    def evaluate(self, steps: tuple[str | int, ...], entry: Evaluate, task: str) -> None:
        """Scores of modules on a task that nothing trains for."""
        languages = self.data.languages(entry.languages, self.data.spec(task), [entry.split], (*steps, "languages"))
        for name in entry.modules:
            module = None if name == "base" else self.modules.module(name)
            label = f"{task} with {name} {self.modules.place}"
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
        parents = {f"data:{code}": self.data.prepared(self.modules.base, task, code, split) for code in languages}
        if module is not None:
            parents["module"] = module
        bindings = self._bindings(languages, label) if is_open else {}
        parents |= {f"bind:{code}": hash for code, hash in bindings.items()}
        spec = EvaluateSpec(
            base=self.modules.base,
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
        return {code: self.modules.module(filling[code]) for code in languages if code in filling}

    def retrieve(self, steps: tuple[str | int, ...], entry: Retrieve, task: str) -> None:
        """A search with modules, in the languages that are there."""
        spec = self.data.spec(task)
        splits = ["test"] if spec.format == "ranking" else [s for s in ("dev", "test") if s in spec.splits]
        languages = self.data.languages(entry.languages, spec, splits, (*steps, "languages"))
        data = {
            f"data:{code}:{split}": self.data.prepared(self.modules.base, task, code, split)
            for code in languages
            for split in splits
        }
        if spec.format == "ranking":
            data |= self.data.pool(self.modules.base, task)
        for name in entry.modules:
            module = None if name == "base" else self.modules.module(name)
            label = f"retrieve {task} with {name}"
            pool = [role.removeprefix("pool:") for role in data if role.startswith("pool:")] or [ENGLISH]
            is_open = name != "base" and self.all.facts[name].open
            bindings = self._bindings(list(dict.fromkeys([*languages, *pool])), label) if is_open else {}
            retrieve = RetrieveSpec(
                base=self.modules.base,
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
            place = self.modules.base.ref if module is None else self.modules.place
            stage = self.all.add("retrieve", retrieve, parents, f"{label} {place}")
            self._cell(name, task, stage, task, "retrieve")

    def _cell(self, arm: str, task: str, stage: str, target: str, kind: str) -> None:
        self.all.cells.append(Cell(self.modules.base.ref, arm, self.modules.seed, task, stage, target, kind))
