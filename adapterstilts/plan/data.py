"""The data side of planning: which task, language and split, whether it is there, and its prepare stage."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from adapterstilts.data.hashes import FileHashes
from adapterstilts.data.sources import DataRoot, Resolved, resolve
from adapterstilts.encoder.reference import longest
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.plan.graph import Stage, make_stage
from adapterstilts.recipe.schema import ALL, Languages, Recipe, TrainItem
from adapterstilts.stages.specs import BaseRef, PrepareSpec, TaskShare
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec, split_task, task_hash


class Data:
    """Collects prepare stages, warnings, and everything that is missing."""

    def __init__(self, recipe: Recipe, tasks: TaskRegistry, store: Store) -> None:
        self.recipe, self.tasks = recipe, tasks
        self.stages: dict[str, Stage] = {}
        self.warnings: dict[str, None] = {}
        self.missing: dict[str, DataError] = {}
        self._root = DataRoot.of(recipe.data)
        for folder in (*self._root.roots, *self._root.layouts.values()):
            if not folder.exists():
                where = recipe.where("data")
                raise DataError(f"no folder `{folder}`", where=where, why="`data` names it", fix="correct the path")
        self._sha256 = FileHashes(store.fingerprints)
        self._specs: dict[str, tuple[TaskSpec, str]] = {}
        self._found: dict[tuple[str, str, str], Resolved] = {}
        self._prepared: dict[tuple[str, str, str, str], str] = {}
        self._fingerprints: dict[tuple[str, str, str], str] = {}
        self._longest: dict[str, int | None] = {}
        self._chosen: dict[tuple[Languages | None, str, tuple[str, ...]], list[str]] = {}

    def finish(self) -> None:
        """Keep what was hashed, and report all that is missing in one error.

        Raises:
            DataError: data that the recipe names is not there.
        """
        self._sha256.save()
        if len(self.missing) == 1:
            raise next(iter(self.missing.values()))
        if self.missing:
            text = "\n".join(str(error) for error in self.missing.values())
            raise DataError(f"{len(self.missing)} data sets are missing for `{self.recipe.name}`:\n{text}")

    # -- tasks --------------------------------------------------------------------------------------------------------

    def spec(self, task: str) -> TaskSpec:
        """The task with the recipe's overrides."""
        return self._spec(task)[0]

    def _spec(self, task: str) -> tuple[TaskSpec, str]:
        if task not in self._specs:
            spec = self.tasks.get(task, self.recipe.tasks.get(task))
            self._specs[task] = (spec, task_hash(spec))
        return self._specs[task]

    def training_task(self, spec: TaskSpec) -> TaskSpec:
        """The task that a target is trained on: its ``train``, or itself."""
        return self.spec(spec.train_task)

    def training_defaults(self, mix: Iterable[TaskShare]) -> dict[str, Any]:
        """What the tasks of a mix say of their training; of several tasks, what they all say alike."""
        first, *others = (self.spec(share.task).training for share in mix)
        return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}

    def english(self, spec: TaskSpec) -> str:
        """The language a task is trained in when none is named: English, or its only one."""
        return spec.selection.language if spec.selection.language in spec.languages else spec.languages[0]

    def training(self, item: TrainItem) -> list[tuple[str, str]]:
        """(task, language) of each share of a training item."""
        name, language = split_task(item.task)
        spec = self.spec(name)
        languages = item.languages or tuple(filter(None, (language or item.language,))) or (None,)
        shares = []
        for code in languages:
            own = spec
            if "train" not in spec.splits and (code is None or code in self.training_task(spec).languages):
                own = self.training_task(spec)
            shares.append((own.name, code or self.english(own)))
        return shares

    # -- data ---------------------------------------------------------------------------------------------------------

    def find(self, task: str, language: str, split: str) -> Resolved | None:
        """The source of a split, or None when the task has no such split or language, or nothing is there."""
        spec = self.spec(task)
        if split not in spec.splits or language not in spec.languages:
            return None
        found = self._resolved(task, language, split)
        return found if found.present else None

    def _resolved(self, task: str, language: str, split: str) -> Resolved:
        key = (task, language, split)
        if key not in self._found:
            self._found[key] = resolve(self.spec(task), language, split, self._root, self.tasks)
        return self._found[key]

    def prepared(self, base: BaseRef, task: str, language: str, split: str) -> str:
        """The hash of the prepare stage; when the data is missing that is noted and the hash means nothing."""
        self._check_length(base.ref, task)
        key = (base.tokenizer, task, language, split)
        if key in self._prepared:
            return self._prepared[key]
        found = self._required(task, language, split)
        if found is None:
            return ""
        if found.stand_in:
            self.warnings[f"{task}/{language} {split}: a stand-in, not the official data ({found.source.name})"] = None
        place = (task, language, split)
        if place not in self._fingerprints:
            self._fingerprints[place] = found.fingerprint(self._sha256)
        spec = PrepareSpec(
            base=base,
            task=task,
            language=language,
            split=split,
            task_hash=self._spec(task)[1],
            source=found.plain,
            data=self._fingerprints[place],
            overrides=self.recipe.tasks.get(task, {}),
        )
        several = any(tokenizer != base.tokenizer for tokenizer, *_ in self._prepared)
        stage = make_stage("prepare", spec, {}, f"prepare {task}/{language} {split}" + f" {base.ref}" * several)
        self.stages[stage.hash] = stage
        self._prepared[key] = stage.hash
        return stage.hash

    def _check_length(self, base: str, task: str) -> None:
        spec = self.spec(task)
        asked = spec.settings.max_length
        if base not in self._longest:
            self._longest[base] = longest(base)
        most = self._longest[base]
        if most is not None and asked > most and not spec.searched:
            where = self.recipe.where("tasks", task) if task in self.recipe.tasks else self.recipe.where("base")
            why, fix = f"`{base}` has positions for {most}", f"tasks: {{{task}: {{settings: {{max_length: {most}}}}}}}"
            raise RecipeError(f"`{task}` has rows of up to {asked} tokens", where=where, why=why, fix=fix)

    def _required(self, task: str, language: str, split: str) -> Resolved | None:
        try:
            return self._resolved(task, language, split).require()
        except DataError as error:
            self.missing.setdefault(f"{task}/{language} {split}", error)
            return None

    def trained_on(self, base: BaseRef, mix: Sequence[TaskShare], scored: bool) -> dict[str, str]:
        """Parents of a training stage: ``train:<key>`` for all, ``dev:<key>`` for what selects.

        English alone selects when the mix holds any; otherwise a language's own dev gives its dev score.
        """
        parents = {}
        for share in mix:
            _, language = split_task(share.key)
            parents[f"train:{share.key}"] = self.prepared(base, share.task, str(language), "train")
        keys = [share for share in mix if self._is_english(share)] or list(mix)
        for share in keys:
            _, language = split_task(share.key)
            if self.find(share.task, str(language), self.spec(share.task).selection.split) is None:
                self._no_dev(share, scored)
                continue
            split = self.spec(share.task).selection.split
            parents[f"dev:{share.key}"] = self.prepared(base, share.task, str(language), split)
        return parents

    def _is_english(self, share: TaskShare) -> bool:
        return split_task(share.key)[1] == self.spec(share.task).selection.language

    def _no_dev(self, share: TaskShare, scored: bool) -> None:
        text = f"no development data for {share.key}"
        if scored:
            why = "the settings ask for dev scores during training (`evaluate`)"
            self.missing.setdefault(text, DataError(text, why=why, fix="evaluate: 0, or add the data"))
        else:
            self.warnings[f"{text}: it gets no dev score"] = None

    def pool(self, base: BaseRef, task: str) -> dict[str, str]:
        """The candidates of a ranking task, as parents ``pool:<language>``: of every language that has some.

        They do not depend on the languages that are measured: the pool is part of the figure.
        """
        spec = self.spec(task)
        claimed = [code for code in spec.languages if any(s.has(code, "pool") for s in spec.sources)]
        claimed = claimed or list(spec.languages)
        there = [code for code in claimed if self.find(task, code, "pool") is not None]
        gone = [code for code in claimed if code not in there]
        if gone and there:
            text = f"{task}: no candidates in {', '.join(gone)}; the pool is of {', '.join(there)}, and smaller"
            self.warnings[text] = None
        return {f"pool:{code}": self.prepared(base, task, code, "pool") for code in there or claimed[:1]}

    # -- languages ----------------------------------------------------------------------------------------------------

    def languages(
        self, own: Languages | None, spec: TaskSpec, splits: Sequence[str], steps: tuple[str | int, ...]
    ) -> list[str]:
        """The languages an entry is measured in: those asked for that the task offers and the data root has.

        ``all`` takes what is there and warns of the rest; a language that an entry names must be there; one that
        the recipe names for all its tasks must be there where the task offers it. A test whose labels are withheld
        is predicted, for a submission, where the entry names the language.
        """
        key = (own, spec.name, tuple(splits))
        if key not in self._chosen:
            self._chosen[key] = self._choose(own, spec, splits, steps)
        return self._chosen[key]

    def _choose(
        self, own: Languages | None, spec: TaskSpec, splits: Sequence[str], steps: tuple[str | int, ...]
    ) -> list[str]:
        asked = own or self.recipe.languages or ALL
        names = spec.languages if asked == ALL else asked
        offered = [language for language in names if language in spec.languages]
        absent = [language for language in names if language not in spec.languages]
        if absent:
            self.warnings[f"{spec.name} does not offer {', '.join(absent)}"] = None
        blank = own not in (None, ALL)
        there = [language for language in offered if not self._why_not(spec, language, splits, blank)]
        for language in there:
            if why := self._why_not(spec, language, splits):
                self.warnings[f"{why}; it is predicted and not scored"] = None
        gone = [language for language in offered if language not in there]
        where = self.recipe.where(*steps)
        if asked != ALL:
            for language in gone:
                why = self._why_not(spec, language, splits)
                self.missing.setdefault(f"{spec.name}/{language}", DataError(str(why), where=where))
        elif gone and there:
            some = ", ".join(gone[:12]) + (f" and {len(gone) - 12} more" if len(gone) > 12 else "")
            text = (
                f"{spec.name} {'+'.join(splits)}: no data for {some} ({len(there)} of {len(offered)} languages there)"
            )
            self.warnings[text] = None
        if not there and not any(key.startswith(f"{spec.name}/") for key in self.missing):
            why = self._why_not(spec, offered[0], splits) if offered else f"it offers {', '.join(spec.languages)}"
            text = f"nothing to measure `{spec.name}` on"
            self.missing[f"{spec.name}/"] = DataError(text, where=where, why=why, fix="point `data` at the folder")
        return there

    def _why_not(self, spec: TaskSpec, language: str, splits: Sequence[str], blank: bool = False) -> str | None:
        """Why a language cannot be measured; ``blank``: test labels may be withheld."""
        for split in splits:
            if split not in spec.splits:
                return f"{spec.name} has no split `{split}`; it has {', '.join(spec.splits)}"
            found = self._resolved(spec.name, language, split)
            if not found.present:
                return f"no data for {spec.name}/{language} {split}: looked for {'; '.join(found.missing[:3])}"
            if not found.labelled and not (blank and split == "test"):
                return f"no labels for {spec.name}/{language} {split}: its files leave them out"
        return None
