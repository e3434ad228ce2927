"""``vars`` and ``matrix``: what is written once and meant several times."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from adapterstilts.errors import RecipeError
from adapterstilts.located import Located, Steps
from adapterstilts.recipe.problems import nearest

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_SECTIONS = ("modules", "arms", "targets")
MOST = 10_000  # combinations of one matrix: more is a slip, and would take for ever before it is seen
Scope = Mapping[str, Any]


def expand(located: Located) -> tuple[Located, list[RecipeError]]:
    """The recipe with every ``${name}`` filled in and every ``matrix`` entry written out, and what went wrong.

    ``${name}`` alone keeps its value's type; inside a text it is put in as text.
    """
    work = _Expansion(located)
    plain = dict(located.plain)
    scope = work.scope(plain.pop("vars", None) or {})
    for key, value in plain.items():
        if key in _SECTIONS and isinstance(value, dict):
            work.section(key, value, scope)
        else:
            work.result.plain[key] = work.fill(value, (key,), (key,), scope)
    work.result.places.setdefault((), located.where(()) or "recipe")
    return work.result, work.problems


class _Expansion:
    def __init__(self, source: Located) -> None:
        self.source = source
        self.result = Located()
        self.problems: list[RecipeError] = []

    def fail(self, what: str, steps: Steps, **more: str | None) -> None:
        self.problems.append(RecipeError(what, where=self.source.where(steps), **more))

    def scope(self, variables: Any) -> Scope:
        """The variables with references to each other filled in."""
        if not isinstance(variables, dict):
            self.fail("`vars` is a mapping", ("vars",), fix="vars: {n: 200}")
            return {}
        done: dict[str, Any] = {}
        waiting = dict(variables)
        while waiting:
            ready = [name for name, value in waiting.items() if not _names(value) & set(waiting)]
            if not ready:
                name = next(iter(waiting))
                self.fail(f"the variable `{name}` refers to itself", ("vars", name), why=" and ".join(waiting))
                return {**done, **waiting}
            for name in ready:
                done[name] = self.fill(waiting.pop(name), ("vars", name), None, done)
        return done

    def section(self, section: str, entries: dict[str, Any], scope: Scope) -> None:
        """One of modules, arms, targets: matrix entries become one entry for each combination."""
        result: dict[str, Any] = {}
        self.result.plain[section] = result
        self._place((section,), (section,))
        for name, entry in entries.items():
            steps = (section, name)
            matrix = entry.get("matrix") if isinstance(entry, dict) else None
            for combination in self._combinations(matrix, steps, scope):
                inner = {**scope, **combination}
                full = str(self.fill(name, steps, None, inner))
                if full in result:
                    hint = f"name it `{name}-{'-'.join(f'${{{key}}}' for key in combination)}`" if combination else None
                    self.fail(f"two entries are named `{full}`", steps, fix=hint)
                    continue
                body = {k: v for k, v in entry.items() if k != "matrix"} if isinstance(entry, dict) else entry
                result[full] = self.fill(body, steps, (section, full), inner)

    def _combinations(self, matrix: Any, steps: Steps, scope: Scope) -> list[dict[str, Any]]:
        if matrix is None:
            return [{}]
        values = self.fill(matrix, (*steps, "matrix"), None, scope)
        if not isinstance(values, dict) or not all(isinstance(v, list) and v for v in values.values()) or not values:
            self.fail("`matrix` is a mapping of names to lists", (*steps, "matrix"), fix="matrix: {r: [4, 8]}")
            return []
        if (count := math.prod(map(len, values.values()))) > MOST:
            self.fail(f"a matrix of {count} combinations", (*steps, "matrix"), why=f"the most is {MOST}")
            return []
        return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]

    def _place(self, source: Steps, target: Steps | None) -> None:
        if target is not None and source in self.source.places:
            self.result.places[target] = self.source.places[source]

    def fill(self, value: Any, source: Steps, target: Steps | None, scope: Scope) -> Any:
        """A value with its variables filled in; its places move from ``source`` to ``target``."""
        self._place(source, target)
        if isinstance(value, dict):
            filled = {}
            for key, item in value.items():
                new = str(self.fill(key, (*source, key), None, scope))
                filled[new] = self.fill(item, (*source, key), None if target is None else (*target, new), scope)
            return filled
        if isinstance(value, list):
            return [
                self.fill(item, (*source, index), None if target is None else (*target, index), scope)
                for index, item in enumerate(value)
            ]
        if not isinstance(value, str) or "${" not in value:
            return value
        whole = _VARIABLE.fullmatch(value)
        if whole:
            return self._lookup(whole[1], source, scope)
        return _VARIABLE.sub(lambda match: str(self._lookup(match[1], source, scope)), value)

    def _lookup(self, name: str, steps: Steps, scope: Scope) -> Any:
        if name.strip() in scope:
            return scope[name.strip()]
        known = ", ".join(scope) or "none"
        self.fail(
            f"unknown variable `{name}`",
            steps,
            why=f"known are {known}",
            fix=nearest(name, scope, "write it under vars:"),
        )
        return f"${{{name}}}"


def _names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*(_names(item) | _names(key) for key, item in value.items()))
    if isinstance(value, list):
        return set().union(*map(_names, value))
    return {name.strip() for name in _VARIABLE.findall(value)} if isinstance(value, str) else set()
