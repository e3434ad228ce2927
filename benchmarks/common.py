"""What the benchmarks share: sizes, real lengths, one random checkpoint, paired timing, what was equal, tables.

The protocol: every way runs in one process, in the order A B C C B A, several rounds; one thread and process CPU time
unless told otherwise; ratios are taken inside a pass and given as median and range. Every row of speed has its row of
equality: the same examples and the same update from the same start, dropout off.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
PAD = 1
LABELS = 3


@dataclass(frozen=True)
class Size:
    """How much of everything; ``examples`` in one update, ``updates`` in one turn."""

    layers: int
    width: int
    vocabulary: int
    examples: int
    updates: int
    rounds: int
    workloads: tuple[str, ...] = ("nli", "qa")

    @property
    def encoder_parameters(self) -> int:
        """Weights of the linear maps: 303 M for XLM-R Large."""
        return self.layers * 12 * self.width**2


SIZES = {
    "tiny": Size(2, 64, 16384, 4, 1, 1, ("nli",)),
    "slice": Size(3, 1024, 16384, 16, 1, 5),
    "large": Size(24, 1024, 250002, 8, 1, 2, ("nli",)),
}


# -- what runs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workload:
    """Token rows of real lengths. ``longest`` is the length that a peer pads to when it pads to the maximum."""

    name: str
    source: str
    longest: int
    rows: tuple[NDArray[np.int32], ...]

    def take(self, count: int, seed: int = 0) -> list[NDArray[np.int32]]:
        """A random choice of rows."""
        order = np.random.default_rng(seed).permutation(len(self.rows))[:count]
        return [self.rows[i] for i in order]


# task, longest, and the log-normal (mean and deviation of log length) that stands in where the files are absent
_WORKLOADS = {
    "nli": ("snli_cad", 128, (3.78, 0.33)),
    "qa": ("squad", 384, (5.75, 0.38)),
    "sentences": ("tatoeba", 92, (2.6, 0.35)),
}


def workload(name: str, vocabulary: int) -> Workload:
    """Real rows of a task, tokenised with the small real-text base; a stated log-normal where the files are absent."""
    task, longest, (mean, deviation) = _WORKLOADS[name]
    if (SHARED / "data").is_dir() and (SHARED / "base").is_dir():
        return Workload(name, f"{task} (real)", longest, tuple(_real_rows(task, longest)))
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(mean, deviation, 1000)), 8, longest).astype(int)
    rows = tuple(rng.integers(5, vocabulary, n).astype(np.int32) for n in lengths)
    return Workload(name, f"log-normal({mean}, {deviation}); no {SHARED.name}/data here", longest, rows)


def _real_rows(task: str, longest: int, count: int = 1000) -> list[NDArray[np.int32]]:
    from itertools import islice

    from adapterstilts.data.arrays import arrays_of
    from adapterstilts.data.rows import read
    from adapterstilts.data.sources import DataRoot, resolve
    from adapterstilts.data.tokenise import Tokenizer
    from adapterstilts.tasks.formats import get_format
    from adapterstilts.tasks.registry import TaskRegistry

    registry = TaskRegistry()
    spec = registry.get(task)
    form = get_format(spec.format)
    if spec.searched:
        texts = SHARED.joinpath("data/raw/tatoeba/v1/tatoeba.deu-eng.eng").read_text(encoding="utf-8").splitlines()
        examples = [{"text": text} for text in texts[:count]]
    else:
        found = resolve(spec, "en", "train", DataRoot.of(SHARED / "data"), registry).require()
        examples = [form.parse(row, spec) for row in islice(read(found), count)]
    arrays = arrays_of(list(form.encode(examples, Tokenizer.from_directory(SHARED / "base"), spec)), form.fields)
    return [arrays.ids[a:b][:longest] for a, b in zip(arrays.rows[:-1], arrays.rows[1:], strict=True)]


def arrays(rows: Sequence[NDArray[np.int32]]) -> Any:
    """Rows as the engine's tokenised arrays, with labels 0, 1, 2, 0, ..."""
    from adapterstilts.data.arrays import Arrays

    labels = np.arange(len(rows), dtype=np.int64) % LABELS
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Arrays(np.concatenate(rows), offsets, np.arange(len(rows) + 1), {"label": ("example", labels)})


def tokens(rows: Sequence[NDArray[np.int32]]) -> int:
    return sum(map(len, rows))


def checkpoint(size: Size) -> Path:
    """A directory with random weights of this shape, written once; every way loads the same. Its dropout is 0.1."""
    place = Path(tempfile.gettempdir(), f"adapterstilts-benchmark-{size.layers}x{size.width}-{size.vocabulary}")
    if not (place / "config.json").is_file():
        import torch
        from transformers import XLMRobertaConfig, XLMRobertaModel

        torch.manual_seed(0)
        config = XLMRobertaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=max(1, size.width // 64),
            intermediate_size=4 * size.width,
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            num_labels=LABELS,
        )
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(place)
    return place


# -- timing -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """Process CPU time with one thread, or wall time with as many as told."""

    threads: int = 1
    wall: bool = False

    def __call__(self) -> float:
        return time.perf_counter() if self.wall else time.process_time()


@dataclass
class Turns:
    """Seconds of every way in every pass; pass p of all ways lies side by side in time."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, reference: str) -> dict[str, Any]:
        """How many times faster ``reference`` is: median and range of the ratios inside each pass."""
        pairs = zip(self.seconds[name], self.seconds[reference], strict=True)
        values = [slow / fast for slow, fast in pairs]
        return {"median": statistics.median(values), "range": [min(values), max(values)]}


def interleaved(ways: Mapping[str, Callable[[], float]], rounds: int) -> Turns:
    """Run all ways in the order A B C C B A of each round; a way returns the seconds it took."""
    turns = Turns({name: [] for name in ways})
    for _ in range(rounds):
        for names in (list(ways), list(reversed(ways))):
            for name in names:
                turns.seconds[name].append(ways[name]())
    return turns


def bare_products(encoder: Any, count: int, clock: Clock) -> Callable[[], float]:
    """Seconds of the bare matrix products of one update over ``count`` tokens, and no more.

    Forward and input gradient of every frozen linear map, on the encoder's own weights: 2 x 2 FLOP a weight and token.
    """
    import torch

    linear = [module for module in encoder.modules() if isinstance(module, torch.nn.Linear)]
    weights = [module.weight for module in linear if not module.weight.requires_grad]
    inputs = {n: torch.randn(count, n, dtype=weights[0].dtype) for weight in weights for n in weight.shape}

    def run() -> float:
        start = clock()
        with torch.no_grad():
            for weight in weights:
                torch.mm(inputs[weight.shape[1]], weight.t())
                torch.mm(inputs[weight.shape[0]], weight)
        return clock() - start

    return run


# -- what was equal ---------------------------------------------------------------------------------------------------


def compared(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """Relative Frobenius error and cosine of all gradients taken as one vector.

    Raises:
        ValueError: the two sides train different parameters.
    """
    if set(ours) != set(theirs):
        raise ValueError(f"different parameters train: {sorted(set(ours) ^ set(theirs))[:4]}")
    difference = sum(float((ours[n].double() - theirs[n].double()).square().sum()) for n in ours)
    dot = sum(float((ours[n].double() * theirs[n].double()).sum()) for n in ours)
    first, second = (sum(float(g.double().square().sum()) for g in side.values()) for side in (ours, theirs))
    return {"relative": (difference / second) ** 0.5, "cosine": dot / (first * second) ** 0.5}


# -- output -----------------------------------------------------------------------------------------------------------


def parser(text: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--size", choices=SIZES, default="tiny")
    made.add_argument("--rounds", type=int, help="instead of those of the size")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--wall", action="store_true", help="wall time instead of process CPU time")
    made.add_argument("--out", type=Path, help="folder of the JSON; default none is written")
    return made


def begin(threads: int) -> None:
    """Quiet libraries, and a thread count that holds."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import warnings

    import torch
    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(threads)


def machine(clock: Clock, *more: str) -> dict[str, Any]:
    """Where it ran, with which versions of the usual packages and ``more``."""
    names = ("torch", "transformers", "adapters", "peft", *more)
    found = {name: _version(name) for name in names}
    cpu = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "").partition(": ")[2]
    return {
        "machine": platform.machine(),
        "cpu": cpu,
        "python": platform.python_version(),
        "threads": clock.threads,
        "time": "wall" if clock.wall else "process CPU",
        **found,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Callable[[Mapping[str, Any]], str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(show(row) for show in columns.values()) + " |" for row in rows]
    return "\n".join(lines)


def spread(value: Mapping[str, Any] | None) -> str:
    """``3.2 (3.0-3.5)``"""
    if value is None:
        return ""
    low, high = value["range"]
    return f"{value['median']:.2f} ({low:.2f}-{high:.2f})"


def finish(name: str, options: argparse.Namespace, result: dict[str, Any], shown: str) -> None:
    """Print the table and keep the JSON."""
    print(shown)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{name}-{options.size}.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {path}")
