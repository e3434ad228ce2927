"""Reading bitext data sets: two sides and, when known, which sentences belong together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

from adapterstilts.data.lines import lines_of
from adapterstilts.data.readers import READERS
from adapterstilts.data.rows import read
from adapterstilts.data.sources import Resolved
from adapterstilts.errors import DataError

Side = list[tuple[str, str]]


class BitextData(TypedDict):
    """``source``: foreign (id, text); ``target``: English; ``gold``: (source id, target id), None when withheld."""

    source: Side
    target: Side
    gold: list[tuple[str, str]] | None


def load_bitext(resolved: Resolved) -> BitextData:
    """A bitext data set from any source.

    Line files (Tatoeba) get 0-based line numbers as ids. With ``sort_target`` the English side is sorted as XTREME
    sorts it, so that predictions are the integers its scorer expects.

    Raises:
        DataError: missing files, an empty side, gold ids that no sentence has.
    """
    resolved.require()
    source = resolved.source
    if source.kind == "lab":
        data = _from_lab(resolved)
    elif source.kind == "hub" or "rows" in resolved.files:
        data = _from_pairs(resolved)
    else:
        data = _from_files(resolved)
    _check(data, resolved)
    return data


def _from_lab(resolved: Resolved) -> BitextData:
    from adapterstilts import lab

    name = f"{resolved.source.task}/{resolved.language}/{resolved.split}"
    try:
        made = lab.bitext(
            str(resolved.source.task),
            resolved.language,
            resolved.split,
            resolved.size or 0,
            seed=resolved.source.seed,
        )
    except ValueError as error:
        raise DataError("the lab cannot make this", where=name, why=str(error)) from error
    return BitextData(source=made["source"], target=made["target"], gold=made["gold"])


def _from_pairs(resolved: Resolved) -> BitextData:
    rows = [row.values for row in read(resolved)]
    foreign = [str(row["source"]) for row in rows]
    return aligned(foreign, [str(row["target"]) for row in rows])


def aligned(foreign: Sequence[str], english: Sequence[str]) -> BitextData:
    """Line-aligned sentences as XTREME's Tatoeba: English sorted by text, gold = where each line went."""
    order = sorted(range(len(english)), key=lambda i: english[i])
    return BitextData(
        source=[(str(i), text) for i, text in enumerate(foreign)],
        target=[(str(place), english[i]) for place, i in enumerate(order)],
        gold=sorted(((str(i), str(place)) for place, i in enumerate(order)), key=lambda pair: int(pair[0])),
    )


def _from_files(resolved: Resolved) -> BitextData:
    numbered = resolved.source.reader == "lines"
    sides = {role: _side(resolved.files[role], numbered) for role in ("source", "target")}
    if resolved.source.sort_target:
        texts = {role: [text for _, text in side] for role, side in sides.items()}
        if len(texts["source"]) != len(texts["target"]):
            raise DataError(
                f"{len(texts['source'])} and {len(texts['target'])} lines are not aligned",
                where=f"{resolved.files['source'][0]}:{min(map(len, texts.values())) + 1}",
            )
        return aligned(texts["source"], texts["target"])
    gold = None
    if "gold" in resolved.files:
        gold = _pairs(resolved.files["gold"][0])
    elif resolved.gold is not None:
        path = resolved.gold_files[0]
        gold = _indices(path) if resolved.gold.form == "indices" else _pairs(path)
    return BitextData(source=sides["source"], target=sides["target"], gold=gold)


def _side(paths: Sequence[Path], numbered: bool) -> Side:
    if numbered:
        # Every line counts, also an empty one: gold files name lines by number.
        texts = [line.strip() for path in paths for _, line in lines_of(path)]
        return [(str(i), text) for i, text in enumerate(texts)]
    return [(row.values["id"], row.values["text"].strip()) for path in paths for row in READERS["pairs"](path, {})]


def _pairs(path: Path) -> list[tuple[str, str]]:
    return [(row.values["id"], row.values["text"].strip()) for row in READERS["pairs"](path, {})]


def _indices(path: Path) -> list[tuple[str, str]]:
    return [(str(i), line.strip()) for i, (_, line) in enumerate(lines_of(path)) if line.strip()]


def _check(data: BitextData, resolved: Resolved) -> None:
    known: dict[str, set[str]] = {}
    sides: tuple[tuple[Literal["source", "target"], Side], ...] = (
        ("source", data["source"]),
        ("target", data["target"]),
    )
    for role, side in sides:
        if not side:
            raise DataError(f"the {role} side is empty", where=_where(resolved, role))
        known[role] = {key for key, _ in side}
        if len(known[role]) != len(side):
            seen: set[str] = set()
            twice = next(key for key, _ in side if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise DataError(f"ids of the {role} side repeat", where=_where(resolved, role, twice), why=f"like {twice}")
        if blank := next((key for key, text in side if not text.strip()), None):
            raise DataError(f"sentence {blank} of the {role} side is empty", where=_where(resolved, role, blank))
    for first, second in data["gold"] or ():
        if first not in known["source"] or second not in known["target"]:
            raise DataError(f"gold pair {first} {second} names no sentence", where=_where(resolved, "gold", first))


def _where(resolved: Resolved, role: str, key: str | None = None) -> str:
    """file:line of a sentence or pair (of its last occurrence); looked up only when there is something to say."""
    paths = resolved.files.get(role) or (resolved.gold_files if role == "gold" else ())
    if not paths:
        return f"{resolved.task.name}/{resolved.language} {resolved.split} ({resolved.source.name})"
    if key is None:
        return f"{paths[0]}:1"
    if resolved.source.sort_target and role == "target":  # keys are places in the sorted file
        return next(f"{paths[0]}:{number}" for number, line in lines_of(paths[0]) if not line.strip())
    if resolved.source.reader == "lines":
        return f"{paths[0]}:{int(key) + 1}"
    return [row.where for path in paths for row in READERS["pairs"](path, {}) if row.values["id"] == key][-1]
