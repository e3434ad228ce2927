"""Retrieval against the obvious way, paired in one run.

    python benchmarks/retrieval.py --size tiny                      # seconds: that everything runs and agrees
    python benchmarks/retrieval.py --size small --out benchmarks/results/retrieval.json
    OMP_NUM_THREADS=2 python benchmarks/retrieval.py --size small --only search   # two free cores, by the clock

Each pair runs in the order A B B A ...; measured is CPU time on one core, which is what is used unless OMP_NUM_THREADS
says more, and the time that passed on several. Beside each time stands what was equal. The
obvious way: encoding padded to 512 (as XTREME's script) or to the longest of the batch; FAISS IndexFlatIP in both
directions; XTREME's mining loop. Peak memory is measured in a process of its own for each way.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(THREADS)
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import Clock, interleaved, machine, table
from retrieval_memory import Floats, K, memory_row, search, search_faiss, vectors

CLOCK = Clock(THREADS, wall=THREADS > 1)
MINING_ROUNDS = 5  # milliseconds each


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    sentences: int
    layers: int
    width: int
    vectors: tuple[int, int]  # two sizes: the second checks the extrapolation of the first
    dimensions: int
    rounds: int
    index: str


SIZES = {
    "tiny": Size(24, 2, 256, (1000, 2000), 256, 1, "IVF16,Flat;nprobe=4"),
    "small": Size(100, 2, 1024, (10_000, 20_000), 1024, 1, "IVF256,Flat;nprobe=16"),
}


# -- what is compared -------------------------------------------------------------------------------------------------


def encoder(size: Size) -> Any:
    """A random encoder of XLM-R Large's width (small) with few layers: time a token and layer is what counts."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from adapterstilts.encoder.base import Base

    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    config = XLMRobertaConfig(
        vocab_size=5000,
        hidden_size=size.width,
        num_hidden_layers=size.layers,
        num_attention_heads=size.width // 64,
        intermediate_size=4 * size.width,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    model = XLMRobertaModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    return Base("random", Path(), model, pad_id=1)


def sentences(count: int) -> list[list[int]]:
    """Token rows of Tatoeba's lengths: log-normal, mean 15, at most 92 subwords."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(2.58, 0.5, count)), 4, 92).astype(int)
    return [[0, *rng.integers(5, 5000, n - 2).tolist(), 2] for n in lengths]


def encode_padded(base: Any, rows: Sequence[list[int]], width: int | None) -> Floats:
    """Mean-pooled last layer, batches of 100 in file order, padded to ``width`` or to the longest of the batch."""
    import torch

    found = []
    for start in range(0, len(rows), 100):
        batch = rows[start : start + 100]
        length = width or max(map(len, batch))
        ids = torch.tensor([row + [1] * (length - len(row)) for row in batch])
        mask = (ids != 1).long()
        with torch.no_grad():
            hidden = base.model(input_ids=ids, attention_mask=mask).last_hidden_state
        found.append(((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).numpy())
    return np.concatenate(found)


def encode_ours(base: Any, rows: Sequence[list[int]]) -> Floats:
    from adapterstilts.data.arrays import Arrays
    from adapterstilts.modules.attach import Adapted
    from adapterstilts.retrieval.embed import embed

    ids = np.array([token for row in rows for token in row], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    arrays = Arrays(ids, offsets, np.arange(len(rows) + 1, dtype=np.int64), {})
    return embed(Adapted(base, {}, None), arrays, [base.layers])[0]


def mine_loop(x: Floats, y: Floats, found: Any, gold: set[tuple[str, str]]) -> tuple[dict[Any, float], float]:
    """XTREME's utils_retrieve.py, step by step: margin loop, greedy matching, threshold."""
    fwd, bwd = found.similarities.mean(axis=1), found.back_similarities.mean(axis=1)

    def scored(a: Floats, b: Floats, places: Any, means: Any, others: Any) -> Any:
        scores = np.zeros(places.shape)
        for i in range(places.shape[0]):
            for j in range(places.shape[1]):
                k = places[i, j]
                scores[i, j] = a[i].dot(b[k]) / ((means[i] + others[k]) / 2)
        return scores

    forward = scored(x, y, found.indices, fwd, bwd)
    backward = scored(y, x, found.back_indices, bwd, fwd)
    best_y = found.indices[np.arange(len(x)), forward.argmax(axis=1)]
    best_x = found.back_indices[np.arange(len(y)), backward.argmax(axis=1)]
    pairs = np.stack((np.concatenate((np.arange(len(x)), best_x)), np.concatenate((best_y, np.arange(len(y))))), axis=1)
    scores = np.concatenate((forward.max(axis=1), backward.max(axis=1)))
    seen_x, seen_y, kept = set(), set(), {}
    for i in np.argsort(-scores):
        source, target = pairs[i]
        if source not in seen_x and target not in seen_y:
            seen_x.add(source)
            seen_y.add(target)
            if scores[i] > 0:
                kept[str(source), str(target)] = float(scores[i])
    items = sorted(kept.items(), key=lambda item: -item[1])
    correct, best, threshold = 0, -1.0, 0.0
    for i in range(len(items) - 1):
        correct += items[i][0] in gold
        if correct:
            precision, recall = correct / (i + 1), correct / len(gold)
            f1 = 2 * precision * recall / (precision + recall)
            if f1 > best:
                best, threshold = f1, (items[i][1] + items[i + 1][1]) / 2
    return kept, threshold


def mine_ours(found: Any, sides: tuple[Any, Any], gold: set[tuple[str, str]]) -> tuple[dict[Any, float], float]:
    from adapterstilts.retrieval.mining import candidates, mine
    from adapterstilts.retrieval.threshold import f1_curve

    pairs = candidates(mine(found), *sides)
    return pairs, f1_curve(pairs, gold).threshold


# -- measuring --------------------------------------------------------------------------------------------------------


def paired(ours: Callable[[], Any], theirs: Callable[[], Any], rounds: int) -> tuple[dict[str, Any], Any, Any]:
    """Seconds of both, in the order A B B A of each round."""
    results: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any]) -> Callable[[], float]:
        def run() -> float:
            results.pop(name, None)  # to free what the last one made is none of this one's work
            start = CLOCK()
            results[name] = work()
            return CLOCK() - start

        return run

    turns = interleaved({"ours": timed("ours", ours), "theirs": timed("theirs", theirs)}, rounds)
    row: dict[str, Any] = {name: turns.median(name) for name in turns.seconds}
    row |= {f"{name}_range": [min(values), max(values)] for name, values in turns.seconds.items()}
    row["times_faster"] = row["theirs"] / row["ours"]
    return row, results["ours"], results["theirs"]


def same(ours: Any, theirs: Any) -> float:
    """Share of equal neighbours (as sets, row by row) of both directions."""
    equal = total = 0
    for a, b in ((ours.indices, theirs[1]), (ours.back_indices, theirs[3])):
        equal += sum(len(set(p) & set(q)) for p, q in zip(a.tolist(), b.tolist(), strict=True))
        total += a.size
    return equal / total


def encoding_rows(size: Size) -> list[dict[str, Any]]:
    base, rows = encoder(size), sentences(size.sentences)
    encode_ours(base, rows[:8])
    made = []
    for name, width, target in (("padded to 512", 512, 4.0), ("padded to the longest of 100", None, None)):
        row, ours, theirs = paired(
            lambda: encode_ours(base, rows), lambda width=width: encode_padded(base, rows, width), size.rounds
        )
        equal = f"largest difference {np.abs(ours - theirs).max():.1e}"
        made.append({"what": "encoding", "against": name, "n": len(rows), "equal": equal, "target": target, **row})
    return made


def search_rows(size: Size) -> list[dict[str, Any]]:
    from adapterstilts.retrieval.approximate import search_approximate

    made = []
    for count in size.vectors:
        x, y = vectors(count, size.dimensions)
        chosen = search(x, y).how
        for how in dict.fromkeys((chosen, "one_pass", "bf16")):
            row, found, plain = paired(
                lambda x=x, y=y, how=how: search(x, y, how), lambda x=x, y=y: search_faiss(x, y), size.rounds
            )
            what = f"search, exact, {how}" + (" (chosen)" if how == chosen else "")
            made.append(
                {"what": what, "against": "FAISS IndexFlatIP, both directions", "n": count}
                | {"equal": f"recall@{K} {same(found, plain):.6f}", "target": 1.7 if how == chosen else None, **row}
            )
        row, near, _ = paired(
            lambda x=x, y=y: search_approximate(x, y, K, size.index), lambda x=x, y=y: search_faiss(x, y), size.rounds
        )
        equal = f"recall@{K} {same(near.neighbours, plain):.4f} (on its sample {near.recall:.4f})"
        made.append(
            {"what": f"search, {size.index}", "against": "FAISS IndexFlatIP, both directions", "n": count}
            | {"equal": equal, "target": None, **row}
        )
    return made


def mining_rows(size: Size) -> list[dict[str, Any]]:
    from adapterstilts.retrieval.mining import Lines
    from adapterstilts.retrieval.neighbours import unit

    made: list[dict[str, Any]] = []
    for count in size.vectors:
        x, y = vectors(count, size.dimensions)
        found = search(x, y)
        gold = {(str(i), str(i)) for i in range(count)}
        gold = set(sorted(gold)[: count // 10])
        lines = Lines(np.arange(count), tuple((str(i),) for i in range(count)))
        ux, uy = unit(x), unit(y)
        row, (ours, mark), (theirs, other) = paired(
            lambda found=found, lines=lines, gold=gold: mine_ours(found, (lines, lines), gold),
            lambda ux=ux, uy=uy, found=found, gold=gold: mine_loop(ux, uy, found, gold),
            MINING_ROUNDS,
        )
        overlap = len(ours.keys() & theirs.keys()) / max(1, len(ours.keys() | theirs.keys()))
        made.append(
            {"what": "mining after search", "against": "XTREME's loop", "n": count, "target": 20.0}
            | {"equal": f"pair overlap {overlap:.6f}, threshold differs by {abs(mark - other):.1e}", **row}
        )
    return made


def gpu_rows(size: Size) -> list[dict[str, Any]]:
    """Where there is a GPU: the share of its measured bf16 matrix rate that the whole search reaches, target a half."""
    import torch

    if not torch.cuda.is_available():
        return []
    count = 20 * size.vectors[1]
    x, y = vectors(count, size.dimensions)
    a = torch.randn(8192, size.dimensions, device="cuda", dtype=torch.bfloat16)
    search(x[:1000], y[:1000], "gpu")
    rates = []
    for work, flop in (
        (lambda: [a @ a.T for _ in range(50)], 50 * 2 * 8192**2 * size.dimensions),
        (lambda: search(x, y, "gpu"), 2 * count**2 * size.dimensions),
    ):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        rates.append(flop / (time.perf_counter() - start))
    row = {"what": "search on the GPU, TFLOP/s", "against": "its bf16 product alone", "n": count, "target": 0.5}
    row |= {"ours": rates[1] / 1e12, "theirs": rates[0] / 1e12, "times_faster": rates[1] / rates[0], "equal": ""}
    return [row | {f"{name}_range": [row[name]] * 2 for name in ("ours", "theirs")}]


def extrapolated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Seconds for larger n by n^2 (search) or n (mining), and how far the first size was off about the second."""
    made = []
    for what, power in (("search, exact, one_pass", 2), ("search, exact, bf16", 2), ("mining", 1)):
        found = [row for row in rows if row["what"].startswith(what)]
        if not found:
            continue
        first, second = found
        for way in ("ours", "theirs"):
            step = (second["n"] / first["n"]) ** power
            large = {str(n): second[way] * (n / second["n"]) ** power for n in (100_000, 400_000)}
            made.append(
                {"what": first["what"], "way": way, "power": power, "seconds": large}
                | {"measured_over_predicted": second[way] / (first[way] * step)}
            )
    return made


def seconds(row: Mapping[str, Any], way: str) -> str:
    low, high = row[f"{way}_range"]
    return f"{row[way]:.3f} ({low:.3f}-{high:.3f})"


def met(row: Mapping[str, Any]) -> str:
    return "" if row["target"] is None else f"{row['target']:g}: {'met' if row['met'] else 'NOT met'}"


COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "what": lambda row: f"{row['what']} against {row['against']}",
    "n": lambda row: str(row["n"]),
    "ours": lambda row: seconds(row, "ours"),
    "obvious": lambda row: seconds(row, "theirs"),
    "times": lambda row: f"{row['times_faster']:.2f}",
    "target": met,
    "equal": lambda row: str(row["equal"]),
}
PARTS: dict[str, Callable[[Size], list[dict[str, Any]]]] = {
    "encoding": encoding_rows,
    "search": search_rows,
    "mining": mining_rows,
    "memory": lambda size: [memory_row(size.vectors[1], size.dimensions)],
    "gpu": gpu_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--only", choices=PARTS, action="append", help="of the rows; repeatable")
    parser.add_argument("--out", type=Path, help="JSON of the run")
    options = parser.parse_args()
    size = SIZES[options.size]
    rows = [row for name, part in PARTS.items() if name in (options.only or PARTS) for row in part(size)]
    for row in rows:
        row["met"] = None if row["target"] is None else bool(row["times_faster"] >= row["target"])
    result = {
        "size": options.size,
        "settings": vars(size),
        "machine": machine(CLOCK, "numpy", "faiss-cpu"),
        "rows": rows,
    }
    result["extrapolation"] = extrapolated(rows)
    print(table(rows, COLUMNS))
    for row in result["extrapolation"]:
        seconds = ", ".join(f"n = {n}: {value:.0f} s" for n, value in row["seconds"].items())
        check = f"second size measured / predicted {row['measured_over_predicted']:.2f}"
        print(f"{row['what']}, {row['way']}: {seconds} (by n^{row['power']}; {check})")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
