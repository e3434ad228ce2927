"""lareqa: a question finds the sentences that answer it, in one pool that mixes all languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapterstilts.api.encoding import Encoding
from adapterstilts.api.places import PathLike
from adapterstilts.errors import DataError


def lareqa(
    data: PathLike | Mapping[str, Any],
    *,
    languages: Sequence[str] = (),
    context: bool = False,
    **encoding: Any,
) -> list[dict[str, Any]]:
    """Score rows ``map@20`` in percent: one for each question language, and their mean (language ``mean``).

    Right is every sentence, of any language in the pool, that answers the same question. Frozen embeddings and
    cosines: published figures are of dual encoders trained on SQuAD, with dot products.

    Args:
        languages: of questions and candidates; default all whose file is there. The pool is part of the figure.
        context: embed each candidate with its paragraph behind it.
        encoding: base, module, layer, pooling, kind, max_length, max_memory, store, say (`Encoding`).

    Raises:
        DataError: no file of XQuAD-R, or none of a language named.
    """
    from adapterstilts.data.root import DataRoot
    from adapterstilts.data.xquad_r import PLACE, pool_files, read_pool
    from adapterstilts.retrieval.answers import average_precision
    from adapterstilts.retrieval.budget import blocks_for
    from adapterstilts.retrieval.search import nearest

    files = pool_files(DataRoot.of(data if isinstance(data, Mapping) else str(data)))
    lacking = [language for language in languages if language not in files]
    if lacking or not files:
        what = f"no XQuAD-R of {', '.join(lacking)}" if lacking else "no XQuAD-R"
        raise DataError(what, where=str(data), why=f"xtreme/{PLACE}/<language>.json was looked for")
    pools = [read_pool(language, files[language]) for language in languages or files]
    texts: list[str] = []
    right: dict[str, set[int]] = {}
    for pool in pools:
        for name, rows in pool.answers.items():
            right.setdefault(name, set()).update(len(texts) + row for row in rows)
        pairs = zip(pool.sentences, pool.contexts, strict=True)
        texts += [f"{sentence} {paragraph}" if context else sentence for sentence, paragraph in pairs]
    encoder = Encoding(**encoding)
    corpus = encoder.vectors(texts, "candidates")
    made: list[dict[str, Any]] = []
    for pool in pools:
        asked = encoder.vectors([text for _, text in pool.questions], f"{pool.language} questions")
        width, limit = asked.shape[1], encoder.limit
        blocks = None if limit is None else blocks_for(limit, len(asked), len(texts), width, 20)
        _, found = nearest(asked, corpus, 20, blocks=blocks)
        values = [
            average_precision(row, right[name]) for (name, _), row in zip(pool.questions, found.tolist(), strict=True)
        ]
        made.append(_row(pool.language, sum(values) / len(values), len(values), encoder, len(texts)))
    mean = sum(row["value"] for row in made) / len(made)
    return [*made, _row("mean", mean / 100, sum(row["n"] for row in made), encoder, len(texts))]


def _row(language: str, value: float, n: int, encoder: Encoding, candidates: int) -> dict[str, Any]:
    layer, pooling = encoder.read
    row: dict[str, Any] = {"task": "lareqa", "arm": encoder.module or "base", "language": language, "split": "test"}
    row |= {"metric": "map@20", "layer": layer, "pooling": pooling}
    return {**row, "value": 100 * value, "n": n, "candidates": candidates}
