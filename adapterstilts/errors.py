"""The errors a user can cause, each with a place, a reason and a fix.

Exit codes: 1 a stage failed, 2 usage or invalid recipe, 3 missing or bad data, 4 budget refused, 5 store
corruption or lock, 6 missing optional dependency.
"""

from __future__ import annotations

from adapterstilts.redact import redacted


class AdapterstiltsError(Exception):
    """An error with one clear message: what and where, why, and the command that fixes it."""

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, fix: str | None = None) -> None:
        # What a library said may hold a token that it was given.
        self.what = redacted(what)
        self.where = where and redacted(where)
        self.why = why and redacted(why)
        self.fix = fix and redacted(fix)
        super().__init__(str(self))

    def __str__(self) -> str:
        first = f"{self.where}: {self.what}" if self.where else self.what
        return "\n".join(
            line for line in (first, self.why and f"  why: {self.why}", self.fix and f"  fix: {self.fix}") if line
        )

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders in the local pool; the default would call __init__ with one argument.
        return (_rebuild, (type(self), self.what, self.where, self.why, self.fix))


def _rebuild(
    kind: type[AdapterstiltsError], what: str, where: str | None, why: str | None, fix: str | None
) -> AdapterstiltsError:
    return kind(what, where=where, why=why, fix=fix)


class StageFailed(AdapterstiltsError):
    """A stage ran and could not give a sound result."""


class RecipeError(AdapterstiltsError):
    """The recipe, the command line or a composition is wrong."""

    exit_code = 2


class DataError(AdapterstiltsError):
    """A file is missing, broken or of another kind than the task says."""

    exit_code = 3


class BudgetError(AdapterstiltsError):
    """The run cannot fit into the memory given."""

    exit_code = 4


class StoreError(AdapterstiltsError):
    """An artifact is truncated, altered, locked or of another base."""

    exit_code = 5


class MissingDependency(AdapterstiltsError):
    """An optional package is absent."""

    exit_code = 6
