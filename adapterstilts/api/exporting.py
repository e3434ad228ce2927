"""Results in the forms of others."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapterstilts.api.places import PathLike
from adapterstilts.api.showing import Source, find_planned
from adapterstilts.results.submission import choose, submission, write_submission
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.suites import get_suite


def export_xtreme(
    source: Source,
    out: PathLike,
    *,
    arm: str,
    suite: str = "xtreme",
    only: Iterable[str] = (),
    seed: int | None = None,
    base: str | None = None,
    retrieval: str | None = None,
    sets: Iterable[str] = (),
    store: PathLike | Store | None = None,
    task_files: Iterable[PathLike] | TaskRegistry = (),
) -> dict[str, Any]:
    """Write the predictions of an arm of a recipe or run as google-research/xtreme's evaluate.py reads them.

    Returns:
        {schema_version, name, folder, suite, arm, retrieval, base, seed, tasks: {task: languages}, absent}

    Raises:
        DataError: a language without predictions, a limit, stand-in data; nothing is written then.
    """
    planned = find_planned(source, sets, store=store, task_files=task_files)
    chosen, whole = choose(planned.recipe, arm, seed=seed, base=base, retrieval=retrieval), get_suite(suite)
    files = submission(planned.plan, planned.store, planned.tasks, whole, chosen, only)
    counts: dict[str, int] = {}
    for name in files:
        counts[name.partition("/")[0]] = counts.get(name.partition("/")[0], 0) + 1
    about = {
        "schema_version": 1,
        "name": planned.recipe.name,
        "suite": whole.name,
        **asdict(chosen),
        "tasks": counts,
        "unread": dict(whole.unread),
    }
    write_submission(files, Path(out), about)
    return {**about, "folder": str(Path(out))}
