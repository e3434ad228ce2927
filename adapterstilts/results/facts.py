"""What a report says besides the numbers: arms and baselines, distances, chance, where every number comes from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from adapterstilts.errors import AdapterstiltsError
from adapterstilts.modules.composition import BASE
from adapterstilts.modules.expressions import format_tree
from adapterstilts.plan.graph import Plan, Stage
from adapterstilts.recipe.facts import facts_of, module_facts
from adapterstilts.recipe.schema import Arm, Recipe
from adapterstilts.results.rows import task_names
from adapterstilts.results.usage import by_layer, plan_usage
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec

TRUNCATED = 0.05  # share of examples cut at the maximal length that is worth a warning
UNKNOWN = 0.01  # share of unknown pieces that is
CONSTRUCTED = (
    "constructed: .45 x share of words that are no cognates + .30 x share of differing order traits"
    " + .15 x morphology / 3 + .10 where the script differs"
)
INVENTED = "The embedded world's languages are invented: no number here speaks about a real language."
Distances = dict[str, float | None]


def report_facts(
    recipe: Recipe, plan: Plan, store: Store, tasks: TaskRegistry, rows: Sequence[Mapping[str, Any]], command: str = ""
) -> dict[str, Any]:
    """The plain facts that ``report.build`` takes, for the rows of this plan."""
    shown = {name: _spec(tasks, recipe, task) for (_, task), name in task_names(plan).items()}
    stages = {hash: store.manifest(hash) for hash in _behind(plan, rows) if store.has(hash)}
    warnings = [text for text in plan.warnings if "stand-in" not in text]
    distances, source = _distances(recipe, list(dict.fromkeys(row["language"] for row in rows)), warnings)
    prepared = {manifest["hash"]: manifest for manifest in stages.values() if manifest["kind"] == "prepare"}
    return {
        "recipe": {"name": recipe.report.title or recipe.name, "text": recipe.text},
        "names": _titles({name: spec.title for name, spec in shown.items() if spec is not None and spec.title}),
        "languages": distances,
        "distance_source": source,
        "chance": {name: spec.chance_level for name, spec in shown.items() if spec is not None},
        "majority": _majority(plan, prepared),
        "arms": _arms(recipe),
        "stages": {hash: {**_stage(manifest), **_spent(hash, stages)} for hash, manifest in stages.items()},
        "versions": _versions(stages.values()),
        "stand_ins": [
            *([INVENTED] if any(task.startswith("lab-") for task in {cell.task for cell in plan.cells}) else []),
            *(text for text in plan.warnings if "stand-in" in text),
        ],
        "warnings": [*warnings, *_health(prepared.values()), *_told(stages.values())],
        "metrics": {
            row["task"]: main
            for row in rows
            if (main := stages.get(row["stage"], {}).get("facts", {}).get("main")) is not None
        },
        "layers": {
            task: entry.layers[0]
            for entry in recipe.retrieve
            for task in entry.tasks
            if entry.layers != "all" and len(entry.layers) == 1
        },
        "curves": _curves(plan, store),
        "usage": by_layer(plan_usage(plan, store, rows)),
        "command": command,
    }


def _titles(titles: Mapping[str, str]) -> dict[str, str]:
    """Name -> title; targets of one task are told apart by their names."""
    counts = Counter(titles.values())
    return {name: title if counts[title] == 1 else f"{title} ({name})" for name, title in titles.items()}


def _curves(plan: Plan, store: Store) -> dict[str, dict[str, dict[str, Any]]]:
    """Task -> module -> language -> the dev curve of mining over its threshold, of the first base and seed."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in plan.cells:
        if cell.kind == "retrieve" and store.has(cell.stage):
            files = sorted(store.path(cell.stage).glob("curve.*.json"))
            curves = {path.name.split(".")[1]: json.loads(path.read_text(encoding="utf-8")) for path in files}
            if curves:
                found.setdefault(cell.task, {}).setdefault(cell.arm, curves)
    return found


def _spec(tasks: TaskRegistry, recipe: Recipe, name: str) -> TaskSpec | None:
    try:
        return tasks.get(name, recipe.tasks.get(name))
    except AdapterstiltsError:  # a run of tasks that are not at hand now can still be reported
        return None


def _behind(plan: Plan, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The stages of the rows and all their ancestors."""
    found: dict[str, None] = {}
    front = list(dict.fromkeys(row["stage"] for row in rows))
    while front:
        hash = front.pop()
        if hash not in found:
            found[hash] = None
            front.extend(plan.by_hash[hash].parents.values() if hash in plan.by_hash else ())
    return list(found)


def _stage(manifest: Mapping[str, Any]) -> dict[str, Any]:
    facts = manifest.get("facts", {})
    peak = facts.get("peak_memory") or {}
    return {
        "label": manifest.get("label", ""),
        "seconds": manifest.get("wall_seconds"),
        "peak_memory": peak.get("device") or peak.get("host"),
        "seed": manifest.get("seed"),
        "split": manifest["spec"].get("split"),
        "converged": facts.get("converged"),
        "parents": list(manifest.get("parents", {}).values()),
    }


def _spent(hash: str, stages: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Updates and trained parameters of all training behind a stage; a continued module is counted once."""
    seen: set[str] = set()
    front = [hash]
    updates = trained = 0
    while front:
        manifest = stages.get(key := front.pop())
        if key in seen or manifest is None:
            continue
        seen.add(key)
        front.extend(manifest.get("parents", {}).values())
        facts = manifest.get("facts", {})
        updates += facts.get("steps", 0)
        if manifest["spec"].get("start") is None:
            trained += facts.get("parameters", {}).get("module", 0)
    return {"updates": updates, "trained": trained}


def _versions(manifests: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The package versions of the stages; several where the run went on with others."""
    found: dict[str, dict[str, None]] = {}
    for manifest in manifests:
        versions = {**manifest.get("packages", {}), "python": manifest.get("python", "")}
        for name, version in versions.items():
            found.setdefault(name, {})[version] = None
    return {name: " and ".join(versions) for name, versions in found.items()}


# -- arms -------------------------------------------------------------------------------------------------------------


def _arms(recipe: Recipe) -> list[dict[str, Any]]:
    """Every arm with its baseline: the one it names, the report's, or the plain arm of the same method."""
    known = module_facts(recipe)
    plain = [name for name, arm in recipe.arms.items() if not (arm.continue_ or arm.train or arm.on != BASE)]

    def method(arm: Arm) -> str | None:
        found = facts_of(recipe, arm, known).method
        return found.name if found is not None else None

    def baseline(name: str, arm: Arm) -> str | None:
        if arm.baseline or name in plain:
            return arm.baseline
        same = [other for other in plain if method(recipe.arms[other]) == method(arm)]
        candidates = [recipe.report.baseline] if recipe.report.baseline else [*same, *plain]
        return next((other for other in candidates if other != name), None)

    return [
        {"name": name, "description": arm.description or _described(arm), "baseline": baseline(name, arm)}
        for name, arm in recipe.arms.items()
    ]


def _described(arm: Arm) -> str:
    mixed = f", mixed with {', '.join(item.task for item in arm.train)}" if arm.train else ""
    if arm.continue_:
        return f"target training goes on from a copy of `{arm.continue_}`{mixed}"
    if arm.on != BASE:
        return f"a fresh module over the frozen `{format_tree(arm.on)}`{mixed}"
    return f"a fresh module on the bare base{mixed}"


# -- levels and warnings ----------------------------------------------------------------------------------------------


def _majority(plan: Plan, prepared: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Percent of the most frequent label of what was scored, where a score is the share of right labels."""
    named = task_names(plan)
    found: dict[tuple[str, str], float] = {}
    for cell in plan.cells:
        stage: Stage | None = plan.by_hash.get(cell.stage)
        for role, hash in stage.parents.items() if stage is not None and cell.kind == "evaluate" else ():
            facts = prepared.get(hash, {}).get("facts", {})
            labels = {name: count for name, count in facts.get("labels", {}).items() if name != "(blanked)"}
            if role.startswith("data:") and len(labels) > 1 and sum(labels.values()) == facts.get("n"):
                level = 100.0 * max(labels.values()) / sum(labels.values())
                if not set(labels) <= {"answerable", "unanswerable"}:
                    found[named[cell.target, cell.task], role.removeprefix("data:")] = level
    return found


def _told(manifests: Iterable[Mapping[str, Any]]) -> list[str]:
    """What stages warned of."""
    return [
        f"{manifest.get('label', '')}: {text}"
        for manifest in manifests
        for text in manifest.get("facts", {}).get("warnings", ())
    ]


def _health(prepared: Iterable[Mapping[str, Any]]) -> list[str]:
    """What in the tokenised data a reader should know."""
    found: list[str] = []
    for manifest in prepared:
        facts, name = manifest.get("facts", {}), manifest.get("label", "").removeprefix("prepare ")
        if facts.get("truncated_share", 0.0) > TRUNCATED:
            found.append(f"{name}: {facts['truncated_share']:.0%} of {facts['n']} examples were cut to fit")
        if facts.get("unknown_rate", 0.0) > UNKNOWN:
            found.append(f"{name}: {facts['unknown_rate']:.1%} of the subwords are unknown to the tokenizer")
        if facts.get("skipped"):
            found.append(f"{name}: {facts['skipped']} examples without a usable label were left out")
    return found


# -- distances --------------------------------------------------------------------------------------------------------


def _distances(recipe: Recipe, languages: list[str], warnings: list[str]) -> tuple[Distances, str]:
    """Distance from English of each language, as the recipe asks; of the embedded world by construction."""
    from adapterstilts.lab.languages import LANGUAGES, distance

    asked = recipe.report.distance
    if isinstance(asked, Mapping):
        return {language: _number(asked.get(language)) for language in languages}, "given in the recipe"
    if asked == "lab" or (asked is None and set(languages) <= set(LANGUAGES)):
        return {language: distance(language) for language in languages if language in LANGUAGES}, CONSTRUCTED
    kind = (asked or "syntactic").removeprefix("uriel").lstrip(":") or "syntactic"
    return _tried(lambda: _uriel(languages, kind), warnings if asked else [])


def _uriel(languages: list[str], kind: str) -> tuple[Distances, str]:
    from adapterstilts.study.distance import uriel

    return dict(uriel(languages, kind)), f"URIEL+ {kind} distance (Khan et al. 2025)"


def _tried(action: Callable[[], tuple[Distances, str]], warnings: list[str]) -> tuple[Distances, str]:
    """Distances are an addition: a report without them is still a report, and says why."""
    try:
        return action()
    except AdapterstiltsError as error:
        warnings.append(f"no distances: {error.what}" + (f" ({error.fix})" if error.fix else ""))
        return {}, ""


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
