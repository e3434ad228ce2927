"""The folder that google-research/xtreme's evaluate.py reads: <task>/test-<language>.<suffix>."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterstilts.errors import DataError, RecipeError
from adapterstilts.modules.composition import leaves
from adapterstilts.plan.graph import Cell, Plan, Stage
from adapterstilts.recipe.schema import Recipe
from adapterstilts.stages.specs import EvaluateSpec, RetrieveSpec
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.suites import Suite

Predictions = Iterable[Mapping[str, Any]]  # rows {id, prediction}, in the order of the data


def _labels(rows: Predictions) -> str:
    return "".join(f"{row['prediction']}\n" for row in rows)


def _choices(rows: Predictions) -> str:
    return "".join(json.dumps({"label": int(row["prediction"])}) + "\n" for row in rows)


def _tags(rows: Predictions) -> str:
    """One tag a line without its word; a blank line ends a sentence."""
    return "".join("".join(f"{tag}\n" for tag in row["prediction"]) + "\n" for row in rows)


def _answers(rows: Predictions) -> str:
    answers = {}
    for row in rows:
        if row["id"] in answers:
            raise DataError(f"two predictions for the question `{row['id']}`", why="evaluate.py looks answers up by id")
        answers[row["id"]] = row["prediction"]["text"]
    return json.dumps(answers, ensure_ascii=False, indent=1) + "\n"


# format -> (suffix, predictions as text); evaluate.py's readers by task (protocol 2.3)
FORMATS: Mapping[str, tuple[str, Callable[[Predictions], str]]] = {
    "classification": ("tsv", _labels),
    "multiple_choice": ("jsonl", _choices),
    "tagging": ("tsv", _tags),
    "span": ("json", _answers),
}


@dataclass(frozen=True)
class Choice:
    """Whose predictions: of an arm, a seed and a base; retrieval tasks by a module of the recipe, or ``base``."""

    arm: str
    retrieval: str
    base: str
    seed: int


def choose(
    recipe: Recipe, arm: str, *, seed: int | None = None, base: str | None = None, retrieval: str | None = None
) -> Choice:
    """Fill in what is not said: the only seed and base, and for retrieval the arm's own intermediate module.

    Raises:
        RecipeError: no such arm, several seeds or bases, a module that no ``retrieve`` entry has.
    """
    if arm not in recipe.arms:
        raise RecipeError(f"no arm `{arm}`", why=f"the recipe has {', '.join(recipe.arms) or 'none'}")
    searched = {module for entry in recipe.retrieve for module in entry.modules}
    entry = recipe.arms[arm]
    own = [entry.continue_] if entry.continue_ else leaves(entry.on)
    if retrieval is None:
        retrieval = own[0] if len(own) == 1 and own[0] in searched else "base"
    elif searched and retrieval not in searched:
        raise RecipeError(
            f"no retrieval with `{retrieval}`", why=f"there is retrieval with {', '.join(sorted(searched))}"
        )
    return Choice(arm, retrieval, _only("base", base, recipe.bases), _only("seed", seed, recipe.seeds))


def _only(what: str, asked: Any, there: Sequence[Any]) -> Any:
    if asked is None and len(there) == 1:
        return there[0]
    if asked not in there:
        named = ", ".join(map(str, there))
        raise RecipeError(
            f"no {what} `{asked}`" if asked is not None else f"several {what}s",
            why=f"there are {named}",
            fix=f"--{what}",
        )
    return asked


def submission(
    plan: Plan, store: Store, tasks: TaskRegistry, suite: Suite, choice: Choice, only: Iterable[str] = ()
) -> dict[str, str]:
    """``task/test-language.suffix`` -> content, for every task and language of the suite.

    Args:
        only: these tasks of the suite alone; evaluate.py scores what is there and prints no overall value.

    Raises:
        DataError: everything that is missing, cut by a limit, or made from other than the official data, at once.
    """
    read = [name for name in suite.tasks if name not in suite.unread]
    names = tuple(only) or read
    if wrong := [name for name in names if name not in read]:
        why = "; ".join(suite.unread.get(name, f"its files are of {', '.join(read)}") for name in wrong)
        raise RecipeError(f"{suite.name} has no file of {', '.join(wrong)}", why=why)
    files: dict[str, str] = {}
    problems: list[str] = []
    for name in names:
        spec = tasks.get(name)
        stage = _stage(plan, name, choice, searched=spec.searched)
        if stage is None or not store.has(stage.hash):
            who = choice.retrieval if spec.searched else choice.arm
            problems.append(f"{name}: {'not run yet' if stage else 'not in the recipe'} for `{who}`")
            continue
        problems += _problems(name, stage, suite.languages(spec), store)
        folder = store.path(stage.hash)
        absent = []
        for language in suite.languages(spec):
            found = _found(folder, language) if spec.searched else _rows(folder, language, spec.format)
            if found is None:
                absent.append(language)
            else:
                files[f"{name}/test-{language}.{found[0]}"] = found[1]
        if absent:
            problems.append(f"{name}: no predictions for {', '.join(absent)}")
    if problems:
        raise DataError(
            f"{suite.title or suite.name} cannot be exported for `{choice.arm}`; nothing was written",
            why="\n       ".join(problems),
            fix="run what is missing, or --only TASK for a part of the suite",
        )
    return files


def _stage(plan: Plan, task: str, choice: Choice, searched: bool) -> Stage | None:
    def fits(cell: Cell) -> bool:
        if cell.task != task or cell.base != choice.base:
            return False
        if searched:
            return (
                cell.kind == "retrieve"
                and cell.arm == choice.retrieval
                and (cell.arm == "base" or cell.seed == choice.seed)
            )
        return cell.kind == "evaluate" and cell.arm == choice.arm and cell.seed == choice.seed

    found = [plan.by_hash[cell.stage] for cell in plan.cells if fits(cell) and cell.stage in plan.by_hash]
    return next((stage for stage in found if not _limited(stage)), found[0] if found else None)


def _limited(stage: Stage) -> bool:
    return isinstance(stage.spec, EvaluateSpec | RetrieveSpec) and stage.spec.limit is not None


def _problems(name: str, stage: Stage, languages: Iterable[str], store: Store) -> Iterator[str]:
    if _limited(stage):
        yield f"{name}: scored on the first {stage.spec.limit} examples only"  # type: ignore[attr-defined]
    if isinstance(stage.spec, EvaluateSpec) and stage.spec.split != "test":
        yield f"{name}: scored on {stage.spec.split}, not on test"
    for language in languages:
        hash = stage.parents.get(f"data:{language}:test") or stage.parents.get(f"data:{language}")
        if hash and store.has(hash) and store.manifest(hash).get("facts", {}).get("stand_in"):
            yield f"{name}/{language}: the data are a stand-in, not the official ones"


def _rows(folder: Path, language: str, format: str) -> tuple[str, str] | None:
    path = folder / f"predictions.{language}.jsonl"
    if not path.is_file():
        return None
    suffix, written = FORMATS[format]
    with path.open(encoding="utf-8") as file:
        return suffix, written(map(json.loads, file))


def _found(folder: Path, language: str) -> tuple[str, str] | None:
    """Tatoeba's line numbers, BUCC's pairs of ids or ranked ids, as the retrieve stage wrote them."""
    for name in (f"{language}.test.tsv", f"{language}.tsv", f"{language}.test.json"):
        path = folder / f"predictions.{name}"
        if path.is_file():
            return path.suffix[1:], path.read_text(encoding="utf-8")
    return None


def write_submission(files: Mapping[str, str], out: Path, about: Mapping[str, Any]) -> None:
    """Write a whole submission or nothing; ``submission.json`` says what it was made from.

    Raises:
        DataError: ``out`` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError("there is something already", where=str(out), fix="--out a new folder")
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        for name, content in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8", newline="\n")
        (temporary / "submission.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        if out.exists():
            out.rmdir()
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
