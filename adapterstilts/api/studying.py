"""The studies: find a study's recipe, run it, write its page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterstilts.api.pages import facts_of, nothing_measured
from adapterstilts.api.places import OURS, PathLike, open_tasks
from adapterstilts.api.planning import Planned, plan_recipe
from adapterstilts.api.running import Jobs, run
from adapterstilts.errors import DataError
from adapterstilts.results import example_scores, score_rows
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from adapterstilts.executors.events import Event
    from adapterstilts.report.studies.page import Study

STUDIES = ("sequential-vs-joint", "scale", "domain-shift", "multitask-vs-sequential", "distance", "transfer")
SUITES = ("lab", "real-files", "xtreme")


def study_recipe(name: str, suite: str = "lab") -> Path:
    """The recipe of a study: recipes/studies/NAME.SUITE.yaml, of the working directory or ours.

    Raises:
        DataError: there is none.
    """
    file = f"{name}.{suite}.yaml"
    places = [Path("recipes") / "studies" / file, OURS / "studies" / file]
    for path in places:
        if path.is_file():
            return path
    there = sorted(path.name.removesuffix(".yaml") for path in (OURS / "studies").glob("*.yaml"))
    why = f"there are {', '.join(there)}" if there else f"looked in {' and '.join(str(path.parent) for path in places)}"
    raise DataError(f"no study `{name}` of the suite `{suite}`", why=why, fix=f"one of {', '.join(STUDIES)}")


def plan_study(
    name: str,
    suite: str = "lab",
    *,
    bases: Sequence[str] = (),
    seeds: int | None = None,
    sets: Iterable[str] = (),
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> Planned:
    """The plan of a study; ``seeds`` is their number. Raises what `plan_recipe` raises,
    and MissingDependency where distances of real languages are asked for without urielplus."""
    sets = list(sets)
    changes = [f"bases=[{', '.join(bases)}]"] if bases else []
    changes += [f"seeds={list(range(seeds))}"] if seeds else []
    asked = [["--suite", suite]] if suite != "lab" else []
    asked += [["--base", base] for base in bases] + ([["--seeds", str(seeds)]] if seeds else [])
    asked += [["--set", text] for text in sets]
    command = shlex.join(["adapterstilts", "study", name, *chain.from_iterable(asked)])
    path = study_recipe(name, suite)
    planned = plan_recipe(path, [*changes, *sets], store=store, task_files=task_files, command=command)
    if planned.recipe.study.get("kinds"):
        from adapterstilts.study.distance import require_uriel

        require_uriel()  # now, and not when everything else is done
    return planned


def plan_transfer(
    intermediate: Sequence[str],
    targets: Sequence[str],
    suite: str = "lab",
    *,
    task_files: Iterable[PathLike] | TaskRegistry = (),
    **options: Any,
) -> Planned:
    """The transfer matrix of these tasks; settings, sizes and default tasks are those of the suite's recipe.

    Each intermediate module is trained once a base and seed; every target goes on from it. ``options`` are those of
    `plan_study`.

    Raises:
        RecipeError, DataError: unknown tasks, missing data.
    """
    registry = open_tasks(task_files)
    planned = plan_study("transfer", suite, task_files=registry, **options)
    if not intermediate and not targets:
        return planned
    plain = json.loads(planned.recipe.text)
    modules, arms = plain["modules"], plain["arms"]
    prefix = plain["study"]["prefix"]
    usual = dict(next(iter(modules.values())))
    if intermediate:
        plain["modules"] = {name: modules.get(name, {**usual, "train": [name]}) for name in intermediate}
        kept = {name: arm for name, arm in arms.items() if not name.startswith(prefix)}
        made = {f"{prefix}{name}": {"continue": name, "description": f"from {name}"} for name in intermediate}
        plain["arms"] = {**kept, **made}
    if targets:
        searched = [name for name in targets if registry.get(name).searched]
        known, usual = plain["targets"], dict(next(iter(plain["targets"].values())))
        trained = [name for name in targets if name not in searched]
        plain["targets"] = {name: known.get(name, {**usual, "task": name}) for name in trained}
        asked = [entry for entry in plain.get("retrieve", []) if set(entry["tasks"]) & set(searched)]
        rest = [name for name in searched if not any(name in entry["tasks"] for entry in asked)]
        plain["retrieve"] = [*asked, *([{"tasks": rest}] if rest else [])]
    for entry in plain.get("retrieve", []):
        entry["modules"] = ["base", *plain["modules"]]
    chosen = {"--intermediate": intermediate, "--target": targets}
    named = [word for option, names in chosen.items() if names for word in (option, ",".join(names))]
    return plan_recipe(
        plain, store=planned.store, task_files=registry, command=f"{planned.command} {shlex.join(named)}"
    )


def study_of(planned: Planned, rank: bool = False) -> Study:
    """What the run has measured so far says to the question of its study; ``rank`` adds predicted rankings.

    Raises:
        StoreError: nothing is measured yet. RecipeError: the recipe names no study.
    """
    from adapterstilts.report.studies import study

    rows = score_rows(planned.plan, planned.store)
    if not rows:
        raise nothing_measured(planned)
    facts = facts_of(planned, rows)
    told = roles(planned, facts)
    if rank:
        from adapterstilts.api.ranking import rankings

        told["rankings"] = rankings(planned)
    return study(rows, facts, told, example_scores(planned.store))


def roles(planned: Planned, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's ``study`` with what only the files know: sizes of bases, distances of every kind."""
    told = dict(planned.recipe.study)
    if told.get("name") == "scale":
        from adapterstilts.encoder.reference import locate, parameters

        told.setdefault("parameters", {base: parameters(locate(base)) for base in planned.recipe.bases})
    kinds = told.get("kinds")
    if told.get("name") == "distance" and kinds:
        from adapterstilts.study.distance import uriel

        told.setdefault("predictors", {kind: uriel(list(facts["languages"]), kind) for kind in kinds})
    return told


def study(
    name: str,
    suite: str = "lab",
    out: PathLike | None = None,
    *,
    jobs: Jobs = 1,
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> Study:
    """Run what is missing of a study and answer its question; with ``out`` its page is written there.

    ``options`` are those of `plan_study`: bases, seeds, sets, store, task_files.

    Raises:
        AdapterstiltsError: what planning or the first failed stage raises.
    """
    from adapterstilts.report.studies import build

    planned = plan_study(name, suite, **options)
    run(planned, jobs=jobs, on_event=on_event).raise_for_failure()
    made = study_of(planned)
    if out is not None:
        build(made, Path(out))
    return made
