"""The studies' pages on invented runs with known effects: they say what is there, and say so where nothing is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapterstilts.errors import RecipeError
from adapterstilts.report.studies import NAMES, build, study
from adapterstilts.report.studies.page import Study
from adapterstilts.report.studies.pooled import regressions
from adapterstilts.report.studies.told import answers, findings, not_found

DISTANCES = {"en": 0.0, "qaa": 0.18, "qab": 0.395, "qac": 0.515, "qad": 0.632, "qae": 0.825, "qaf": 1.0}
Effect = float | Mapping[str, float]


def run(
    effects: Mapping[str, Mapping[str, Effect]],
    *,
    bases: Sequence[str] = ("b0",),
    noise: float = 0.4,
    languages: Sequence[str] = tuple(DISTANCES),
    fall: Mapping[str, float] = {},
    seed: int = 0,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of task -> arm -> effect in points (a number, or one a language or base), on three seeds a base."""
    rng = np.random.default_rng(seed)
    rows, stages = [], {}
    levels = {(base, number): 70 + rng.normal(0, 2) for base in bases for number in (0, 1, 2)}
    for task, arms in effects.items():
        for base in bases:
            for number in (0, 1, 2):
                level = levels[base, number]
                for arm, effect in arms.items():
                    stage = f"{abs(hash((task, base, number, arm))):064x}"
                    stages[stage] = {"label": f"evaluate {task} {arm}", "updates": 100, "trained": 4096, "seed": number}
                    for language in languages:
                        value = level - fall.get(arm, 20.0) * DISTANCES[language] + rng.normal(0, noise)
                        known = effect if isinstance(effect, float) else effect.get(base, effect.get(language, 0.0))
                        place = {"base": base, "arm": arm, "seed": number, "task": task, "language": language}
                        rows.append(place | {"split": "test", "metric": "accuracy", "n": 200, "stage": stage})
                        rows[-1]["value"] = float(np.clip(value + known, 0, 100))
    names = dict.fromkeys(arm for arms in effects.values() for arm in arms)
    facts = {
        "recipe": {"name": "A study", "text": "name: x"},
        "languages": DISTANCES,
        "arms": [{"name": arm, "description": "an arm", "baseline": "none" * (arm != "none") or None} for arm in names],
        "stages": stages,
        "command": "adapterstilts study x",
    }
    return rows, facts


ORDERS = {
    "name": "sequential-vs-joint",
    "baseline": "none",
    "sequential": ["en-xx", "xx-en"],
    "joint": ["joint"],
    "composed": ["stack"],
    "forgetting": {"siqa": {"en": {"en-xx": ["en", "en-xx", "after"], "joint": [None, "joint", None]}}},
}


def sequential(effect: float = 1.0, **more: Any) -> Study:
    effects = {
        "copa": {"none": 0.0, "en-xx": 8.0 * effect, "xx-en": 2.0 * effect, "joint": 8.0 * effect, "stack": 0.0},
        "siqa": {"en": 0.0, "en-xx": -12.0 * effect, "after": -12.0 * effect, "joint": 0.0},
    }
    return study(*run(effects, **more), ORDERS)


def said(made: Study, key: str, a: str, b: str) -> str:
    (item,) = [c for c in made.contrasts if (c.key, c.a, c.b) == (key, a, b)]
    return item.found


def test_order_effects_and_forgetting_are_found() -> None:
    made = sequential()
    assert said(made, "copa/zero-shot", "en-xx", "none") == "higher"
    assert said(made, "copa/zero-shot", "en-xx", "xx-en") == "higher"
    assert said(made, "copa/zero-shot", "en-xx", "joint") == "no difference found"
    for moment in ("after both", "after the target"):
        assert said(made, "siqa/forgetting", f"en-xx {moment}", "en-xx after the first") == "lower"
    assert said(made, "siqa/forgetting", "en-xx after both", "joint after both") == "lower"
    order = next(table for table in made.tables if table.title == "Order by language: copa")
    assert [row[0] for row in order.body] == list(DISTANCES) and {row[-1] for row in order.body} == {"higher"}
    assert {figure.key for figure in made.figures} >= {"gains-copa", "order-copa", "heat-copa", "forgetting"}
    assert "Every arm had 100 updates and 4,096 trained parameters" in " ".join(made.design)


def test_nothing_is_claimed_where_nothing_is() -> None:
    found = [{c.found for c in sequential(0.0, seed=k).contrasts} for k in range(8)]
    assert sum(words != {"no difference found"} for words in found) <= 1


def test_words_are_made_of_the_contrasts() -> None:
    made = sequential()
    for told, nothing in ((findings(made), False), (not_found(made), True)):
        mine = [item for item in made.contrasts if (item.found == "no difference found") == nothing]
        assert mine and sum(text.count(" points (") for text in told) == len(mine)
        for item in mine:
            (text,) = [t for t in told if t.startswith(f"**{item.a}** against **{item.b}** (3 runs): ")]
            (part,) = [p for p in text.split("; ") if f"{item.of} " in p]
            assert f"{abs(item.mean):.1f} points" in part
            leaves_out = nothing and item.interval.excludes(0)  # by itself, not after correction
            assert ("or none after correction" in part) == leaves_out


def test_every_part_is_answered_with_its_largest_contrast() -> None:
    made = sequential()
    assert len(answers(made)) == len(made.parts) == 5
    for part, text in zip(made.parts, answers(made), strict=True):
        claimed = [item for item in part.contrasts if item.found != "no difference found"]
        largest = max(claimed or part.contrasts, key=lambda item: abs(item.mean))
        assert text.startswith(f"**{part.title}.**") and f"{abs(largest.mean):.1f} points (95 % interval" in text
        assert "3 runs" in text and ("No difference found" in text) == (not claimed)
    assert {item.family for item in made.contrasts} == {len(made.contrasts)}  # one family over all parts


def test_a_difference_between_two_arms_that_guess_is_called_so() -> None:
    rows, facts = run({"copa": {"none": 0.0, "with": -6.0}}, noise=0.1)
    for row in rows:
        row["value"] -= 25.0
    facts["chance"] = {"copa": 60.0}
    made = study(rows, facts, {"name": "scale", "without": "none", "with": "with", "parameters": {"b0": 1e5}})
    assert said(made, "copa/zero-shot/b0", "with", "none") == "lower"
    assert "**with** and **none** are at the level of guessing" in answers(made)[-1]


def test_a_single_run_claims_nothing() -> None:
    rows, facts = run({"copa": {"none": 0.0, "en-xx": 30.0, "xx-en": 0.0, "joint": 0.0, "stack": 0.0}})
    made = study([row for row in rows if row["seed"] == 0], facts, {**ORDERS, "forgetting": {}})
    assert not findings(made) and all("One run shows no spread" in text for text in answers(made))


def test_what_an_arm_costs_is_counted_on_the_targets_alone() -> None:
    rows, facts = run({"copa": {"none": 0.0, "en-xx": 0.0, "xx-en": 0.0, "joint": 0.0}, "siqa": {"en-xx": 0.0}})
    for row in rows:
        cost = facts["stages"][row["stage"]]
        cost["updates"] = 50 if row["task"] == "siqa" else 100
        cost["trained"] = 5000 if row["arm"] == "joint" else 4096
    told = " ".join(study(rows, facts, {**ORDERS, "forgetting": {}}).design)
    assert "Every arm had 100 updates. " in told
    assert "Every arm had 4,096 trained parameters, but **joint** 5,000" in told


def scale(growth: float, seed: int = 0) -> Study:
    bases = ("s0", "s1", "m0", "l0", "l1")
    sizes = dict(zip(bases, (1e5, 1e5, 2e5, 4e5, 4e5), strict=True))
    gains = {base: 2.0 + growth * np.log2(n / 1e5) for base, n in sizes.items()}
    made = run({"copa": {"none": 0.0, "with": gains}}, bases=bases, seed=seed)
    return study(*made, {"name": "scale", "without": "none", "with": "with", "parameters": sizes})


def test_gain_by_size_is_found_and_not_invented() -> None:
    grown, flat = scale(3.0), [scale(0.0, seed) for seed in range(4)]
    assert any("for each doubling" in text and "zero-shot" in text for text in grown.found)
    invented = [made for made in flat if made.found]  # of a true null one in twenty is
    assert len(invented) <= 1
    assert all(any("no interaction found" in text for text in made.not_found) for made in flat if made not in invented)
    assert {row.task for row in grown.published} == {"xcopa"}


@pytest.mark.parametrize(("growth", "word"), [(5.0, "higher"), (0.0, "no difference found")])
def test_two_bases_are_compared_seed_by_seed(growth: float, word: str) -> None:
    sizes = {"small": 1e5, "large": 2e5}
    rows = run({"copa": {"none": 0.0, "with": {"small": 2.0, "large": 2.0 + growth}}}, bases=("large", "small"))
    made = study(*rows, {"name": "scale", "without": "none", "with": "with", "parameters": sizes})
    assert said(made, "copa/zero-shot/size", "large", "small") == word
    (item,) = [c for c in made.contrasts if c.key == "copa/zero-shot/size"]
    assert len(item.values) == 3 and item.mean == pytest.approx(growth, abs=1.0)


def test_the_drop_under_shift_differs_between_arms() -> None:
    effects = {"copa": {"none": 0.0, "en": 5.0, "multi": 5.0}, "copa-far": {"none": -10.0, "en": -9.0, "multi": 0.0}}
    roles = {"name": "domain-shift", "baseline": "none", "arms": ["en", "multi"], "shifted": {"copa": "copa-far"}}
    made = study(*run(effects), roles)
    assert said(made, "copa/zero-shot/none", "none shifted", "none in domain") == "lower"
    assert said(made, "copa/zero-shot/drop", "multi", "en") == "lower"


@pytest.mark.parametrize(
    ("small", "large", "word"),
    [(6.0, -6.0, "as Weller"), (-6.0, 6.0, "unlike what Weller"), (2.0, 2.0, "was not found")],
)
def test_the_condition_on_sizes(small: float, large: float, word: str) -> None:
    effects = {"copa-small": {"none": 0.0, "seq": 3.0, "multi": 3.0 + small}}
    effects["copa-large"] = {"none": 0.0, "seq": 3.0, "multi": 3.0 + large}
    roles = {"name": "multitask-vs-sequential", "baseline": "none", "sequential": ["seq"], "multitask": ["multi"]}
    roles["sizes"] = {"copa-small": [50, 200], "copa-large": [400, 200]}
    made = study(*run(effects), roles)
    told = [*made.found, *made.not_found]
    assert any(word in text and "Weller" in text for text in told)
    assert [table.head[3] for table in made.tables] == ["worst language"] * 2


def test_distance_finds_the_fall_and_the_change_of_slope() -> None:
    roles = {"name": "distance", "without": "none", "with": "with", "pretraining": dict.fromkeys(DISTANCES, 1)}
    made = study(*run({"copa": {"none": 0.0, "with": 0.0}}, fall={"none": 30.0, "with": 10.0}), roles)
    assert any("grows with distance" in text for text in made.found)
    assert any("the amount is the same" in text for text in made.not_found)
    assert said(made, "copa/slope/distance", "with", "none") == "higher"  # falls less steeply
    assert "0.81" in " ".join(made.design)  # critical |r| with six languages
    uneven = dict(zip(DISTANCES, (1e6, 2e3, 1e5, 3e4, 9e4, 1e3, 4e4), strict=True))
    held = study(*run({"copa": {"none": 0.0, "with": 0.0}}), {**roles, "pretraining": uneven})
    assert {figure.key for figure in held.figures} == {"distance-copa-distance", "distance-copa-pretraining-text-log"}
    assert all(item["partial"] is not None for item in held.plain["correlations"])


def test_regressions_over_targets_are_corrected_together() -> None:
    """Ten distances that mean nothing: in one world of twenty some slope is claimed, and not in one of three."""
    rng = np.random.default_rng(3)
    claimed = 0
    for _ in range(100):
        kinds = {f"kind{k}": {name: float(rng.random()) for name in DISTANCES} for k in range(10)}
        losses = {(task, "none"): {name: float(rng.normal()) for name in DISTANCES} for task in ("copa", "pos")}
        found, missed = regressions(losses, ["none"], kinds, str, str)
        claimed += bool(found)
        assert len(found) + sum(text.count("as clusters") for text in missed) == 10
    assert claimed <= 10
    only_one = {key: value for key, value in losses.items() if key[0] == "copa"}
    assert regressions(only_one, ["none"], kinds, str, str) == ([], [])  # its correlation says as much


def test_the_matrix_and_its_rankings() -> None:
    effects = {"copa": {"none": 0.0, "to-siqa": 12.0, "to-nli": 2.0, "to-ner": 0.0}}
    effects["pos"] = {"none": 0.0, "to-ner": 6.0}
    rankings = {"sizes": {"copa": {"siqa": 0.2, "nli": 0.9, "ner": 0.1}}}
    made = study(*run(effects), {"name": "transfer", "without": "none", "prefix": "to-", "rankings": rankings})
    assert said(made, "to-siqa/copa", "to-siqa", "none") == "higher"
    (ranking,) = made.plain["rankings"]
    assert ranking["predicted"][0] == "nli" and ranking["measured"][0] == "siqa"
    assert ranking["regret"] == pytest.approx(10.0, abs=1.5)
    assert "predicted in 0 of 1 cases" in answers(made)[0] and "cannot show that orders agree" in answers(made)[0]
    own, theirs, _ = made.tables
    assert own.head[-2:] == theirs.head[-2:] == ("Avg", "Avg without retrieval")
    cells = {str(row[0]): dict(zip(theirs.head, row, strict=True)) for row in theirs.body}
    assert cells["squad_v2"]["Avg without retrieval"] == "+1.6~"  # reference: derived from F1 and EM
    assert cells["squad_v2"]["Avg"] == "+8.2" and cells["squad_v1"]["Avg"] == "+8.1~"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(sequential(), tmp_path_factory.mktemp("study"))


def test_the_page_loads_nothing_and_links_every_number(pages: dict[str, Path]) -> None:
    text = pages["html"].read_text()
    assert not re.search(r"""(src|href)=["'](https?:|//)""", text) and "prefers-color-scheme:dark" in text
    links = set(re.findall(r'<a class="n" href="#([^"]+)"', text))
    assert links and links <= set(re.findall(r'id="([^"]+)"', text))


def test_markdown_and_json_say_the_same(pages: dict[str, Path]) -> None:
    plain = json.loads(pages["json"].read_text())
    document = pages["md"].read_text()
    assert all(
        text in document
        for text in [plain["question"], *plain["answer"], *plain["found"], *plain["not_found"], *plain["design"]]
    )
    assert all(item["stages"] for item in plain["contrasts"])


def test_figures_are_files_with_their_data(pages: dict[str, Path]) -> None:
    for key in ("order-copa", "forgetting", "gains-copa"):
        assert (pages["figures"] / f"{key}.png").read_bytes().startswith(b"\x89PNG")
        assert "a5c3" not in (pages["figures"] / f"{key}.svg").read_text()
        head, *rows = (pages["figures"] / f"{key}.csv").read_text().splitlines()
        assert rows and len(head.split(",")) > 2


def test_every_word_of_a_figure_is_seen_in_the_dark() -> None:
    """A text in no colour of the theme stays black on a dark page."""
    from matplotlib.colors import to_hex
    from matplotlib.text import Text

    from adapterstilts.report.facts import Facts
    from adapterstilts.report.figures import usage
    from adapterstilts.report.theme import PLACEHOLDER

    shares = [{"language": x, "layer": k, "parts": ["a", "b"], "share": [0.4, 0.6]} for x in "xy" for k in (0, 1)]
    drawn = [*sequential().figures, *scale(3.0).figures, usage(shares, "fuse", "copa", Facts(recipe="r"))]
    assert len({figure.key.partition("-")[0] for figure in drawn}) == 6
    for figure in drawn:
        words = [text for text in figure.drawing.findobj(Text) if text.get_text() and text.get_visible()]
        assert words
        assert {to_hex(text.get_color()) for text in words} <= set(PLACEHOLDER.values()), figure.key


def test_a_missing_role_is_one_error() -> None:
    with pytest.raises(RecipeError, match="needs `baseline`"):
        study(*run({"copa": {"none": 0.0}}), {"name": "sequential-vs-joint"})
    with pytest.raises(RecipeError, match="no study `other`"):
        study(*run({"copa": {"none": 0.0}}), {"name": "other"})
    assert len(NAMES) == 6
