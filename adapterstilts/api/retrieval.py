"""mine, nearest, embed: translation pairs, neighbours and embeddings of anyone's sentences."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapterstilts.api.encoding import Encoding
from adapterstilts.api.places import PathLike
from adapterstilts.api.texts import Texts, key, read_gold, read_texts
from adapterstilts.errors import BudgetError, DataError, RecipeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from adapterstilts.retrieval.mining import Duplicates, Margin, Retrieval
    from adapterstilts.retrieval.search import How
    from adapterstilts.retrieval.stored import Kind

BATCH = 256  # queries of a stream that are searched together


@dataclass(frozen=True)
class MinedPair:
    """Two sentences that translate each other as far as the margin says, and the lines (from 1) they stand on."""

    score: float
    source: str
    target: str
    source_lines: tuple[int, ...]
    target_lines: tuple[int, ...]


@dataclass(frozen=True)
class MinedPairs:
    """Pairs, best first, and how they were found."""

    pairs: list[MinedPair]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hits:
    """For each query its neighbours, nearest first: cosines [n, k] and rows of the corpus [n, k]."""

    similarities: NDArray[np.float32]
    indices: NDArray[np.int64]
    facts: dict[str, Any] = field(default_factory=dict)


def embed(sentences: Texts, *, kind: Kind = "fp32", **encoding: Any) -> NDArray[np.floating[Any]]:
    """[sentences, d] embeddings of a file's lines or of a list, memory-mapped from the store that keeps them.

    Args:
        encoding: base, module, layer, pooling, max_length, max_memory, store, say (`Encoding`).

    Raises:
        DataError: no such file. RecipeError: no such layer. StoreError: no such module. BudgetError: it cannot fit.
    """
    return Encoding(kind=kind, **encoding).vectors(*read_texts(sentences))


def mine(
    source: Texts,
    target: Texts,
    *,
    neighbours: int = 4,
    margin: Margin = "ratio",
    retrieval: Retrieval = "max",
    duplicates: Duplicates = "expand",
    centre: bool = False,
    threshold: float | None = None,
    top: int | None = None,
    gold: PathLike | Collection[tuple[str, str]] | None = None,
    precision: float | None = None,
    how: How = "auto",
    index: str | None = None,
    **encoding: Any,
) -> MinedPairs:
    """Translation pairs of two sentence files (or lists), best first.

    Empty lines are left out; equal lines are embedded once, and ``duplicates`` says what becomes of them: ``expand``
    keeps them as one pair with all their lines, ``drop`` loses them, as LASER and XTREME do.

    Args:
        centre: search vectors minus the mean of their own file, as the benchmarks report beside the raw ones.
        threshold, top: take pairs that score at least this, and at most so many.
        gold: true pairs (a file of source TAB target, or of score TAB source TAB target); gives the threshold: the
            lowest with ``precision`` percent of the judged pairs right, else that of the best F1.
        how: ``faiss``, ``one_pass``, ``bf16``, ``gpu``, or what is fastest for these sizes; all exact.
        index: a FAISS factory string for approximate search instead; its recall is measured (facts).
        encoding: base, module, layer, pooling, kind, max_length, max_memory, store, say (`Encoding`).

    Raises:
        BudgetError: impossible within ``max_memory``. DataError: files that are missing or empty, a precision that no
        threshold reaches. RecipeError: options that exclude each other.
    """
    if precision is not None and gold is None:
        raise RecipeError("a precision needs pairs to estimate it on", fix="--gold pairs.tsv")
    if threshold is not None and gold is not None:
        raise RecipeError("a threshold and gold pairs", why="gold pairs give the threshold", fix="leave one out")
    from adapterstilts.retrieval.mining import mine, unify

    encoder = Encoding(**encoding)
    known = set() if gold is None else read_gold(gold)
    sides, vectors, texts = [], [], []
    for given in (source, target):
        lines, name = read_texts(given)
        # Blank lines are no sentences; the others keep their line numbers, counted from 1.
        pairs = [(str(place), text) for place, text in enumerate(lines, start=1) if text]
        unified = unify(pairs, duplicates)
        texts.append([pairs[row][1] for row in unified.rows])
        sides.append([tuple(map(int, names)) for names in unified.ids])
        vectors.append(encoder.vectors(texts[-1], name))
    if centre:
        vectors = _centred(vectors, encoder.limit)
    found, facts = _search(vectors[0], vectors[1], neighbours, how, index, encoder.limit)
    mined = mine(found, margin=margin, retrieval=retrieval)
    made = [
        MinedPair(score, texts[0][i], texts[1][j], sides[0][i], sides[1][j])
        for i, j, score in zip(mined.source.tolist(), mined.target.tolist(), mined.scores.tolist(), strict=True)
        if sides[0][i] and sides[1][j]
    ]
    made.sort(key=lambda pair: -pair.score)
    facts |= encoder.facts
    facts |= {"margin": margin, "neighbours": neighbours, "retrieval": retrieval, "duplicates": duplicates}
    facts |= {"centred": centre}
    facts |= {"sources": len(texts[0]), "targets": len(texts[1]), "candidates": len(made)}
    if known:
        threshold = _estimated(made, known, precision, facts)
    if threshold is not None:
        made = [pair for pair in made if pair.score >= threshold]
    made = made[:top]
    return MinedPairs(made, facts | {"threshold": threshold, "pairs": len(made)})


def nearest(
    corpus: Texts, queries: Texts, *, k: int = 1, index: str | None = None, centre: bool = False, **encoding: Any
) -> Hits:
    """The k corpus sentences nearest to each query by cosine. Every line counts, also an empty one.

    Args:
        centre: search vectors minus the mean of their own file.
    """
    from adapterstilts.retrieval.search import nearest

    encoder = Encoding(**encoding)
    y = encoder.vectors(*read_texts(corpus))
    x = encoder.vectors(*read_texts(queries))
    if centre:
        x, y = _centred([x, y], encoder.limit)
    blocks = _blocks(encoder.limit, x, len(x), len(y), k)
    facts: dict[str, Any] = {"how": index or "faiss", "k": min(k, len(y)), "centred": centre, **encoder.facts}
    if index is None:
        return Hits(*nearest(x, y, k, blocks=blocks), {**facts, "search_recall": 1.0})
    from adapterstilts.retrieval.approximate import nearest_approximate

    found, recall, taken = nearest_approximate(x, y, k, index, room=_room(encoder.limit), blocks=blocks)
    return Hits(*found, facts | {"search_recall": recall, "index_bytes": taken})


def nearest_stream(
    corpus: Texts, queries: Iterable[str], *, k: int = 1, batch: int = BATCH, **encoding: Any
) -> Iterator[tuple[str, list[tuple[float, str]]]]:
    """(query, [(cosine, corpus sentence)]) for queries as they come; nothing of them is kept."""
    from adapterstilts.data.tokenise import batched
    from adapterstilts.retrieval.search import nearest

    encoder = Encoding(**encoding)
    texts, name = read_texts(corpus)
    y = encoder.vectors(texts, name)
    loaded, (layer, pooling) = encoder.load(), encoder.read
    blocks = _blocks(encoder.limit, y, batch, len(y), k)
    for chunk in batched((query.strip() for query in queries), batch):
        x = loaded.encode(chunk, layer=layer, pooling=pooling, max_length=encoder.max_length)
        for query, similarities, places in zip(chunk, *nearest(x, y, k, blocks=blocks), strict=True):
            yield query, [(float(s), texts[j]) for s, j in zip(similarities, places.tolist(), strict=True)]


def _centred(vectors: list[Any], limit: int | None) -> list[Any]:
    """Each side minus its own mean, in memory.

    Raises:
        BudgetError: both sides in fp32 leave no room for the search.
    """
    from adapterstilts.retrieval.budget import resident, size
    from adapterstilts.retrieval.neighbours import center

    taken = sum(4 * side.size for side in vectors)
    if limit is not None and resident() + taken > limit:
        raise BudgetError(
            f"centred vectors take {size(taken)}",
            why=f"the process holds {size(resident())} of {size(limit)}, and they are kept in memory",
            fix="a larger --max-memory, or raw vectors",
        )
    return [center(side) for side in vectors]


def _search(x: Any, y: Any, k: int, how: How, index: str | None, limit: int | None) -> tuple[Any, dict[str, Any]]:
    """Neighbours both ways within the limit, and what is to be said of the search."""
    if index is None:
        from adapterstilts.retrieval.search import plan_search, search

        way = plan_search(len(x), len(y), x.shape[1], how)
        found = search(x, y, k, way, blocks=_blocks(limit, x, len(x), len(y), k))
        return found, {"how": found.how, "search_recall": 1.0}
    if how != "auto":
        raise RecipeError("--how and --index", why="an index is another way of searching", fix="leave one of them out")
    from adapterstilts.retrieval.approximate import search_approximate

    near = search_approximate(x, y, k, index, room=_room(limit), blocks=_blocks(limit, x, len(x), len(y), k))
    facts = {"how": index, "search_recall": near.recall, "back_search_recall": near.back_recall}
    return near.neighbours, facts | {"index_bytes": near.bytes}


def _estimated(
    made: list[MinedPair], gold: set[tuple[str, str]], precision: float | None, facts: dict[str, Any]
) -> float:
    """The threshold that the gold pairs give; what it promises goes into the facts."""
    from adapterstilts.retrieval.threshold import above, f1_curve, judged, pair_f1, precision_threshold

    found = judged({(key(pair.source), key(pair.target)): pair.score for pair in made}, gold)
    threshold = f1_curve(found, gold).threshold if precision is None else precision_threshold(found, gold, precision)
    if threshold is None:
        raise DataError(
            f"no threshold gives a precision of {precision} percent",
            why=f"{len(found)} of the mined pairs can be judged by {len(gold)} gold pairs",
            fix="a lower precision, more gold pairs, or another layer (retrieve tune-layer)",
        )
    facts |= {"gold": len(gold), "judged": len(found), **pair_f1(above(found, threshold), gold)}
    return threshold


def _blocks(limit: int | None, vectors: Any, n: int, m: int, k: int) -> Any:
    from adapterstilts.retrieval.budget import blocks_for

    width, bytes_per_value = vectors.shape[1], vectors.itemsize
    return None if limit is None else blocks_for(limit, n, m, width, k, bytes_per_value=bytes_per_value)


def _room(limit: int | None) -> int | None:
    """What an index may take: half of what is left, the other half is for the blocks."""
    from adapterstilts.retrieval.budget import resident

    return None if limit is None else (limit - resident()) // 2
