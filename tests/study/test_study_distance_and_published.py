"""Distance correlations, and the marks of published rows."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy import stats

from adapterstilts.errors import DataError, MissingDependency
from adapterstilts.study import distance
from adapterstilts.study.gains import task_value
from adapterstilts.study.published import beside, published


@pytest.mark.parametrize(("n", "r"), [(7, 0.754), (11, 0.602), (15, 0.514), (33, 0.344), (40, 0.312)])
def test_critical_r_of_the_protocol(n: int, r: float) -> None:
    assert distance.critical_r(n) == pytest.approx(r, abs=6e-4)


def test_correlation_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(15)
    y = 80 - 30 * x + rng.normal(0, 6, 15)
    found = distance.correlate(x, y)
    assert found is not None
    assert found.pearson == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert (found.pearson_p < 0.05) == found.detectable
    low, high = found.interval.low, found.interval.high
    assert low is not None and high is not None and low < found.pearson < high
    fitted, below, above = distance.band(x, y, x)
    assert fitted == pytest.approx(found.intercept + found.slope * x)
    assert (below < fitted).all() and (fitted < above).all()


def test_no_correlation_without_spread() -> None:
    assert distance.correlate([0.1, 0.2], [1.0, 2.0]) is None
    assert distance.correlate([0.1, 0.2, 0.3], [5.0, 5.0, 5.0]) is None


def test_band_covers_the_line() -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 8)
    hits = 0
    for _ in range(400):
        _, low, high = distance.band(x, 70 - 20 * x + rng.normal(0, 3, 8), [0.5])
        hits += low[0] <= 60 <= high[0]
    assert 0.92 <= hits / 400 <= 0.98


def test_uriel_distances_or_a_clear_error() -> None:
    with pytest.raises(DataError, match="unknown distance"):
        distance.uriel(["de"], "lexical")
    if importlib.util.find_spec("urielplus") is None:
        with pytest.raises(MissingDependency, match="distance"):
            distance.uriel(["de"])
    else:
        found = distance.uriel(["en", "de", "et", "qaa"], "phonological")
        assert found["en"] == 0.0 and found["qaa"] is None and found["et"] is None
        assert found["de"] is not None and 0 < found["de"] < 1


def test_known_keeps_order() -> None:
    assert distance.known(["th", "sw", "qaa"], {"sw": 0.5, "th": 0.0, "qaa": None}) == ["th", "sw"]


def test_recalled_is_never_called_published() -> None:
    rows = published()
    assert {row.mark for row in rows} == {"verified", "recalled", "not found"}
    for row in rows:
        assert (row.label == "published") == (row.mark == "verified")
        assert (row.value is None) == (row.mark == "not found")
        assert row.split and row.source and row.baseline


def test_recalled_cells_give_their_recalled_means() -> None:
    tables: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in published():
        if row.value is not None and row.language is None:
            tables.setdefault((row.table, row.name), {}).setdefault(row.task, {})[row.metric] = row.value
    checked = 0
    for (_, name), tasks in tables.items():
        if "mean" in tasks and len(tasks) == 10 and name != "MMTE":  # its note says that it does not add up
            mean = tasks.pop("mean")["mean"]
            assert np.mean([task_value(metrics) for metrics in tasks.values()]) == pytest.approx(mean, abs=0.16)
            checked += 1
    assert checked >= 13


def test_marks_of_single_cells() -> None:
    cells = {(r.table, r.name, r.task, r.language): r for r in published()}
    assert cells["phang2020-dev-gains", "mnli", "mean", None].mark == "verified"
    assert cells["phang2020-dev-gains", "mnli", "xnli", None].mark == "recalled"
    assert cells["phang2020-dev", "none", "tatoeba", None].label == "published"
    assert cells["xcopa-test", "XLM-R Large", "xcopa", "sw"].value == 59.2
    assert {r.task for r in beside(["xcopa"])} == {"xcopa"}
