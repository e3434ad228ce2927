"""Scores against linguistic distance: correlations with intervals, what n languages can detect, a fitted line."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from adapterstilts.errors import DataError, MissingDependency
from adapterstilts.study.intervals import Interval, bootstrap

KINDS = ("syntactic", "phonological", "inventory", "genetic", "geographic", "featural")

# The ISO 639-3 codes under which URIEL knows the languages of XTREME and XTREME-R (all present in urielplus 1.3.2).
_CODES = """
    af:afr ar:arb az:azj bg:bul bn:ben de:deu el:ell en:eng es:spa et:est eu:eus fa:pes fi:fin fr:fra gu:guj
    he:heb hi:hin ht:hat hu:hun id:ind it:ita ja:jpn jv:jav ka:kat kk:kaz ko:kor lt:lit ml:mal mr:mar ms:zsm
    my:mya nl:nld pa:pan pl:pol pt:por qu:quz ro:ron ru:rus sw:swh ta:tam te:tel th:tha tl:tgl tr:tur uk:ukr
    ur:urd vi:vie wo:wol yo:yor zh:cmn
"""
_ISO3 = dict(pair.split(":") for pair in _CODES.split())


@dataclass(frozen=True)
class Correlation:
    """How a score goes with distance over n languages; ``critical`` is the smallest |r| that n could show at 5 %."""

    n: int
    pearson: float
    pearson_p: float
    spearman: float
    spearman_p: float
    interval: Interval
    critical: float
    slope: float
    intercept: float

    @property
    def detectable(self) -> bool:
        """Whether the observed |r| is one that this many languages can tell from zero."""
        return abs(self.pearson) >= self.critical


def critical_r(n: int, alpha: float = 0.05) -> float:
    """The smallest |r| that differs from zero, two-sided, with n points: n = 7 -> 0.754, n = 15 -> 0.514."""
    if n < 3:
        return float("nan")
    t = float(stats.t.ppf(1 - alpha / 2, n - 2))
    return t / float(np.sqrt(t * t + n - 2))


def correlate(distance: ArrayLike, score: ArrayLike, *, rounds: int = 1999, seed: int = 0) -> Correlation | None:
    """Pearson (with a BCa bootstrap interval over languages), Spearman and the least-squares line.

    ``distance`` and ``score``: (n,) one value per language. None with fewer than three languages or a constant side.
    """
    x, y = np.asarray(distance, dtype=float), np.asarray(score, dtype=float)
    if x.size < 3 or np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return None
    pearson, spearman = stats.pearsonr(x, y), stats.spearmanr(x, y)
    line = stats.linregress(x, y)

    def r(points: NDArray[np.float64]) -> float:
        # A draw with one language only has no correlation; bootstrap() drops it.
        a, b = points[:, 0] - points[:, 0].mean(), points[:, 1] - points[:, 1].mean()
        scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
        return float((a * b).sum()) / scale if scale > 1e-12 else float("nan")

    interval = bootstrap(np.stack([x, y], axis=1), r, rounds=rounds, seed=seed)
    return Correlation(
        int(x.size),
        float(pearson.statistic),
        float(pearson.pvalue),
        float(spearman.statistic),
        float(spearman.pvalue),
        interval,
        critical_r(int(x.size)),
        float(line.slope),
        float(line.intercept),
    )


def band(
    distance: ArrayLike, score: ArrayLike, at: ArrayLike, level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Least-squares line at ``at`` and the confidence band of its mean: (line, low, high), each (len(at),)."""
    x, y, points = (np.asarray(value, dtype=float) for value in (distance, score, at))
    line = stats.linregress(x, y)
    fitted = line.intercept + line.slope * points
    left = y - line.intercept - line.slope * x
    spread = float((x - x.mean()) @ (x - x.mean()))
    variance = float(left @ left) / (x.size - 2)
    error = np.sqrt(variance * (1 / x.size + (points - x.mean()) ** 2 / spread))
    half = stats.t.ppf(0.5 + level / 2, x.size - 2) * error
    return fitted, fitted - half, fitted + half


def known(languages: Sequence[str], distances: Mapping[str, float | None]) -> list[str]:
    """The languages, in their order, whose distance from English is known."""
    return [name for name in languages if distances.get(name) is not None]


def require_uriel() -> None:
    """Raise MissingDependency when urielplus is not installed; nothing is imported."""
    if find_spec("urielplus") is None:
        why = "distances of real languages come from the URIEL+ tables"
        raise MissingDependency("urielplus is not installed", why=why, fix="pip install 'adapterstilts[distance]'")


def uriel(languages: Sequence[str], kind: str = "syntactic", english: str = "en") -> dict[str, float | None]:
    """Distance of each language from English in URIEL+ (Khan et al. 2025), 0 to 1; needs the urielplus package.

    Two-letter codes are turned into ISO 639-3. None where the language is unknown or shares no known feature with
    English; a distance from very few shared features (Malay syntactic: 0.0) is given as URIEL+ gives it. urielplus
    unpacks its tables beside itself on first use. Raises DataError for an unknown kind, MissingDependency.
    """
    if kind not in KINDS:
        raise DataError(f"unknown distance {kind!r}", where="distance", fix=f"one of {', '.join(KINDS)}")
    require_uriel()
    from urielplus.urielplus import URIELPlus

    logging.disable(logging.INFO)  # it reports every single distance on the root logger
    try:
        return _from_table(URIELPlus(), languages, kind, english)
    finally:
        logging.disable(logging.NOTSET)


def _from_table(table: Any, languages: Sequence[str], kind: str, english: str) -> dict[str, float | None]:
    there = set(table.langs[0])
    origin = _ISO3.get(english, english)
    out: dict[str, float | None] = {}
    for language in languages:
        code = _ISO3.get(language, language)
        if code == origin:
            out[language] = 0.0
            continue
        try:
            out[language] = float(table.new_distance(kind, [origin, code])) if code in there else None
        except ValueError:  # no shared features
            out[language] = None
    return out
