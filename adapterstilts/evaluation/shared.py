"""Modules measured on the same data that begin above the same layers of one base: these run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapterstilts.data.prepared import Prepared
from adapterstilts.evaluation.predict import chunks
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.branches import beneath
from adapterstilts.modules.held import Holding


@contextmanager
def with_shared_states(
    adapted: Adapted,
    prepared: Prepared,
    key: str,
    *,
    base: str,
    limit: int | None,
    folder: Path,
    shared: Path,
    report: Callable[[float, str], None],
) -> Iterator[tuple[Prepared, Holding | None]]:
    """The split with the hidden states below the active module, from ``shared`` or computed and left there.

    Batches are those of scoring, so scores have the same bits in every precision. Of masked_lm nothing is shared.

    Args:
        base: fingerprint of the base's weights.
        folder: the stage's own.
    """
    layers, does = beneath(adapted)
    if not layers or not adapted.engine.cache or prepared.task.format == "masked_lm":
        yield prepared, None
        return
    holding = Holding(adapted, layers, folder, report, shared, [base, *does])
    parts = [part for chunk in chunks(prepared.arrays, adapted.engine.tokens, limit) for part in chunk]
    try:
        yield replace(prepared, arrays=holding.hold(key, prepared.arrays, parts)), holding
    finally:
        holding.let_go()


def shared_facts(holdings: Sequence[Holding]) -> dict[str, Any] | None:
    """What a manifest says of the states of a stage's languages; None where nothing lies below the module.

    ``found``: the languages whose states another stage had computed.
    """
    if not holdings:
        return None
    return {
        "layers": max(holding.layers for holding in holdings),
        "bytes": sum(holding.bytes for holding in holdings),
        "found": [key for holding in holdings for key in holding.found],
        "unused": {key: why for holding in holdings for key, why in holding.unused.items()},
    }
