"""The shipped recipes: they plan without torch, and run from end to end with everything made small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = {
    "quickstart": ["bases=[lab/s0]", "seeds=[0]", "languages=[en, qaa]", "train.steps=2"],
    "real-files": ["train.steps=2", "vars.train=32", "vars.target=32", "vars.test=8"],
}


def run(*arguments: str, store: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "adapterstilts", *arguments, "--store", str(store)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr[-2000:]
    return done


def steps_of(name: str) -> list[str]:
    """``--set`` for every entry that names its own schedule, so that none of them is long."""
    import yaml

    plain = yaml.safe_load((ROOT / "recipes" / f"{name}.yaml").read_text())
    sets = [f"modules.{key}.settings.steps=2" for key, entry in plain["modules"].items() if "train" in entry]
    sets += [f"targets.{key}.train.steps=2" for key in plain["targets"]]
    # Mining keeps its size: among few sentences no gold pair would be left.
    sets += [f"retrieve.{n}.limit=20" for n, entry in enumerate(plain["retrieve"]) if "bucc2018" not in entry["tasks"]]
    if name == "real-files":
        sets += ["retrieve.0.languages=[de]", "retrieve.1.languages=[de]", "targets.xquad.test_limit=4"]
        sets += [f"targets.{key}.languages=[en, de]" for key in ("xnli", "xquad", "udpos")]
        sets += ["targets.xcopa.languages=[id]"]
    return [part for text in (*SMALL[name], *sets) for part in ("--set", text)]


@pytest.mark.parametrize("name", ["quickstart", "real-files", "xlmr-large"])
def test_a_recipe_plans(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name == "real-files":
        request.getfixturevalue("shared_data")
        request.getfixturevalue("shared_base")
    plan = json.loads(run("plan", f"recipes/{name}.yaml", "--format", "json", store=tmp_path).stdout)
    kinds = {stage["kind"] for stage in plan["stages"]}
    assert kinds == {"prepare", "train", "merge", "evaluate", "retrieve"}
    assert {stage["state"] for stage in plan["stages"]} == {"missing"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "real-files"])
def test_a_recipe_runs(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if name == "real-files":
        request.getfixturevalue("shared_data")
        request.getfixturevalue("shared_base")
    report = tmp_path / "report"
    command = ("run", f"recipes/{name}.yaml", *steps_of(name), "--jobs", "auto", "--report", str(report))
    run(*command, store=tmp_path / "store")
    page = (report / "report.html").read_text()
    assert "What came out" in page and "http-equiv" not in page
    rows = json.loads((report / "scores.json").read_text())
    assert {"base", "arm", "seed", "task", "language", "split", "metric", "value", "n", "stage"} <= set(rows[0])
    assert "hit" in run(*command, store=tmp_path / "store").stderr


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_valid(path: Path) -> None:
    """Keys, names, languages and compositions; data and bases need not be there."""
    from adapterstilts.api.planning import read_recipe

    read = read_recipe(path)
    assert read.arms and read.targets
    if path.parent.name == "studies":
        assert read.name == f"study-{path.stem.replace('.', '-')}"
        assert path.stem.startswith(f"{read.study['name']}.")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "studies").glob("*.real-files.yaml")), ids=lambda p: p.stem)
def test_a_study_of_real_files_finds_its_data(path: Path, tmp_path: Path, shared_data: Path, shared_base: Path) -> None:
    from adapterstilts.api.planning import plan_recipe

    sets = [f"data={shared_data}", f"base={shared_base}"]
    assert plan_recipe(path, sets, store=tmp_path / "store").plan.cells


def test_domains_of_real_files_share_no_sentence(shared_data: Path) -> None:
    """The parallel treebanks are part of udpos: a shift from one to the other would compare data with itself."""
    from adapterstilts.api.planning import read_recipe
    from adapterstilts.data.rows import read
    from adapterstilts.data.sources import resolve
    from adapterstilts.tasks.registry import TaskRegistry

    registry = TaskRegistry()
    shifted = read_recipe(ROOT / "recipes" / "studies" / "domain-shift.real-files.yaml").study["shifted"]
    for pair in shifted.items():
        for language in registry.get(pair[0]).languages:
            found = [read(resolve(registry.get(name), language, "test", shared_data)) for name in pair]
            here, there = ({" ".join(row.values["words"]) for row in rows} for rows in found)
            assert len(here) > 400 and len(there) > 400 and not here & there


def test_recipes_of_an_installed_package_are_all_listed() -> None:
    import re

    listed = re.findall(r'"(recipes/[^"]*\*\.yaml)"', (ROOT / "pyproject.toml").read_text())
    found = {path for pattern in listed for path in ROOT.glob(pattern)}
    assert found == set((ROOT / "recipes").rglob("*.yaml"))
