"""Exact nearest neighbours by cosine, both directions of a sentence retrieval task, in bounded memory.

Four ways give the same neighbours: two FAISS searches (``IndexFlatIP``, as LASER and XTREME do), one blocked fp32
product that serves both directions, one bf16 product with proven candidates rescored in fp32, and that on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from adapterstilts.errors import MissingDependency
from adapterstilts.retrieval.budget import Blocks
from adapterstilts.retrieval.choice import SMALL, choose
from adapterstilts.retrieval.neighbours import Indices, Neighbours, Similarities, Vectors, checked, unit
from adapterstilts.retrieval.one_pass import Best, both_directions

How = Literal["auto", "faiss", "one_pass", "bf16", "gpu"]

_BLOCKS = Blocks()
_GROUP = 8  # scores of a row looked at through their maximum first


def nearest(
    queries: Vectors,
    corpus: Vectors,
    k: int,
    *,
    threads: int | None = None,
    device: str = "cpu",
    blocks: Blocks | None = None,
) -> tuple[Similarities, Indices]:
    """The k corpus rows nearest to each query by cosine: similarities [n, k] falling, and their indices [n, k].

    k becomes min(k, m). On the CPU through FAISS ``IndexFlatIP`` on normalised copies, block by block; on another
    device through faiss-gpu where it is installed, else torch in full float32. ``threads`` holds for this FAISS search
    only. ``blocks`` bounds the memory (`budget.blocks_for`) and never changes the result. Raises DataError on unusable
    shapes, MissingDependency without FAISS.
    """
    k = checked(queries, corpus, k)
    sizes = blocks or _BLOCKS
    block = _faiss_block if device == "cpu" or _has_faiss_gpu() else _torch_block
    similarities = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    with _faiss_threads(threads if device == "cpu" else None):
        for start in range(0, len(queries), sizes.queries):
            asked = unit(queries[start : start + sizes.queries])
            best = Best(len(asked), k)
            for offset in range(0, len(corpus), sizes.corpus):
                found, places = block(asked, unit(corpus[offset : offset + sizes.corpus]), k, device)
                best.merge(np.arange(len(asked)), found, places + offset)
            similarities[start : start + len(asked)] = best.similarities
            indices[start : start + len(asked)] = best.indices
            del asked  # before the next one is made
    return similarities, indices


def search(
    x: Vectors,
    y: Vectors,
    k: int,
    how: How = "auto",
    *,
    threads: int | None = None,
    device: str = "cpu",
    blocks: Blocks | None = None,
) -> Neighbours:
    """Neighbours in both directions; ``auto`` takes the GPU when ``device`` names one, else what measured fastest."""
    if how == "auto":
        how = choose(len(x), len(y), x.shape[1], device=device)
    if how == "one_pass":
        return both_directions(x, y, k, blocks=blocks)
    if how == "faiss":
        forward = nearest(x, y, k, threads=threads, blocks=blocks)
        return Neighbours(*forward, *nearest(y, x, k, threads=threads, blocks=blocks), how)
    from adapterstilts.retrieval.rescored import both_rescored

    place = "cpu" if how == "bf16" else device if device != "cpu" else "cuda"
    return both_rescored(x, y, k, device=place, blocks=blocks)


def plan_search(n: int, m: int, dimensions: int, how: How = "auto") -> How:
    """The way that `search` will take, with what it needs loaded: memory is planned from what the process then holds.

    ``auto`` takes a GPU where there is one and torch, which can tell, is loaded or worth loading.
    """
    if how == "auto" and n * m > SMALL:
        import torch

        how = choose(n, m, dimensions, device="cuda" if torch.cuda.is_available() else "cpu")
    if how in ("bf16", "gpu"):
        import adapterstilts.retrieval.rescored  # noqa: F401
    return how


def faiss_or_refuse() -> Any:
    """The faiss package. Raises MissingDependency."""
    try:
        import faiss
    except ImportError as error:
        raise MissingDependency(
            "this search needs FAISS", why=str(error), fix="pip install faiss-cpu, or search how: one_pass"
        ) from error
    return faiss


def _has_faiss_gpu() -> bool:
    try:
        return bool(hasattr(faiss_or_refuse(), "StandardGpuResources"))
    except MissingDependency:
        return False


@contextmanager
def _faiss_threads(threads: int | None) -> Iterator[None]:
    if threads is None:
        yield
        return
    faiss = faiss_or_refuse()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss_block(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int, device: str
) -> tuple[Similarities, Indices]:
    faiss = faiss_or_refuse()
    index = faiss.IndexFlatIP(corpus.shape[1])
    if device != "cpu":
        number = int(device.partition(":")[2] or 0)
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index)
    index.add(corpus)
    found: tuple[Similarities, Indices] = index.search(queries, min(k, len(corpus)))
    return found


def _torch_block(
    queries: NDArray[np.float32], corpus: NDArray[np.float32], k: int, device: str
) -> tuple[Similarities, Indices]:
    import torch

    places = torch.from_numpy(corpus).to(device)
    found = [
        # Query by query block, so that the score matrix stays below 1 GiB whatever the corpus block.
        _top(torch.from_numpy(part).to(device) @ places.T, min(k, len(corpus)))
        for part in np.array_split(queries, max(1, math.ceil(len(queries) / 2048)))
    ]
    similarities = torch.cat([values for values, _ in found]).cpu().numpy()
    return similarities, torch.cat([indices for _, indices in found]).cpu().numpy()


def _top(scores: Any, k: int) -> tuple[Any, Any]:
    """torch.topk of rows in two stages: the k best lie in the k groups of highest maximum."""
    rows, columns = scores.shape
    width = columns // _GROUP
    if columns % _GROUP or width < k:
        top = scores.topk(k, dim=1)
        return top.values, top.indices
    grouped = scores.view(rows, _GROUP, width)
    groups = grouped.amax(1).topk(k, dim=1).indices
    members = grouped.gather(2, groups[:, None, :].expand(-1, _GROUP, -1)).flatten(1)
    top = members.topk(k, dim=1)
    member, group = top.indices // k, top.indices % k
    return top.values, member * width + groups.gather(1, group)
