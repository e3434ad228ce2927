"""How often rules for a mean over seeds, languages and examples claim an effect where there is none.

    python benchmarks/nested.py --draws 200 --dims 3 5        # in seconds
    python benchmarks/nested.py                               # the table of docs/studies.md

Mean squares of normal effects are independent chi-squares, and the grand mean is independent of them; so a data set is
one draw of mean squares, and its chance of a false claim is known exactly. Designs are named by what varies and by how
often its mean square is that of noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
from scipy import stats

from adapterstilts.study.nested import Squares, error_of_mean

Key = tuple[int, ...]
Rule = Callable[[Squares], float]  # how far the mean must lie from zero to be claimed, times the root of the cells
Student = Callable[[Squares], tuple[float, float]]  # variance of the mean times the cells, degrees of freedom
WEAK, CLEAR = (0.5, 1.0, 2.0), (5.0, 1000.0)


def ours(squares: Squares) -> float:
    """`nested_interval`."""
    error = error_of_mean(squares, 1)
    return error.critical(0.05) * float(np.sqrt(error.variance))


def student(rule: Student) -> Rule:
    """Student's t with an estimated freedom."""

    def needed(squares: Squares) -> float:
        variance, freedom = rule(squares)
        return float(stats.t.ppf(0.975, freedom) * np.sqrt(variance))

    return needed


def largest(squares: Squares) -> tuple[float, float]:
    """The signed sum (the quasi-F of Clark 1973), no less than the largest level, with Satterthwaite's freedom."""
    parts = {key: ((-1.0) ** (len(key) + 1) * square, freedom) for key, (square, freedom) in squares.items()}
    value = sum(part for part, _ in parts.values())
    floor, least = max(part for key, part in parts.items() if len(key) == 1)
    if value < floor:
        return floor, least
    return value, max(value**2 / sum(part**2 / freedom for part, freedom in parts.values()), 1.0)


def clustered(squares: Squares) -> tuple[float, float]:
    """Multi-way clustering with the freedom of the smallest level (Cameron, Gelbach and Miller 2011)."""
    return largest(squares)[0], min(freedom for key, (_, freedom) in squares.items() if len(key) == 1)


def seeds(squares: Squares) -> tuple[float, float]:
    """Student's t over the runs alone."""
    return squares[(0,)]


def pooled(level: float) -> Student:
    """Effects whose F test is above ``level`` are taken for noise, pairs first (Bancroft 1944)."""

    def rule(squares: Squares) -> tuple[float, float]:
        top = max(squares, key=len)
        value, noise = squares[top][0] * squares[top][1], squares[top][1]
        kept: dict[Key, dict[Key, float]] = {}  # effect -> its part of the variance, as a sum of mean squares
        rest: Key = ()  # the pooled noise in such a sum

        def total(sums: dict[Key, float]) -> tuple[float, float]:
            parts = [(w * (value / noise if k == rest else squares[k][0]), noise if k == rest else squares[k][1])
                     for k, w in sums.items() if abs(w) > 1e-9]  # fmt: skip
            mean = sum(part for part, _ in parts)
            return mean, max(mean**2 / sum(part**2 / freedom for part, freedom in parts), 1.0)

        for size in range(len(top) - 1, 0, -1):
            dropped = []
            for key in [key for key in squares if len(key) == size]:
                error: dict[Key, float] = {rest: 1.0}
                for outer in [outer for outer in kept if set(key) < set(outer)]:
                    for part, weight in kept[outer].items():
                        error[part] = error.get(part, 0.0) + weight
                expected, freedom = total(error)
                if expected > 0 and stats.f.sf(squares[key][0] / expected, squares[key][1], freedom) < level:
                    kept[key] = {key: 1.0, **{part: -weight for part, weight in error.items()}}
                elif set(error) == {rest}:
                    dropped.append(key)
            value += sum(squares[key][0] * squares[key][1] for key in dropped)
            noise += sum(squares[key][1] for key in dropped)
        whole: dict[Key, float] = {rest: 1.0}
        for sums in kept.values():
            for part, weight in sums.items():
                whole[part] = whole.get(part, 0.0) + weight
        return max(total(whole), *(squares[key] for key in kept), (value / noise, noise))

    return rule


RULES: dict[str, Rule] = {
    "levels above chance (ours)": ours,
    "all mean squares, the largest level as floor": student(largest),
    "pooled above .25": student(pooled(0.25)),
    "pooled above .10": student(pooled(0.10)),
    "multi-way clustering": student(clustered),
    "seeds alone": student(seeds),
}


def designs(factors: int) -> Iterator[tuple[str, dict[Key, float]]]:
    """(column, how much more than noise the mean square of what varies has)."""
    yield "noise alone", {}
    single = [(k,) for k in range(factors)]
    for key in single:
        yield from (("one level, weak", {key: by}) for by in WEAK)
        yield from (("one level, clear", {key: by}) for by in CLEAR)
    for a, b in combinations(single, 2):
        yield from (("several levels", {a: x, b: y}) for x in (1, 5, 1000) for y in (1, 5, 1000))
    yield from (("several levels", dict.fromkeys(single, float(by))) for by in (1, 5, 1000))
    for key in combinations(range(factors), 2) if factors > 2 else ():
        yield from (("pairs", {key: by}) for by in (*WEAK, *CLEAR))


def false_positives(rule: Rule, dims: tuple[int, ...], more: dict[Key, float], draws: int) -> float:
    """In percent, at a nominal 5."""
    rng = np.random.default_rng(0)
    keys = [key for size in range(1, len(dims) + 1) for key in combinations(range(len(dims)), size)]
    freedom = {key: float(np.prod([dims[k] - 1 for k in key])) for key in keys}
    expected = {key: 1.0 + sum(by for outer, by in more.items() if set(key) <= set(outer)) for key in keys}
    truth = sum((-1.0) ** (len(key) + 1) * expected[key] for key in keys)
    drawn = {key: expected[key] * rng.chisquare(freedom[key], draws) / freedom[key] for key in keys}
    needed = np.array([rule({key: (float(drawn[key][n]), freedom[key]) for key in keys}) for n in range(draws)])
    return float(100 * np.mean(2 * stats.norm.sf(needed / np.sqrt(truth))))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, nargs="+", default=[4, 6, 30], help="seeds, languages, examples")
    parser.add_argument("--draws", type=int, default=2000)
    given = parser.parse_args()
    for name, rule in RULES.items():
        columns: dict[str, list[float]] = {}
        for column, more in designs(len(given.dims)):
            columns.setdefault(column, []).append(false_positives(rule, tuple(given.dims), more, given.draws))
        print(json.dumps({"rule": name, **{k: [round(min(v), 1), round(max(v), 1)] for k, v in columns.items()}}))


if __name__ == "__main__":
    main()
