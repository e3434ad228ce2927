"""tune-layer: which layer and pooling of an encoder to search with, chosen on development data only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapterstilts.api.encoding import Encoder, Say, record_layer
from adapterstilts.api.places import PathLike, open_tasks
from adapterstilts.api.texts import Texts, read_texts
from adapterstilts.errors import DataError, RecipeError
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

if TYPE_CHECKING:
    from adapterstilts.data.bitext import BitextData
    from adapterstilts.retrieval.stored import Pooling

POOLINGS: tuple[Pooling, ...] = ("mean", "cls")


@dataclass(frozen=True)
class Tuned:
    """The best layer and pooling, raw cosines; and the whole grid it was chosen from.

    ``grid`` rows: layer, pooling, variant (raw or centred), value (percent, mean over the languages), languages (each
    one's value), published (whether it is one of the layers of published figures). ``path``: where it is recorded.
    """

    layer: int
    pooling: Pooling
    value: float
    metric: str
    data: dict[str, Any]
    grid: list[dict[str, Any]]
    path: Path


def tune_layer(
    task: str | None = None,
    *,
    pairs: tuple[Texts, Texts] | None = None,
    languages: Sequence[str] = (),
    base: str | None = None,
    module: str | None = None,
    poolings: Sequence[Pooling] = POOLINGS,
    limit: int | None = None,
    max_length: int = 512,
    data: PathLike | Mapping[str, Any] | None = None,
    tasks: Iterable[PathLike] | TaskRegistry = (),
    store: PathLike | Store | None = None,
    say: Say | None = None,
) -> Tuned:
    """Score every layer and pooling on a bitext task's dev split, or on aligned pairs, and record the best.

    A BUCC-type task is scored by the F1 of mined pairs, Tatoeba and ``pairs`` by accuracy (second side to first). A
    task without dev split needs ``languages``: they are held out, and are no test languages any more.

    Args:
        pairs: two files or lists, line by line translations of each other.
        limit: sentences of each side.

    Raises:
        RecipeError: not a bitext task, or nothing that could serve as development data. DataError: data is missing.
    """
    encoder = Encoder.of(base, module, store)
    if (task is None) == (pairs is None):
        raise RecipeError("what to tune on?", why="a task, or pairs of your own", fix="tune-layer bucc2018")
    if pairs is not None:
        metric, split, sets = "accuracy", "pairs", {"pairs": _own(pairs, limit)}
    else:
        metric, split, sets = _of_task(str(task), languages, data, open_tasks(tasks), limit)
    layers = list(range(encoder.layers + 1))
    cells: dict[tuple[Pooling, int, str], dict[str, float]] = {}
    for language, bitext in sets.items():
        stored = [
            encoder.embedded(
                [text for _, text in side],
                layers,
                poolings=poolings,
                kind="fp32",
                max_length=max_length,
                name=f"{language} {name}",
                say=say,
            )
            for name, side in (("source", bitext["source"]), ("target", bitext["target"]))
        ]
        for pooling in poolings:
            sides = [{layer: each.layer(layer, pooling) for layer in layers} for each in stored]
            for row in _scores(language, bitext, sides, metric, split, layers[-1]):
                cells.setdefault((pooling, row["layer"], row["variant"]), {})[language] = row["value"]
    published = encoder.published()
    grid: list[dict[str, Any]] = [
        {
            "layer": layer,
            "pooling": pooling,
            "variant": variant,
            "value": sum(values.values()) / len(values),
            "languages": values,
            "published": layer in published,
        }
        for (pooling, layer, variant), values in cells.items()
    ]
    # Raw: that is what mine and nearest search with. Among equals the lowest layer, which is also the cheapest.
    best = max(
        (row for row in grid if row["variant"] == "raw"),
        key=lambda row: (row["value"], -row["layer"], row["pooling"] == "mean"),
    )
    used: dict[str, Any] = {"task": task or "pairs", "split": split, "languages": list(sets), "limit": limit}
    record = {
        "layer": best["layer"],
        "pooling": best["pooling"],
        "value": best["value"],
        "metric": metric,
        "data": used,
    }
    record |= {"base": encoder.base, "module": encoder.module, "identity": encoder.identity, "grid": grid}
    path = record_layer(encoder, record)
    return Tuned(best["layer"], best["pooling"], best["value"], metric, used, grid, path)


def _own(pairs: tuple[Texts, Texts], limit: int | None) -> BitextData:
    from adapterstilts.data.bitext import aligned

    first, second = (read_texts(side)[0][:limit] for side in pairs)
    if len(first) != len(second):
        raise DataError(f"{len(first)} and {len(second)} lines", why="line by line translations are of equal number")
    return aligned(first, second)


def _of_task(
    name: str,
    languages: Sequence[str],
    data: PathLike | Mapping[str, Any] | None,
    registry: TaskRegistry,
    limit: int | None,
) -> tuple[str, str, dict[str, BitextData]]:
    """(metric, split, language -> data set) of the development data that a task has."""
    from adapterstilts.data.bitext import load_bitext
    from adapterstilts.data.root import DataRoot
    from adapterstilts.data.sources import resolve

    spec = registry.get(name)
    if spec.format != "bitext":
        raise RecipeError(f"`{name}` is no bitext task", why=f"its format is {spec.format}", fix="tune-layer bucc2018")
    split = "dev" if "dev" in spec.splits else "test"
    if split == "test" and not languages:
        raise RecipeError(
            f"`{name}` has no development split",
            why="a layer chosen on its test languages would be reported on what it was chosen on",
            fix="--languages names some to hold out; they do not count as test languages then",
        )
    root = DataRoot.of(str(data) if data is not None and not isinstance(data, Mapping) else data)
    found = {}
    for language in languages or spec.languages:
        resolved = resolve(spec, language, split, root, registry)
        if languages or resolved.present:
            found[language] = _limited(load_bitext(resolved), limit)
    if not found:
        raise DataError(f"no data of `{name}`", why=f"no language has its {split} split", fix="--data FOLDER")
    return ("f1" if str(spec.metric) == "bucc" else "accuracy"), split, found


def _limited(bitext: BitextData, limit: int | None) -> BitextData:
    if limit is None:
        return bitext
    source, target = bitext["source"][:limit], bitext["target"][:limit]
    known = {name for name, _ in source}, {name for name, _ in target}
    gold = [(s, t) for s, t in bitext["gold"] or () if s in known[0] and t in known[1]]
    return {"source": source, "target": target, "gold": gold}


def _scores(
    language: str, bitext: BitextData, sides: list[dict[int, Any]], metric: str, split: str, last: int
) -> list[dict[str, Any]]:
    from adapterstilts.retrieval.scoring import Bitext, bucc_scores, tatoeba_scores

    made = Bitext(bitext["source"], bitext["target"], bitext["gold"], sides[0], sides[1])
    if metric == "f1":
        rows = bucc_scores(language, made, None).rows
    else:
        rows = tatoeba_scores(language, made, layer=last, split=split)
    return [row for row in rows if row["metric"] == metric]
