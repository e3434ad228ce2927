"""The tasks there are: one YAML file each, read when asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapterstilts.errors import DataError, RecipeError
from adapterstilts.located import Located, read_file
from adapterstilts.tasks.spec import TaskSpec, merged

SHIPPED = Path(__file__).parent / "specs"


class TaskRegistry:
    """Names from the file names, specs read lazily. ``extra``: further YAML files or folders; later ones win."""

    def __init__(self, extra: Iterable[Path] = ()) -> None:
        self._paths = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
        for place in map(Path, extra):
            if not place.exists():
                raise DataError("no such task file", where=str(place), fix="check the path under `tasks:`")
            files = sorted(place.glob("*.yaml")) if place.is_dir() else [place]
            self._paths |= {path.stem: path for path in files}
        self._read: dict[str, Located] = {}

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
        if name not in self._read:
            self._read[name] = read_yaml(path)
        located = self._read[name]
        plain = merged({"name": name, **located.plain}, overrides or {})
        if isinstance(plain.get("labels"), Mapping):
            plain["labels"] = labels_of(plain["labels"], path)
        try:
            return TaskSpec.model_validate(plain)
        except ValidationError as error:
            raise explained(error, located, bool(overrides)) from error


def labels_of(reference: Mapping[str, Any], task: Path) -> list[str]:
    """Labels from ``{file: labels.txt}``, one a line: for large sets, and for those that may not be shipped (CCG).

    The path is taken from the working directory, else from the folder of the task's YAML.
    """
    places = [Path(str(reference.get("file", ""))), task.parent / str(reference.get("file", ""))]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DataError("no label file", where=str(task), why=f"looked for {places[0]}", fix="labels: {file: PATH}")
    return [line for line in found.read_text(encoding="utf-8").split("\n") if line]


def read_yaml(path: Path, kind: str = "task") -> Located:
    """The mapping in a YAML file whose name is the file's.

    Raises:
        RecipeError: not YAML, no mapping, a key twice, or another name than the file's, with file:line.
    """
    located = read_file(path, kind)
    name = located.plain.get("name", path.stem)
    if name != path.stem:
        where = located.where(("name",))
        raise RecipeError(f"the {kind} is named `{name}`", where=where, why=f"the file name is the name of the {kind}")
    return located


def explained(error: ValidationError, located: Located, overridden: bool = False) -> RecipeError:
    """The first thing that is wrong with a task or suite, at its line."""
    first = error.errors()[0]
    # Union members and validators appear in the location; only keys that occur in the file lead to a line.
    location = [part for part in first["loc"] if not str(part).startswith(("function-", "list[", "dict[", "tuple["))]
    field = ".".join(map(str, location)) or "it"
    where = f"{located.where(tuple(location))}" + (" (with the recipe's overrides)" if overridden else "")
    if first["type"] == "extra_forbidden":
        known = list(TaskSpec.model_fields) if len(location) == 1 else []
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        why = f"known are {', '.join(known)}" if known else "it has no meaning there"
        return RecipeError(
            f"unknown key `{field}`", where=where, why=why, fix=f"did you mean `{near[0]}`?" if near else "remove it"
        )
    return RecipeError(f"`{field}` cannot be this", where=where, why=first["msg"].removeprefix("Value error, "))
