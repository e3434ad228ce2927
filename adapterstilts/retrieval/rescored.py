"""One bf16 product for both directions, exact by proof: what it cannot rule out is scored again in fp32.

Vectors are taken relative to the mean of their side, since the error of a bf16 product grows with their length and what
sentences of a language share tells none of them apart: with x = a + u and y = b + v (a, b the means) the score is
u v + b u + a v + a b. The product computes the first three terms, the last is the same for all pairs.

With u', v' the rounded vectors, |u v - u' v'| <= |u - u'| |v| + |u'| |v - v'| (Cauchy); both differences are measured.
Sums add at most n * unit roundoff of the summed lengths (Higham 2002, 3.1), the stored score 2^-8 of itself. A pair
whose score plus this bound stays below the k-th best fp32 score of its row cannot be among the k best. All others are
scored in fp32. Every rescored pair tests the bound as well; if it ever failed, the search is done again in fp32.

On a CPU threads take parts of a tile, of rows for one direction and of columns for the other. The parts are the same
whatever the number of threads, and so is every bit of the result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from adapterstilts.errors import DataError
from adapterstilts.retrieval.budget import Blocks, forget
from adapterstilts.retrieval.neighbours import Indices, Neighbours, Similarities, Vectors, checked
from adapterstilts.retrieval.one_pass import both_directions

TILE = (2048, 4096)  # on the CPU: 16 MiB of scores
PARTS = 4  # of a tile on the CPU, each for one thread
_GPU_TILE = (32_768, 65_536)  # 4 GiB of scores, so that a tile takes longer than to ask for it
_GPU_PAIRS = 65_536
_GROUP = 8  # scores of a row looked at through their maximum first
_PREPARED = 2**18  # values of vectors that are prepared at a time, or sampled for the mean: any mean is right
_READ = 64  # rows of the sample read at a time
_PAIRS = 128  # rescored at a time, so that they stay in cache
_DENSE = 16  # from one possible group in so many on, a tile is scored in fp32 as a whole
_STORED = 2.0**-8  # relative error of a score stored in bf16
_SUM, _TENSOR_CORE_SUM = 2.0**-24, 2.0**-22  # relative error of one addition; tensor cores cut off more
_NEVER = -1e30


class _BoundFailed(Exception):
    """A score was farther from its fp32 value than the bound allows: this machine sums in another way."""


def both_rescored(x: Vectors, y: Vectors, k: int, *, device: str = "cpu", blocks: Blocks | None = None) -> Neighbours:
    """Neighbours of x in y and of y in x; the same as `one_pass.both_directions`, faster where bf16 products are.

    Held are one block of y and one tile's rows of x, in fp32 and bf16, and the scores of the tile.
    """
    k_x, k_y = checked(x, y, k), checked(y, x, k)
    try:
        forward, backward = _search(x, y, k_x, k_y, torch.device(device), blocks or Blocks())
    except _BoundFailed:
        return both_directions(x, y, k, blocks=blocks)
    return Neighbours(*forward.arrays(), *backward.arrays(), "bf16" if device == "cpu" else "gpu")


def _search(x: Vectors, y: Vectors, k_x: int, k_y: int, device: torch.device, sizes: Blocks) -> tuple[_Best, _Best]:
    on_cpu = device.type == "cpu"
    rows, columns = (min(TILE[0], sizes.held), min(TILE[1], sizes.held)) if on_cpu else _GPU_TILE
    means = _mean(x, device), _mean(y, device)
    shared = float(means[0].double() @ means[1].double())
    forward, backward = _Best(len(x), k_x, device), _Best(len(y), k_y, device)
    # The same memory for every strip: what is given back and taken anew lies in pieces that add up.
    rows, columns = min(rows, len(x)), min(columns, len(y))
    source_strip, target_strip = _Strip.of(rows, x.shape[1], device), _Strip.of(columns, y.shape[1], device)
    scores = target_strip.rounded.new_empty(len(source_strip.rounded) * len(target_strip.rounded))
    kept: dict[int, _Side] = {}  # on a GPU the strips of x stay there
    with _one_thread_each(torch.get_num_threads() if on_cpu else 1) as pool:
        tiles = _Tiles(pool, forward, backward, scores, shared, _SUM if on_cpu else _TENSOR_CORE_SUM)
        for start in range(0, len(y), columns):
            target = _side(pool, target_strip, y, start, means[1], means[0], False)
            for i in range(0, len(x), rows):
                source = kept.get(i) or _side(pool, source_strip, x, i, means[0], means[1], True)
                if not on_cpu and i not in kept:
                    kept[i], source_strip = source, _Strip.of(rows, x.shape[1], device)
                tiles.bring_in(source, target)
    return forward, backward


@contextmanager
def _one_thread_each(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads, in each of which a product takes that thread alone."""
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class _Tiles:
    """The scores of a strip of x with a strip of y, and the neighbours that they are brought into."""

    pool: ThreadPoolExecutor
    forward: _Best
    backward: _Best
    scores: Tensor  # memory of a whole tile
    shared: float
    summing: float

    def bring_in(self, source: _Side, target: _Side) -> None:
        """Both directions. Raises _BoundFailed."""
        height, width = len(source.rounded), len(target.rounded)
        scores = self.scores[: height * width].view(height, width)

        def columns(part: slice) -> None:  # the product, too: by rows it would rearrange the whole target each time
            torch.mm(source.rounded, target.rounded[part].T, out=scores[:, part])
            down = scores.view(_GROUP, -1, width)[:, :, part]
            highest = down.amax(0).T
            _update(self.backward, target.part(part), source, down.permute(2, 0, 1), highest, self.shared, self.summing)

        def rows(part: slice) -> None:
            across = scores[part].view(-1, _GROUP, width // _GROUP)
            _update(self.forward, source.part(part), target, across, across.amax(1), self.shared, self.summing)

        _each(self.pool, columns, target.parts())
        _each(self.pool, rows, source.parts())


def _each(pool: ThreadPoolExecutor, work: Callable[[slice], None], parts: Iterable[slice]) -> None:
    deque(pool.map(work, parts), maxlen=0)


def _slices(count: int, step: int) -> list[slice]:
    return [slice(begin, min(begin + step, count)) for begin in range(0, count, step)]


def _mean(vectors: Vectors, device: torch.device) -> Tensor:
    step = -(-vectors.size // _PREPARED)
    sample = np.empty((-(-len(vectors) // step), vectors.shape[1]), dtype=np.float32)
    for begin in range(0, len(sample), _READ):
        rows = sample[begin : begin + _READ]
        rows[:] = vectors[begin * step : (begin + len(rows)) * step : step]
        forget(vectors)  # the system maps much around each row that is read
    mean = _normalised(torch.from_numpy(sample), 0).double().mean(0)
    return mean.float().to(device)


def _normalised(rows: Tensor, start: int) -> Tensor:
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    if not bool(torch.isfinite(lengths).all()):
        raise DataError(
            f"embedding {start + int(torch.isfinite(lengths).all(1).int().argmin())} holds NaN or infinity",
            why="the encoder overflowed, or the file was cut short",
            fix="embed again with precision: fp32",
        )
    return rows.mul_(torch.where(lengths > 0, 1 / lengths, 0.0))


@dataclass(frozen=True)
class _Side:
    """Rows of one side: as they are, as they are multiplied, and what bounds the error of their scores.

    ``rounded`` [r', d + 4] has the vectors relative to the mean and, twice in bf16 so that it is exact to 2^-16, what a
    row adds to all its scores; r' is a multiple of the group, and rows from r on score below everything.
    """

    start: int
    exact: Tensor  # [r, d] fp32 of length 1
    rounded: Tensor
    whole: Tensor  # [r] length before rounding
    length: Tensor  # [r] length after rounding
    error: Tensor  # [r] length of the difference
    added: Tensor  # [r] magnitude of what a row adds
    missed: Tensor  # [r] what its two bf16 numbers leave out

    def parts(self) -> list[slice]:
        """Rows that are worked on at a time, multiples of the group; all at once on a GPU."""
        count = len(self.rounded)
        return _slices(count, count if self.exact.is_cuda else -(-count // (_GROUP * PARTS)) * _GROUP)

    def part(self, rows: slice) -> _Side:
        """These rows alone."""
        own = {item.name: getattr(self, item.name)[rows] for item in fields(self) if item.name != "start"}
        return _Side(self.start + rows.start, **own)

    def errors(self, other: _Side, summing: float) -> Tensor:
        """[r] upper bounds of |score - fp32 score| for each row against all of the other side, storing apart."""
        product = 1.001 * (self.error * other.whole.max() + self.length * other.error.max())
        sizes = 1.01 + self.length * other.length.max() + self.added + other.added.max()
        terms = self.exact.shape[1] + 16
        return product + self.missed + other.missed.max() + terms * summing * sizes


@dataclass(frozen=True)
class _Strip:
    """Memory of so many rows of one side."""

    exact: Tensor
    rounded: Tensor
    bounds: Tensor

    @classmethod
    def of(cls, rows: int, width: int, device: torch.device) -> _Strip:
        padded = -(-rows // _GROUP) * _GROUP
        rounded = torch.empty(padded, width + 4, dtype=torch.bfloat16, device=device)
        return cls(torch.empty(rows, width, device=device), rounded, torch.empty(5, rows, device=device))


def _side(
    pool: ThreadPoolExecutor, strip: _Strip, vectors: Vectors, start: int, own: Tensor, other: Tensor, first: bool
) -> _Side:
    count, width = min(len(strip.exact), len(vectors) - start), len(own)
    exact, rounded, bounds = strip.exact[:count], strip.rounded[: -(-count // _GROUP) * _GROUP], strip.bounds[:, :count]
    adds, ones = (slice(width, width + 2), slice(width + 2, None))
    if not first:
        adds, ones = ones, adds
    rounded[:, ones] = 1
    rounded[count:, :width] = 0
    rounded[count:, adds] = _NEVER / 2

    def prepare(part: slice) -> None:
        raw = torch.from_numpy(np.array(vectors[start + part.start : start + part.stop])).to(own.device)
        forget(vectors)
        exact[part] = _normalised(raw.float(), start + part.start)
        centred = exact[part] - own
        multiplied = rounded[part, :width]
        multiplied.copy_(centred)
        added = centred.double() @ other.double()
        high = added.bfloat16()
        low = (added - high.double()).bfloat16()
        rounded[part, adds] = torch.stack((high, low), dim=1)
        back = multiplied.float()
        bounds[0, part] = torch.linalg.vector_norm(centred, dim=1)
        bounds[1, part] = torch.linalg.vector_norm(back, dim=1)
        # The subtraction of the mean rounds, too.
        bounds[2, part] = torch.linalg.vector_norm(back.sub_(centred), dim=1) + 2.0**-22
        bounds[3, part] = added.abs().float()
        bounds[4, part] = (added - high.double() - low.double()).abs().float()

    _each(pool, prepare, _slices(count, max(1, _PREPARED // width)))
    return _Side(start, exact, rounded, *bounds)


class _Best:
    """The k best fp32 scores so far of each row, falling, and their places; equal ones by place."""

    def __init__(self, rows: int, k: int, device: torch.device) -> None:
        self.scores = torch.full((rows, k), -torch.inf, device=device)
        self.places = torch.full((rows, k), -1, dtype=torch.int64, device=device)

    def arrays(self) -> tuple[Similarities, Indices]:
        """Scores and places in NumPy."""
        return self.scores.cpu().numpy(), self.places.cpu().numpy()

    def merge(self, rows: Tensor, places: Tensor, scores: Tensor) -> None:
        """Bring candidates [c] in: a row may have any number of them, each place once."""
        if not len(rows):
            return
        k = self.scores.shape[1]
        touched = torch.unique(rows)
        rows = torch.cat((touched.repeat_interleave(k), rows))
        places = torch.cat((self.places[touched].flatten(), places))
        scores = torch.cat((self.scores[touched].flatten(), scores))
        order = torch.argsort(places, stable=True)
        order = order[torch.argsort(scores[order], descending=True, stable=True)]
        order = order[torch.argsort(rows[order], stable=True)]
        first = torch.searchsorted(rows[order], touched)
        chosen = order[first[:, None] + torch.arange(k, device=order.device)]
        self.scores[touched], self.places[touched] = scores[chosen], places[chosen]


def _update(
    best: _Best, own: _Side, other: _Side, grouped: Tensor, highest: Tensor, shared: float, summing: float
) -> None:
    """Bring a tile in: grouped [r', g, c] holds the scores of row r with column g' * c + c', highest their maxima.

    Raises:
        _BoundFailed: a rescored pair is out of the bound.
    """
    count, k, width = len(own.exact), best.scores.shape[1], grouped.shape[2]
    grouped, highest = grouped[:count], highest[:count]
    floor = best.scores[own.start : own.start + count, -1]
    if width < max(k, _GROUP):
        return _dense(best, own, other)
    if bool(torch.isinf(floor).any()):  # nothing to compare with yet: the best of the k highest groups
        groups = highest.float().topk(k, dim=1).indices
        rows = torch.arange(count, device=groups.device)[:, None].expand(-1, k).flatten()
        groups = groups.flatten()
        columns = grouped[rows, :, groups].argmax(1) * width + groups
        floor = torch.maximum(floor, _exact(own, other, rows, columns).view(count, k).amin(1))
    errors = own.errors(other, summing)
    limit = floor - shared - errors
    hits = _upper(highest) >= limit[:, None]
    rows, groups = hits.nonzero(as_tuple=True)
    if len(rows) > hits.numel() // _DENSE:
        return _dense(best, own, other)
    scores = grouped[rows, :, groups].float()
    hit, member = (_upper(scores) >= limit[rows, None]).nonzero(as_tuple=True)
    scores, rows, columns = scores[hit, member], rows[hit], member * width + groups[hit]
    exact = _exact(own, other, rows, columns)
    if bool(((exact - shared - scores).abs() > errors[rows] + _STORED * scores.abs()).any()):
        raise _BoundFailed
    best.merge(own.start + rows, other.start + columns, exact)
    return None


def _upper(scores: Tensor) -> Tensor:
    """What a stored score may have been before it was rounded."""
    wide = scores.float()
    return wide + _STORED * wide.abs()


def _exact(own: _Side, other: _Side, rows: Tensor, columns: Tensor) -> Tensor:
    """The fp32 scores of pairs [c]."""
    if own.exact.device.type != "cpu":
        pairs = zip(torch.split(rows, _GPU_PAIRS), torch.split(columns, _GPU_PAIRS), strict=True)
        return torch.cat([torch.linalg.vecdot(own.exact[i], other.exact[j]) for i, j in pairs])
    # NumPy reads single rows several times as fast as torch.
    x, y, i, j = (tensor.numpy() for tensor in (own.exact, other.exact, rows, columns))
    found = np.empty(len(i), np.float32)
    for start in range(0, len(i), _PAIRS):
        part = slice(start, start + _PAIRS)
        np.einsum("nd,nd->n", x.take(i[part], 0), y.take(j[part], 0), out=found[part])
    return torch.from_numpy(found)


def _dense(best: _Best, own: _Side, other: _Side) -> None:
    """A whole tile in fp32: where too much of it is alike, or where it is too small to be worth the bound."""
    for rows, scores in _parts(own, other):
        top = scores.topk(min(best.scores.shape[1], scores.shape[1]), dim=1)
        own_rows = (own.start + rows)[:, None].expand_as(top.indices)
        best.merge(own_rows.flatten(), other.start + top.indices.flatten(), top.values.flatten())


def _parts(own: _Side, other: _Side) -> Iterator[tuple[Tensor, Tensor]]:
    rows = torch.arange(len(own.exact), device=own.exact.device)
    for part in torch.split(rows, max(1, TILE[0] * TILE[1] // 2 // len(other.exact))):
        yield part, own.exact[part] @ other.exact.T
