"""Hidden states below all that trains: the same in every pass over the data, so computed once and kept on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapterstilts.data.prepared import Prepared
from adapterstilts.encoder.batch import by_length, lengths_of
from adapterstilts.modules.attach import Adapted
from adapterstilts.modules.held import Holding
from adapterstilts.settings import TrainSettings
from adapterstilts.training.course import Share
from adapterstilts.training.schedule import Schedule

_LAYER = re.compile(r"encoder\.layer\.(\d+)\.")


def hold_states(
    adapted: Adapted,
    shares: Mapping[str, Share],
    dev: Mapping[str, Prepared],
    schedule: Schedule,
    settings: TrainSettings,
    folder: Path,
    report: Callable[[float, str], None],
) -> tuple[dict[str, Share], dict[str, Prepared], dict[str, Any] | None]:
    """The shares and development splits, those that are read more than once with their hidden states.

    Args:
        shares: in the order of ``schedule.sizes``.
        folder: the stage's own; the states live as long as the stage is not done.

    Returns:
        ... and the facts for the manifest, None when nothing lies below what trains.
    """
    shares, dev = dict(shares), dict(dev)
    holding = Holding(adapted, layers_below(adapted), folder, report)
    if not holding.layers:
        return shares, dev, None
    why = _problem(adapted, settings)

    def parts(arrays: Any, chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        chosen = np.sort(chosen)
        lengths = lengths_of(arrays.rows, arrays.examples)[chosen]
        # No larger than an update.
        tokens = min(adapted.engine.tokens, int(settings.batch * lengths.mean()))
        return [chosen[part] for part in by_length(lengths, tokens)]

    for number, (key, share) in enumerate(shares.items()):
        size = len(share.chosen)
        if int((schedule.shares == number).sum()) * min(settings.batch, size) > size:
            reason = why or (share.masking and "every pass hides other words")
            if reason:
                holding.leave(key, reason)
            else:
                shares[key] = replace(share, arrays=holding.hold(key, share.arrays, parts(share.arrays, share.chosen)))
    for key, split in dev.items() if why is None and settings.evaluate > 1 else ():
        if split.task.format != "masked_lm":
            first = np.arange(min(settings.dev_limit, len(split.arrays)))
            dev[key] = replace(split, arrays=holding.hold(f"dev of {key}", split.arrays, parts(split.arrays, first)))
    return shares, dev, {"layers": holding.layers, "bytes": holding.bytes, "unused": holding.unused}


def layers_below(adapted: Adapted) -> int:
    """How many layers lie below every parameter that trains; one that belongs to no layer lies at the bottom."""
    found = map(_LAYER.search, adapted.trainable())
    return min((int(layer[1]) if layer else 0 for layer in found), default=0)


def _problem(adapted: Adapted, settings: TrainSettings) -> str | None:
    """Why nothing can be held in this run; None: it can."""
    if not adapted.engine.cache:
        return "engine.cache is 0"
    if not adapted.packed:
        return "runs padded"
    if settings.base_dropout:
        return "base_dropout draws other states in every pass"
    return "several processes share the updates" if int(os.environ.get("WORLD_SIZE", 1)) > 1 else None
