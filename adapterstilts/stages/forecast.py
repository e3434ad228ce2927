"""How much memory a stage will take: a model of its peak, from specs, shapes and lengths alone. Torch-free.

    host   = libraries + base + modules + optimizer + activations x fragmentation        (no GPU)
    device = base + modules + optimizer + activations                                    (a GPU)

What is kept for the backward pass was counted layer by layer (saved tensors of packed execution, in units of the
width): 9 or 10 d of a frozen layer, and what each method adds. docs/memory.md shows the forecast beside the measured
peak.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adapterstilts.modules.methods import SITES, layers_of, parts_of
from adapterstilts.modules.sizes import Shape, parameter_count
from adapterstilts.settings import EngineSettings, MethodSettings, Precision

MIB = 2**20
# What a stage's process holds beside the base and its modules, measured with a small base: the libraries, also those
# that score and write.
LIBRARIES = 560 * MIB
# Measured with XLM-R Large's shape (benchmarks/memory.py): resident bytes for a live byte of activations, of updates in
# one micro-batch, in several of uneven shapes, between weights that are unpacked in every use, with a lean allocator.
FRAGMENTATION, RAGGED, UNPACKED, LEAN = 1.55, 2.2, 3.0, 1.05
WEIGHT: Mapping[Precision, float] = {"fp32": 4, "bf16": 2, "int8": 1, "nf4": 0.5 + 4 / 64, "int8-dynamic": 1}
ACTIVATION: Mapping[Precision, int] = {"fp32": 4, "bf16": 2, "int8": 2, "nf4": 2, "int8-dynamic": 4}
CORE = 9  # widths kept in a frozen layer: query, key, value, two norms' inputs, the feed-forward's 4 d
PASSING = 24  # widths alive at one moment inside a layer, forward and backward
# Of a bottleneck's kinds: states it reads, of the base's precision, and bytes of its own fp32, in widths.
BOTTLENECKS = {"double_seq_bn": (2, 1.0), "par_bn": (1, 2.0), "compacter": (2, 1.6), "prefix_tuning": (1, 0.0)}
ROWS_A_LANGUAGE = 30_000  # embedding rows that a language's data look up, until the data are tokenised


@dataclass(frozen=True)
class Lengths:
    """Tokens of the examples of a stage: mean, deviation, longest; how many subwords occur. ``known``: counted."""

    mean: float
    deviation: float
    longest: int
    subwords: int
    known: bool = True

    @classmethod
    def of(cls, tokens: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]], subwords: int) -> Lengths:
        """Of counted examples."""
        array = np.asarray(tokens, dtype=np.float64)
        return cls(float(array.mean()), float(array.std()), int(array.max()), subwords)

    @property
    def around(self) -> float:
        """The mean length of the row that a token is in."""
        return self.mean + self.deviation**2 / self.mean

    def together(self, other: Lengths) -> Lengths:
        """Of two data sets in one stage; subwords are added, which is more than there are."""
        larger = max(self, other, key=lambda one: one.mean)
        known = self.known and other.known
        longest = max(self.longest, other.longest)
        return Lengths(larger.mean, larger.deviation, longest, self.subwords + other.subwords, known)

    def largest(self, budget: int, examples: int) -> int:
        """Tokens of the largest micro-batch of updates of so many examples: the budget, or less when all fit."""
        update = examples * self.mean + 3 * self.deviation * math.sqrt(examples)
        return int(max(self.longest, min(budget, update)))


@dataclass(frozen=True)
class Work:
    """What decides the memory of a stage, whatever its kind."""

    shape: Shape
    precision: Precision
    engine: EngineSettings
    lengths: Lengths
    modules: tuple[MethodSettings, ...] = ()  # attached; the last one trains
    fused: int = 0  # modules that a fusion mixes
    batch: int | None = None  # examples of an update; None: nothing trains
    reads_first: bool = False  # the head reads <s> alone
    stored: int = 0  # bytes of files that are mapped while it runs (embeddings of a search)
    all_rows: bool = False  # every embedding row is needed (masked_lm)
    together: int = 1  # modules that train in one loop, this one among them, all alike
    base_dropout: bool = False  # the frozen base drops out, too, and keeps which elements stay


@dataclass(frozen=True)
class Forecast:
    """Predicted peak bytes; ``parts`` add up to ``peak``."""

    parts: Mapping[str, int]
    where: str  # host or device
    tokens: int  # of the largest micro-batch
    known: bool  # the lengths were counted, not assumed

    @property
    def peak(self) -> int:
        return sum(self.parts.values())

    def to_plain(self) -> dict[str, object]:
        """As JSON; ``known``: the data's lengths were counted, not assumed."""
        parts = dict(self.parts)
        return {"peak": self.peak, "where": self.where, "tokens": self.tokens, "known": self.known, "parts": parts}


def forecast(work: Work, *, gpu: bool = False) -> Forecast:
    """The peak of the host, or of the device when the stage computes on a GPU."""
    shape, engine = work.shape, work.engine
    tokens = work.lengths.largest(engine.tokens, work.together * (work.batch or 10**9))
    if not engine.packed or any(module.name == "prefix_tuning" for module in work.modules):
        tokens = max(tokens, int(min(work.batch or 64, engine.tokens / work.lengths.mean) * work.lengths.longest))
    kept = _kept(work, tokens, gpu) if work.batch is not None else 0
    passing = PASSING * shape.width * _element(work) * tokens
    if work.batch is None:
        passing //= 2
    activations = kept + passing
    elsewhere = gpu and engine.embeddings == "cpu"
    parts = {"base": base_bytes(work, rows=not elsewhere), "modules": _modules(work)}
    if gpu:
        return Forecast({**parts, "activations": int(activations)}, "device", tokens, work.lengths.known)
    parts = {"libraries": LIBRARIES, **parts, "files": work.stored}
    activations *= _fragmentation(work, tokens)
    return Forecast({**parts, "activations": int(activations)}, "host", tokens, work.lengths.known)


def _fragmentation(work: Work, tokens: int) -> float:
    if work.engine.allocator == "lean":
        return LEAN
    if work.engine.recompute:  # between its segments, what was freed is given back
        return FRAGMENTATION
    if work.precision in ("int8", "nf4"):
        return UNPACKED
    return RAGGED if work.lengths.largest(10**9, work.batch or 10**9) > tokens else FRAGMENTATION


def base_bytes(work: Work, rows: bool = True) -> int:
    """The frozen base as it is held, with the embedding rows or without."""
    shape = work.shape
    d, f = shape.width, shape.feedforward
    linear = shape.layers * (4 * d * d + 2 * d * f)
    small = shape.layers * (9 * d + f) + (shape.positions + 3) * d
    count = shape.vocabulary if rows else 0
    if work.engine.compact and not work.all_rows:
        count = min(count, work.lengths.subwords)
    return int(linear * WEIGHT[work.precision] + (small + count * d) * ACTIVATION[work.precision])


def _element(work: Work) -> int:
    return ACTIVATION[work.precision]


def _modules(work: Work) -> int:
    """Weights of all modules, and gradient and both moments of what trains; the head counts as d x d."""
    counts = [parameter_count(module, work.shape) for module in work.modules]
    trained = (counts[-1] if counts else 0) + work.shape.width**2 + work.fused * work.shape.layers * work.shape.width
    others = work.together * (counts[-1] if counts else 0) + work.together * work.shape.width**2
    return 4 * (sum(counts[:-1]) + others) + (12 * trained * work.together if work.batch is not None else 0)


def core(precision: Precision, *, gpu: bool = False, base_dropout: bool = False) -> int:
    """Widths kept in a frozen layer. On a CPU, in half precision or with dropout, attention keeps no context."""
    return CORE + int(gpu or (ACTIVATION[precision] == 4 and not base_dropout))


def _kept(work: Work, tokens: int, gpu: bool) -> float:
    """Bytes kept for the backward pass of one micro-batch."""
    shape = work.shape
    method = work.modules[-1]
    parts = [part for _, part in parts_of(method)]
    chosen = [layers_of(part, shape.layers) for part in parts]
    layers = shape.layers - min(min(own) for own in chosen)
    bottleneck = all("sites" not in part.parameters for part in parts)
    # Where rows are told apart or segments computed again, what a module reads is kept in fp32.
    precision = "fp32" if work.together > 1 or work.engine.recompute else work.precision
    own = (added(part, precision, work.fused) * len(on) for part, on in zip(parts, chosen, strict=True))
    widths = core(work.precision, gpu=gpu, base_dropout=work.base_dropout)
    layer = widths * _element(work) + sum(own) / layers
    if work.engine.recompute:
        segments = math.ceil(layers / work.engine.recompute)
        total = segments * _element(work) + min(layers, work.engine.recompute) * layer
    else:
        total = layers * layer
        # Below the lowest bottleneck nothing needs a gradient; of a last layer read at <s>, only keys and values do.
        total -= (widths - 1) * _element(work) if bottleneck else 0
        total -= (widths - 2) * _element(work) if work.reads_first and work.engine.first_only else 0
    if work.base_dropout:
        # A byte for each weight of each head of 64, over a row as long as a token's own, and two masks a layer.
        total += layers * (work.lengths.around / 64 + 2)
    # DoRA holds the norm of every adapted weight, and on the way copies of the weight itself.
    constant = 2 * 12 * shape.width**2 * 4 * layers if any(part.name == "dora" for part in parts) else 0
    return total * shape.width * tokens + constant


def added(method: MethodSettings, precision: Precision, fused: int = 0) -> float:
    """Bytes, in widths, that a method keeps in each layer and token beside those of the frozen layer."""
    given, element = method.parameters, ACTIVATION[precision]
    sites = [site for site in SITES if site in given.get("sites", ())]
    widths = {site: 4 if site == "output" else 1 for site in sites}
    outputs = sum(4 if site == "intermediate" else 1 for site in sites)
    if method.name == "ia3":
        return float(element * sum(widths[site] if site in given["inputs"] else 1 for site in sites))
    if sites:
        inner = 4.0 * int(given.get("r", 8)) * len(sites) / 1024
        if method.name == "vera":  # of its frozen projections no input is kept
            return 4.0 * (1 + fused) * outputs + inner
        # Sites that read one tensor keep it once, in the base's precision.
        read = {"attention" if site in ("query", "key", "value") else site: widths[site] for site in sites}
        twice = 2 * outputs if method.name == "dora" else 0
        return element * sum(read.values()) + 4.0 * (twice + fused * outputs) + inner
    inputs, inner = BOTTLENECKS.get(method.name.removesuffix("_inv"), (2, 0.3))
    return element * inputs + inner + 4.0 * (fused + 2 if fused else 0)
