"""Test text in the training text of a recipe; what was compared is remembered in the store by the data's identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from adapterstilts.data.sources import Resolved
from adapterstilts.errors import AdapterstiltsError
from adapterstilts.plan.graph import Plan
from adapterstilts.stages.specs import PrepareSpec
from adapterstilts.store import Store, write_text

if TYPE_CHECKING:
    from adapterstilts.api.planning import Planned
    from adapterstilts.data.leaks import Overlap

VERSION = 1  # raised when the comparison changes
NOTABLE = 0.01  # share of test examples with a single shared text that is worth a warning; whole examples always are
Say = Callable[[str], object]
Item = tuple[str, Resolved]  # identity of the data as they are read, and the data


def plan_items(plan: Plan, *, everything: bool) -> tuple[list[Item], list[Item]]:
    """(train sets, dev and test sets) of a plan that are on this machine.

    Args:
        everything: also the embedded world, whose splits are apart by construction, and plain text, which can be huge;
            a run does not look at these by itself.
    """
    trains: dict[str, Resolved] = {}
    tests: dict[str, Resolved] = {}
    for stage in plan.stages:
        if not isinstance(stage.spec, PrepareSpec):
            continue
        resolved = Resolved.from_plain(stage.spec.source)
        skipped = resolved.source.kind == "lab" or resolved.task.format == "masked_lm"
        if (skipped and not everything) or (resolved.source.kind == "hub" and not resolved.files):
            continue
        chosen = trains if resolved.split == "train" else tests
        chosen[digest([stage.spec.task, stage.spec.task_hash, stage.spec.split, stage.spec.data])] = resolved
    return list(trains.items()), list(tests.items())


def compare(
    trains: Sequence[Item], tests: Sequence[Item], store: Store, say: Say | None = None, *, read: bool = True
) -> list[Overlap]:
    """What every train set shares with every test set. Only pairs that were never compared are read.

    Args:
        say: told when something has to be read.
        read: False leaves out the pairs that were never compared.

    Raises:
        DataError: data that cannot be read.
    """
    from adapterstilts.data.leaks import Overlap, overlaps

    known = _remembered(store)
    keys = {(a, b): digest([VERSION, a, b]) for a, _ in trains for b, _ in tests}
    new = {pair for pair, key in keys.items() if key not in known}
    if new and read:
        if say is not None:
            say(f"comparing {len(trains)} train sets with {len(tests)} dev and test sets, once for these data")
        some = [item for item in trains if any(item[0] == a for a, _ in new)]
        others = [item for item in tests if any(item[0] == b for _, b in new)]
        for i, j, found in overlaps([data for _, data in some], [data for _, data in others]):
            known[keys[some[i][0], others[j][0]]] = {**asdict(found), "samples": list(found.samples)}
        _remember(store, known)
    plain = [known[key] for key in keys.values() if key in known]
    return [Overlap(**{**entry, "samples": tuple(entry["samples"])}) for entry in plain]


def warnings_of(found: Iterable[Overlap]) -> list[str]:
    """One line for each train set and test task that share something."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for pair in found:
        task, _, rest = pair.test.partition("/")
        language, _, split = rest.partition(" ")
        if pair.examples or pair.share >= NOTABLE:
            what = f"{pair.examples} of {pair.n} whole" if pair.examples else f"{pair.texts} of {pair.n} in part"
            groups.setdefault((pair.train, task, split), []).append(f"{language} {what}")
    return [
        f"leak: examples of {task} {split} are in {train}: {', '.join(each)}"
        for (train, task, split), each in groups.items()
    ]


def with_leaks(planned: Planned, say: Say | None = None, *, read: bool = True) -> Planned:
    """The plan with a warning for every leak. Data that cannot be read are left to the stage that reports them."""
    try:
        found = compare(*plan_items(planned.plan, everything=False), planned.store, say, read=read)
    except AdapterstiltsError:
        return planned
    warnings = tuple(dict.fromkeys([*planned.plan.warnings, *warnings_of(found)]))
    return replace(planned, plan=replace(planned.plan, warnings=warnings))


def _remembered(store: Store) -> dict[str, Mapping[str, Any]]:
    path = store.fingerprints.with_name("leaks.json")
    try:
        known: dict[str, Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # a cache is rebuilt, never an error
    return known


def _remember(store: Store, known: Mapping[str, Mapping[str, Any]]) -> None:
    write_text(store.fingerprints.with_name("leaks.json"), json.dumps(known, ensure_ascii=False))


def digest(value: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
