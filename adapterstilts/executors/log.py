"""The log of a stage, and its error as one message."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from adapterstilts.errors import AdapterstiltsError, StageFailed
from adapterstilts.plan.graph import Stage
from adapterstilts.store import Store


@contextmanager
def logged(store: Store, stage: Stage) -> Iterator[TextIO]:
    """The stage's log, open for writing; the traceback of an error is written into it."""
    with store.log(stage.hash).open("a", encoding="utf-8", buffering=1) as log:
        try:
            yield log
        except BaseException:
            traceback.print_exc(file=log)
            raise


def explained(error: Exception, stage: Stage, store: Store) -> AdapterstiltsError:
    """The error of a stage as one message that names the stage."""
    if isinstance(error, AdapterstiltsError):
        where = f"{stage.label}: {error.where}" if error.where else stage.label
        return type(error)(error.what, where=where, why=error.why, fix=error.fix)
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return StageFailed(what, where=stage.label, fix=f"see {store.log(stage.hash)}")
