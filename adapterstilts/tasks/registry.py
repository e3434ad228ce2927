"""The tasks there are: one YAML file each, read when asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from adapterstilts.errors import DataError, RecipeError
from adapterstilts.tasks.spec import TaskSpec, merged

SHIPPED = Path(__file__).parent / "specs"
# The C loader reads a file about ten times faster; a build of PyYAML without it still works.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class TaskRegistry:
    """Names from the file names, specs read lazily. ``extra``: further YAML files or folders; later ones win."""

    def __init__(self, extra: Iterable[Path] = ()) -> None:
        self._paths = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
        for place in map(Path, extra):
            if not place.exists():
                raise DataError("no such task file", where=str(place), fix="check the path under `tasks:`")
            files = sorted(place.glob("*.yaml")) if place.is_dir() else [place]
            self._paths |= {path.stem: path for path in files}
        self._plain: dict[str, dict[str, Any]] = {}

    def names(self) -> list[str]:
        return sorted(self._paths)

    def __contains__(self, name: str) -> bool:
        return name in self._paths

    def path(self, name: str) -> Path:
        """The YAML file of a task.

        Raises:
            RecipeError: unknown name, with the nearest known ones.
        """
        if name not in self._paths:
            near = difflib.get_close_matches(name, self._paths, n=3)
            raise RecipeError(
                f"no task `{name}`",
                why="a task is one YAML file; `adapterstilts ls tasks` lists them",
                fix=f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else None,
            )
        return self._paths[name]

    def get(self, name: str, overrides: Mapping[str, Any] | None = None) -> TaskSpec:
        """The spec of a task, with overrides merged in (mappings merge, lists are replaced).

        Raises:
            RecipeError: unknown name, broken YAML, unknown key or wrong value, with file:line.
        """
        path = self.path(name)
        if name not in self._plain:
            self._plain[name] = read_yaml(path)
        plain = merged({"name": name, **self._plain[name]}, overrides or {})
        if isinstance(plain.get("labels"), Mapping):
            plain["labels"] = labels_of(plain["labels"], path)
        try:
            return TaskSpec.model_validate(plain)
        except ValidationError as error:
            raise _explained(error, path, bool(overrides)) from error


def labels_of(reference: Mapping[str, Any], task: Path) -> list[str]:
    """Labels from ``{file: labels.txt}``, one a line: for large sets, and for those that may not be shipped (CCG).

    The path is taken from the working directory, else from the folder of the task's YAML.
    """
    places = [Path(str(reference.get("file", ""))), task.parent / str(reference.get("file", ""))]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataError("no label file", where=str(task), why=f"looked for {places[0]}", fix="labels: {file: PATH}")
    return [line for line in found.read_text(encoding="utf-8").split("\n") if line]


def read_yaml(path: Path) -> dict[str, Any]:
    """One mapping from a YAML file."""
    try:
        plain = yaml.load(path.read_bytes(), LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError("not readable as YAML", where=f"{path}:{line}", why=error.problem) from error
    except yaml.YAMLError as error:
        raise RecipeError("not readable as YAML", where=str(path), why=str(error).splitlines()[0]) from error
    if not isinstance(plain, dict):
        raise RecipeError("a task file holds a mapping", where=f"{path}:1", why=f"found {type(plain).__name__}")
    if plain.get("name", path.stem) != path.stem:
        raise RecipeError(
            f"the task is named `{plain['name']}`", where=str(path), why="the file name is the name of the task"
        )
    return plain


def _explained(error: ValidationError, path: Path, overridden: bool) -> RecipeError:
    first = error.errors()[0]
    # Union members and validators appear in the location; only keys that occur in the file lead to a line.
    location = [part for part in first["loc"] if not str(part).startswith(("function-", "list[", "dict[", "tuple["))]
    field = ".".join(map(str, location)) or "task"
    if first["type"] == "extra_forbidden":
        known = list(TaskSpec.model_fields) if len(location) == 1 else []
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        what, fix = f"unknown key `{field}`", f"did you mean `{near[0]}`?" if near else None
    else:
        what, fix = f"`{field}`: {first['msg'].removeprefix('Value error, ')}", None
    where = f"{path}:{line_of(path, location)}" + (" (with the recipe's overrides)" if overridden else "")
    return RecipeError(what, where=where, fix=fix)


def line_of(path: Path, location: Iterable[str | int]) -> int:
    """The line of the deepest part of a location that the YAML file has."""
    node = yaml.compose(path.read_text(encoding="utf-8"), LOADER)
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line
