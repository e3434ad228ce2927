"""Cross references of a recipe: tasks, languages, methods, modules, circles, and compositions that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from adapterstilts.errors import AdapterstiltsError, RecipeError
from adapterstilts.modules.composition import BASE, Leaf, Merge, Stack, Tree, leaves, nodes
from adapterstilts.modules.methods import resolve
from adapterstilts.recipe.facts import Facts, facts_of, impossible, merge_tree, needs, order, trained
from adapterstilts.recipe.problems import nearest, placed
from adapterstilts.recipe.schema import Arm, Evaluate, Languages, ModuleEntry, Recipe, Retrieve, TrainItem
from adapterstilts.settings import MethodSettings
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec, split_task

Steps = tuple[str | int, ...]
FRESH = "the-new-module"


def validate(recipe: Recipe, tasks: TaskRegistry, used: Mapping[str, Facts] | None = None) -> list[RecipeError]:
    """Everything a recipe refers to that does not exist or cannot be; empty when it can be planned.

    Args:
        used: what the store says of the modules that the recipe takes from it (``use:``); unknown ones pass.
    """
    return _Check(recipe, tasks, used or {}).run()


class _Check:
    def __init__(self, recipe: Recipe, tasks: TaskRegistry, used: Mapping[str, Facts]) -> None:
        self.recipe, self.tasks, self.used = recipe, tasks, used
        self.problems: list[RecipeError] = []
        self.specs: dict[str, TaskSpec | None] = {}
        self.known: dict[str, Facts] = {}

    def run(self) -> list[RecipeError]:
        recipe = self.recipe
        self.own: MethodSettings | None = self._attempt(lambda: resolve(recipe.method), "method")
        for task in recipe.tasks:
            self._task(task, ("tasks", task))
        self._circles()
        for name in order(recipe):
            self._module(name, recipe.modules[name])
        self._slots()
        for name, arm in recipe.arms.items():
            self._arm(name, arm)
        self._targets()
        self._lists()
        if recipe.report.baseline is not None:
            self._named(recipe.report.baseline, recipe.arms, "arm", ("report", "baseline"))
        return self.problems

    # -- helpers ------------------------------------------------------------------------------------------------------

    def fail(self, what: str, steps: Steps, why: str | None = None, fix: str | None = None) -> None:
        self.problems.append(RecipeError(what, where=self.recipe.where(*steps), why=why, fix=fix))

    def _attempt(self, action: Callable[[], Any], *steps: str | int) -> Any:
        try:
            return action()
        except AdapterstiltsError as error:
            self.problems.append(placed(error, self.recipe.where(*steps)))
        except ValidationError as error:
            first = error.errors()[0]
            self.fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", steps)
        return None

    def _named(self, name: str, known: Mapping[str, Any], what: str, steps: Steps) -> bool:
        if name in known:
            return True
        why = f"the recipe has {', '.join(known)}" if known else f"the recipe has no {what}s"
        self.fail(f"unknown {what} `{name}`", steps, why, nearest(name, known))
        return False

    def _task(self, name: str, steps: Steps) -> TaskSpec | None:
        """The task's spec, or None with the problem noted."""
        if name not in self.specs:
            overrides = self.recipe.tasks.get(name)
            self.specs[name] = self._attempt(lambda: self.tasks.get(name, overrides), *steps)
        elif self.specs[name] is None:
            self.fail(f"unknown task `{name}`", steps, fix=nearest(name, self.tasks.names()))
        return self.specs[name]

    def _language(self, language: str, spec: TaskSpec, steps: Steps) -> None:
        if language not in spec.languages:
            offers = f"`{spec.name}` offers {', '.join(spec.languages)}"
            self.fail(f"`{spec.name}` has no language `{language}`", steps, offers, nearest(language, spec.languages))

    def _has_head(self, spec: TaskSpec, steps: Steps) -> None:
        if spec.searched:
            why = f"a {spec.format} task has no head: its answers are found"
            self.fail(f"`{spec.name}` is searched", steps, why, "list it under retrieve: tasks:")

    # -- entries ------------------------------------------------------------------------------------------------------

    def _circles(self) -> None:
        modules = self.recipe.modules
        in_order = set(order(self.recipe))
        stuck = [name for name in modules if name not in in_order]
        while stuck:
            path = [stuck[0]]
            while True:
                following = next((n for n in needs(modules[path[-1]], self.recipe) if n in stuck), None)
                if following is None or following in path:
                    break
                path.append(following)
            if following is not None:
                ring = [*path[path.index(following) :], following]
                self.fail("modules that need each other", ("modules", ring[0]), " -> ".join(ring))
            stuck = [name for name in stuck if name not in path]

    def _module(self, name: str, entry: ModuleEntry) -> None:
        steps: Steps = ("modules", name)
        if entry.use:
            if name in self.used:
                self.known[name] = self.used[name]
            return
        before = len(self.problems)
        for index, part in enumerate(entry.merge):
            self._named(part, self.recipe.modules, "module", (*steps, "merge", index))
        if entry.merge:
            tree = self._attempt(lambda: merge_tree(entry), *steps, "merge")
            if tree is not None:
                self._possible(tree, (*steps, "merge"))
        self._training(entry, steps)
        if len(self.problems) == before:
            self.known[name] = facts_of(self.recipe, entry, self.known)

    def _slots(self) -> None:
        for code, name in self.recipe.filling.items():
            steps: Steps = ("slots", "language", code)
            if self._named(name, self.recipe.modules, "module", steps) and name in self.known and self.known[name].open:
                self.fail(f"`{name}` cannot stand in {{language}}", steps, "it has a {language} slot itself")

    def _arm(self, name: str, arm: Arm) -> None:
        steps: Steps = ("arms", name)
        self._training(arm, steps)
        for index, target in enumerate(arm.targets or ()):
            self._named(target, self.recipe.targets, "target", (*steps, "targets", index))
        if arm.baseline == name:
            self.fail(f"the arm `{name}` is its own baseline", (*steps, "baseline"))
        elif arm.baseline is not None:
            self._named(arm.baseline, self.recipe.arms, "arm", (*steps, "baseline"))

    def _training(self, entry: ModuleEntry | Arm, steps: Steps) -> None:
        """What modules and arms have in common: items, method, what they stand on or continue."""
        for index, item in enumerate(entry.train):
            self._item(item, (*steps, "train", index))
        given = entry.method
        method = self._attempt(lambda: resolve(given), *steps, "method") if given is not None else None
        if entry.continue_ and self._named(entry.continue_, self.recipe.modules, "module", (*steps, "continue")):
            self._same_method(method, entry.continue_, (*steps, "method"))
        named = [self._named(name, self.recipe.modules, "module", (*steps, "on")) for name in leaves(entry.on)]
        if entry.on != BASE and all(named):
            self._possible(entry.on, (*steps, "on"))
            self._on_top(method or self.own, entry.on, steps)

    def _on_top(self, method: MethodSettings | None, on: Tree, steps: Steps) -> None:
        """A fresh module of the method over a composition."""
        if method is None:
            return
        known = {**self.known, FRESH: trained(method, BASE, frozenset(), {})}
        before = {str(problem) for problem in impossible(on, self.known, list(self.recipe.filling.values()))}
        for problem in impossible(Stack((on, Leaf(FRESH))), known, list(self.recipe.filling.values())):
            if str(problem) not in before:
                self.problems.append(placed(problem, self.recipe.where(*steps)))

    def _same_method(self, method: MethodSettings | None, start: str, steps: Steps) -> None:
        facts = self.known.get(start)
        if method is not None and facts is not None and facts.method is not None and facts.method != method:
            why = f"`{start}` is a {facts.method.name} with other parameters or another method"
            self.fail("training that continues cannot change the method", steps, why, "remove `method`, or use `on`")

    def _possible(self, tree: Tree, steps: Steps) -> None:
        for node in nodes(tree):
            if isinstance(node, Merge) and node.how == "search":
                self._search(node, steps)
        for problem in impossible(tree, self.known, list(dict.fromkeys(self.recipe.filling.values()))):
            self.problems.append(placed(problem, self.recipe.where(*steps)))

    def _search(self, merge: Merge, steps: Steps) -> None:
        """A search measures with the head of a module that it weighs."""
        parts = self._attempt(lambda: split_task(str(dict(merge.parameters)["task"])), *steps)
        spec = self._task(parts[0], steps) if parts is not None else None
        if spec is None:
            return
        self._has_head(spec, steps)
        if parts[1]:
            self._language(parts[1], spec, steps)
        names = leaves(merge)
        heads = {
            trained.head_name
            for name in names
            if name in self.known
            for task in self.known[name].tasks
            if (trained := self._task(task, steps)) is not None
        }
        needed = spec.format not in ("bitext", "masked_lm") and all(name in self.known for name in names)
        if needed and spec.head_name not in heads:
            why = "candidates are measured with a head that one of the modules was trained with"
            fix = f"train one of them on {spec.name}, or search on another task"
            self.fail(f"none of {', '.join(names)} has a head for `{spec.name}`", steps, why, fix)

    def _item(self, item: TrainItem, steps: Steps) -> None:
        parts = self._attempt(lambda: split_task(item.task), *steps, "task")
        if parts is None:
            return
        name, language = parts
        spec = self._task(name, (*steps, "task"))
        if spec is None:
            return
        self._has_head(spec, (*steps, "task"))
        if language and (item.language or item.languages):
            self.fail(f"the language of `{item.task}` is given twice", steps, fix="keep one")
        for code in filter(None, (language, item.language, *item.languages)):
            self._language(code, spec, steps)

    def _targets(self) -> None:
        for name, target in self.recipe.targets.items():
            steps: Steps = ("targets", name)
            spec = self._task(target.task, (*steps, "task"))
            if spec is None:
                continue
            self._has_head(spec, (*steps, "task"))
            self._chosen(target.languages, [spec], (*steps, "languages"))
            for index, first in enumerate(spec.before if target.before is None else target.before):
                earlier = self._task(first, (*steps, "before", index))
                if earlier is not None:
                    self._has_head(earlier, (*steps, "before", index))
        if bool(self.recipe.targets) != bool(self.recipe.arms):
            one, other = ("targets", "arms") if self.recipe.targets else ("arms", "targets")
            self.fail(f"{one} without {other}", (one,), fix="arms: {none: {}}" if one == "targets" else None)

    def _chosen(self, languages: Languages | None, specs: Sequence[TaskSpec], steps: Steps) -> None:
        for index, language in enumerate(languages if isinstance(languages, tuple) else ()):
            for spec in specs:
                self._language(language, spec, (*steps, index))

    def _lists(self) -> None:
        offered: dict[str, None] = {}
        for number, search in enumerate(self.recipe.retrieve):
            offered |= dict.fromkeys(self._listed("retrieve", number, search))
        for number, scores in enumerate(self.recipe.evaluate):
            offered |= dict.fromkeys(self._listed("evaluate", number, scores))
        for target in self.recipe.targets.values():
            known = self.specs.get(target.task)
            offered |= dict.fromkeys(known.languages if known is not None else ())
        chosen = self.recipe.languages
        for index, language in enumerate(chosen if isinstance(chosen, tuple) else ()):
            if offered and language not in offered:
                why = f"the tasks of this recipe offer {', '.join(offered)}"
                self.fail(
                    f"no task has the language `{language}`", ("languages", index), why, nearest(language, offered)
                )

    def _listed(self, section: str, number: int, entry: Retrieve | Evaluate) -> list[str]:
        """One entry of retrieve or evaluate; returns the languages that its tasks offer."""
        steps: Steps = (section, number)
        specs = [spec for task in entry.tasks if (spec := self._task(task, (*steps, "tasks"))) is not None]
        self._chosen(entry.languages, specs, (*steps, "languages"))
        for spec in specs:
            if section == "evaluate":
                self._has_head(spec, (*steps, "tasks"))
            elif not spec.searched:
                why = f"it is {spec.format}; bitext and ranking are searched"
                self.fail(f"`{spec.name}` is not searched", (*steps, "tasks"), why)
        for module in entry.modules:
            self._measured(section, module, specs, (*steps, "modules"))
        return [language for spec in specs for language in spec.languages]

    def _measured(self, section: str, module: str, specs: Sequence[TaskSpec], steps: Steps) -> None:
        if module == "base":
            if section == "evaluate" and any(spec.format != "masked_lm" for spec in specs):
                self.fail("the bare base has no head", steps, "only masked_lm tasks can be scored without a module")
            return
        if not self._named(module, self.recipe.modules, "module", steps) or module not in self.known:
            return
        facts = self.known[module]
        if section != "evaluate":
            return
        learned = [self._task(task, steps) for task in sorted(facts.tasks)]
        heads = {spec.head_name for spec in learned if spec is not None}
        for spec in specs:
            if spec.head_name not in heads:
                trained = ", ".join(sorted(facts.tasks))
                why = f"it was trained on {trained}" if trained else "this merge has no heads"
                self.fail(f"`{module}` has no head for `{spec.name}`", steps, why)


def bind(tasks: TaskRegistry) -> Callable[[Recipe], list[RecipeError]]:
    """``validate`` with the tasks given, for ``load(..., check=bind(tasks))``."""
    return lambda recipe: validate(recipe, tasks)
