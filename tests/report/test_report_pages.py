"""The report of a realistic run: its numbers are the rows' numbers, its words say no more than the statistics."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from adapterstilts.errors import DataError, RecipeError
from adapterstilts.report import build, terminal
from adapterstilts.report.results import Results, at_chance, compute
from adapterstilts.report.sentences import cautions, sentences
from adapterstilts.report.words import MINUS, gain_text, number, signed
from adapterstilts.study.gains import verdict

Run = tuple[list[dict[str, Any]], dict[str, Any]]
VOID = {"meta", "br", "hr", "img", "input", "link", "use", "path", "rect"}


@pytest.fixture(scope="module")
def built(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(*run, tmp_path_factory.mktemp("report"), formats=("html", "md", "csv", "json", "svg"))


@pytest.fixture(scope="module")
def results(run: Run) -> Results:
    return compute(*run)


class Page(HTMLParser):
    """Checks that tags are balanced and collects ids, links and what could load something."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name in ("href", "xlink:href"):
                self.links.append(value or "")
            elif name in ("src", "srcset", "action", "data", "poster", "background"):
                self.loads.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_is_whole_and_loads_nothing(built: dict[str, Path]) -> None:
    text = built["html"].read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.loads == []
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    for outside in ("http:", "https:", "//www", "@import", "url(", "file:"):
        assert all(found == "url(#" for found in re.findall(re.escape(outside) + "#?", text)), outside
    assert "prefers-color-scheme:dark" in text and "width=device-width" in text
    assert not re.search(r"#a5c3[0-9a-f]{2}", text)  # no placeholder colour is left


def test_numbers_on_the_page_are_those_of_the_rows(run: Run, built: dict[str, Path]) -> None:
    rows, _ = run
    scores: dict[tuple[Any, ...], float] = {
        (r["base"], r["seed"], r["arm"], r["language"]): r["value"] for r in rows if r["task"] == "nli-small"
    }
    pairs = sorted({(base, seed) for base, seed, _, _ in scores})
    others = ["qaa", "qab", "qac", "qad", "qae", "qaf"]

    def mean(arm: str, pair: tuple[str, int]) -> float:
        return float(np.mean([scores[pair[0], pair[1], arm, language] for language in others]))

    differences = [mean("continue", pair) - mean("none", pair) for pair in pairs]
    gained = signed(float(np.mean(differences)))
    average = number(float(np.mean([mean("continue", pair) for pair in pairs])))
    english = number(float(np.mean([scores[pair[0], pair[1], "continue", "en"] for pair in pairs])))
    section = built["html"].read_text(encoding="utf-8").split('id="target-nli-small"')[1]
    row = section.split('<th scope="row">continue<small>')[1].split("</tr>")[0]
    shown = re.findall(r'<a class="n"[^>]*>([^<]*)</a>', row)
    assert shown[:2] == [english, average] and shown[3] == gained
    title = re.findall(r'title="([^"]*)"', row)[3]
    used = {r["stage"][:10] for r in rows if r["task"] == "nli-small" and r["arm"] in ("none", "continue")}
    assert "continue minus no intermediate" in title and "split test" in title and "seeds 1, 2, 3" in title
    assert "bases lab-s1, lab-s2" in title and any(stage in title for stage in used)
    assert f"| continue | {english} | {average} |" in built["md"].read_text(encoding="utf-8")


def test_verdicts_follow_the_simulated_truth(results: Results) -> None:
    nli, qa = results.targets
    said = {r.arm.name: verdict(r.gain) for r in nli.arms if r.gain}
    assert said["continue"] == said["stack"] == said["sequential"] == "gain"
    assert said["merge"] == "loss"
    assert said["joint"] == said["fuse"] == "no gain found"
    assert {verdict(r.gain) for r in qa.arms if r.gain} == {"no gain found"}
    english = {r.arm.name: verdict(r.english_gain) for r in qa.arms if r.english_gain}
    assert english["continue"] == english["joint"] == "gain"
    text = " ".join(s.text for s in sentences(results) if s.topic == "Questions")
    assert "Gain in English only" in text and " gain for " not in text.replace("no gain found for", "")


def test_nothing_is_claimed_where_nothing_is(make_run: Callable[..., Run], tmp_path: Path) -> None:
    claimed, shown = 0, 0
    for seed in range(6):
        found = compute(*make_run(seed, effect=0.0))
        gains = [r.gain for target in found.targets for r in target.arms if r.gain]
        claimed += sum(verdict(g) != "no gain found" for g in gains)
        shown += len(gains)
        for item in sentences(found):
            claims = [r for r in gains if verdict(r) != "no gain found"]
            if not claims:
                assert "; gain for" not in item.text and ": gain for" not in item.text
    assert claimed <= 2 and shown == 6 * 14
    text = build(*make_run(0, effect=0.0), tmp_path, formats=("html",))["html"].read_text(encoding="utf-8")
    assert text.count("no gain found") > 14


def test_mean_shift_is_called_so(results: Results) -> None:
    text = " ".join(s.text for s in sentences(results) if s.topic == "Sentence retrieval")
    assert "At layer 3" in text
    assert re.search(r"\*\*sim\*\* over \*\*base\*\*.*the rest was a mean shift", text)
    item = results.retrievals[0]
    assert item.modules[0] == "base" and item.layer == 3 and item.layer_given
    assert verdict(item.gains["nli", "raw"]) == verdict(item.gains["nli", "centred"]) == "loss"
    assert len(item.gains["nli", "raw"].values) == 6  # two untrained bases stand for three seeds each


def test_cautions_name_what_is_wrong(results: Results) -> None:
    said = {s.topic: s.text for s in cautions(results)}
    assert "invented" in said["Stand-in"] and "cut at 64 tokens" in said["Warning"]
    assert "in qaf" in said["At chance level"]
    assert "for **fuse**" in said["Not converged"]
    assert "One run" not in said and "One base" not in said


def test_chance_level() -> None:
    assert at_chance(36.0, 33.3, 300) and not at_chance(45.0, 33.3, 300)
    assert at_chance(20.0, 33.3, 300)  # below guessing is not above it
    assert not at_chance(1.0, None, 300)


def test_csv_and_json_hold_every_row(run: Run, built: dict[str, Path]) -> None:
    rows, _ = run
    assert json.loads(built["json"].read_text(encoding="utf-8")) == [
        {k: v for k, v in row.items() if v is not None or k == "seed"} for row in rows
    ]
    table = list(csv.DictReader(io.StringIO(built["csv"].read_text(encoding="utf-8"))))
    assert [float(r["value"]) for r in table] == [r["value"] for r in rows]
    assert table[0]["layer"] == "" and table[-1]["variant"] == "centred"


def test_markdown_tables_are_square(built: dict[str, Path]) -> None:
    text = built["md"].read_text(encoding="utf-8")
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, flags=re.M):
        assert len({line.count(" | ") for line in block.strip().splitlines()}) == 1
    assert text.index("## What came out") < text.index("## NLI (small)") < text.index("## Recipe")


def test_figures_stand_alone(built: dict[str, Path]) -> None:
    from xml.etree import ElementTree

    files = sorted(built["svg"].glob("*.svg"))
    assert len(files) == 16
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "var(" not in text and "a5c3" not in text
    light, dark = (next(f for f in files if f.name == n) for n in ("heat-qa.svg", "heat-qa.dark.svg"))
    assert light.read_text() != dark.read_text()


@pytest.mark.parametrize("width", [60, 80, 140])
def test_terminal(run: Run, width: int) -> None:
    out = io.StringIO()
    terminal(*run, Console(file=out, width=width))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for words in ("no gain", "Read with care", "qaf", "continue-bn"):
        assert words in text


def minimal(**changes: Any) -> list[dict[str, Any]]:
    rows = []
    for arm, level in (("none", 50.0), ("stack", 60.0)):
        for language in ("et", "sw"):
            row = {"base": "b", "arm": arm, "seed": 1, "task": "xcopa", "language": language, "split": "test"}
            rows.append(row | {"metric": "accuracy", "value": level, "n": 500, "stage": f"{arm}1"} | changes)
    return rows


def test_one_run_without_english(tmp_path: Path) -> None:
    facts = {"recipe": {"name": "tiny"}, "chance": {"xcopa": 50.0}, "arms": [{"name": "stack", "baseline": "none"}]}
    paths = build(minimal(), facts, tmp_path)
    text = paths["html"].read_text(encoding="utf-8")
    Page(text)
    assert "+10.0" in text and "one run" in text and "no gain found" in text
    assert "One run shows no spread" in text and "cannot be told from guessing" in text
    assert "XCOPA leaderboard" in text and ">published<" in text  # verified rows stand beside
    assert "loaded" not in text
    assert "| stack |" in paths["md"].read_text(encoding="utf-8")


def test_recalled_rows_are_marked(tmp_path: Path) -> None:
    text = build(minimal(task="xnli"), {"recipe": {"name": "r"}}, tmp_path, ("md",))["md"].read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if "| mnli | xnli |" in line)
    assert "recalled, not checked against the paper" in line and "published" not in line
    assert "Tatoeba 31.0" in line and "| 14 |" in line


def test_no_rows_at_all(tmp_path: Path) -> None:
    text = build([], {"recipe": {"name": "empty"}}, tmp_path, ("html", "md"))["html"].read_text(encoding="utf-8")
    Page(text)
    assert "No scores yet" in text


def test_many_arms_and_languages(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    languages = ["en", *(f"l{i}" for i in range(40))]
    arms = [f"arm number {i}" for i in range(14)]
    rows = [
        {"base": "b", "arm": arm, "seed": s, "task": "panx", "language": x, "split": "test", "metric": "f1",
         "value": float(rng.uniform(40, 90)), "n": 100, "stage": f"{arm}{s}"}
        for arm in arms for s in (1, 2) for x in languages
    ]  # fmt: skip
    facts = {
        "recipe": {"name": "big"},
        "arms": [{"name": arm, "baseline": arms[0] if i else None} for i, arm in enumerate(arms)],
    }
    paths = build(rows, facts, tmp_path)
    Page(paths["html"].read_text(encoding="utf-8"))
    out = io.StringIO()
    terminal(rows, facts, Console(file=out, width=160))
    assert "l39" in out.getvalue()


def test_per_example_scores_add_a_wider_interval(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows, kept = [], {}
    for arm, level in (("none", 0.5), ("stack", 0.65)):
        for seed in (1, 2, 3):
            for language in ("et", "sw"):
                correct = (rng.random(120) < level + rng.normal(0, 0.01)).astype(float)
                kept[f"{arm}{seed}", language] = {str(i): float(v) for i, v in enumerate(correct)}
                row = {"base": "b", "arm": arm, "seed": seed, "task": "own", "language": language, "split": "test"}
                rows.append(row | {"metric": "accuracy", "value": 100 * float(correct.mean()), "stage": f"{arm}{seed}"})
    facts = {"recipe": {"name": "examples"}, "arms": [{"name": "stack", "baseline": "none"}]}
    found = compute(rows, facts, lambda stage, language: kept.get((stage, language)))
    gain = next(r.gain for r in found.targets[0].arms if r.gain)
    assert gain.resampled is not None and gain.resampled.mean == pytest.approx(gain.mean)
    text = build(rows, facts, tmp_path, ("html",), lambda s, x: kept.get((s, x)))["html"].read_text(encoding="utf-8")
    assert "languages and examples too" in text and "crossed bootstrap" in text


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    facts = {
        "recipe": {"name": "<script>alert(1)</script>", "text": "a: </pre><b>"},
        "names": {"stack": 'x"><i>|y'},
        "warnings": ["<img src=x>"],
    }
    paths = build(minimal(), facts, tmp_path)
    page = Page(paths["html"].read_text(encoding="utf-8"))
    assert page.open == [] and page.loads == []
    assert "<script>alert(1)</script>" in "".join(page.text)
    assert "\\|y" in paths["md"].read_text(encoding="utf-8")


def test_wrong_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown report format 'pdf'"):
        build([], {}, tmp_path, ("pdf",))
    with pytest.raises(DataError, match="unknown 'arm'"):
        build([], {"arm": []}, tmp_path)
    with pytest.raises(DataError, match="unexpected keyword argument 'base'"):
        build([], {"arms": [{"name": "a", "base": "b"}]}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_numbers_are_written_plainly() -> None:
    assert (number(-0.04), signed(0.04), signed(-1.25), number(None)) == ("0.0", "0.0", f"{MINUS}1.2", "\u2013")
    assert gain_text(None) == "\u2013"


def test_import_is_light() -> None:
    heavy = "import sys, adapterstilts.report as r; print({'torch', 'matplotlib', 'jinja2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
