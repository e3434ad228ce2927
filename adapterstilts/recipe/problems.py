"""All problems of a recipe in one error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from adapterstilts.errors import AdapterstiltsError, RecipeError


class InvalidRecipe(RecipeError):
    """A recipe with problems; ``problems`` holds each of them with its own place, reason and fix."""

    def __init__(self, problems: Sequence[RecipeError], name: str | None = None) -> None:
        self.problems = tuple(problems)
        self.name = name
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __str__(self) -> str:
        if len(self.problems) < 2:
            return self.what
        return f"{len(self.problems)} problems in {self.name or 'the recipe'}:\n{self.what}"

    def __reduce__(self) -> tuple[object, ...]:
        return (InvalidRecipe, (self.problems, self.name))


def raise_all(problems: Sequence[RecipeError], name: str | None = None) -> None:
    """Raise InvalidRecipe when there is any problem, each once and in the order of their places."""
    if problems:
        unique = {str(problem): problem for problem in problems}
        raise InvalidRecipe(sorted(unique.values(), key=_place), name)


def _place(problem: RecipeError) -> tuple[str, int]:
    file, _, line = (problem.where or "").rpartition(":")
    return (file, int(line)) if line.isdigit() else (problem.where or "", 0)


def nearest(word: str, known: Iterable[str], otherwise: str | None = None) -> str | None:
    """``did you mean ...?`` for a mistyped word, else the other hint."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return f"did you mean `{near[0]}`?" if near else otherwise


def placed(error: AdapterstiltsError, where: str | None) -> RecipeError:
    """The same error, told of a place in the recipe."""
    return RecipeError(error.what, where=where or error.where, why=error.why, fix=error.fix)
