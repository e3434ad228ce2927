"""Loading a recipe: layers, variables, and every error with its line."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterstilts.errors import AdapterstiltsError, DataError, RecipeError
from adapterstilts.modules.expressions import parse
from adapterstilts.plan.layers import settled
from adapterstilts.recipe import InvalidRecipe, Recipe, from_plain, load
from tests.conftest import unit


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    return path


def problems(path: Path, *sets: str) -> list[RecipeError]:
    with pytest.raises(InvalidRecipe) as caught:
        load(path, sets)
    return list(caught.value.problems)


WHOLE = """
    name: quickstart
    description: all keys once
    vars: {n: 150, size: big, ranks: [4, 8]}
    bases: [lab/s0, lab/s1]
    data: ../shared/data
    seeds: [0, 1]
    languages: [en, no, sw]
    method: {name: lora, r: 8}
    train: {epochs: 3, learning_rate: 3e-5}
    tasks: {lab-qa: {sizes: {train: 150}}}
    modules:
      nli: {train: lab-nli, limit: 3000}
      nli-x: {train: lab-nli/qac, description: "${size} n=${n}"}
      seq: {train: lab-nli/qac, continue: nli}
      joint:
        train: [lab-nli, {task: lab-nli, languages: [qaa, qab], limit: 10}]
        settings: {mix: {how: uniform}}
      both: {merge: [nli, nli-x], how: ties, weights: [1, 5e-1], parameters: {density: 0.5}}
      top: {train: lab-nli, on: {stack: [nli, {fuse: [nli-x, joint]}]}}
      lora-${r}-${n}: {matrix: {r: "${ranks}"}, train: lab-nli, method: {name: lora, r: "${r}"}}
      old: {use: mnli}
    targets:
      qa: {task: lab-qa, limit: "${n}", train: {epochs: 40}, languages: all, test_limit: 100}
    arms:
      none:
      stack: {on: nli}
      fuse: {on: "fuse(nli, nli-x)", baseline: none, targets: qa}
    retrieve: {tasks: [lab-tatoeba], modules: [base, nli], layers: [0, 4]}
    evaluate: {tasks: lab-nli, modules: nli}
    report: {title: T, distance: lab, baseline: none}
"""


def test_a_whole_recipe(tmp_path: Path) -> None:
    recipe = load(write(tmp_path / "r.yaml", WHOLE))
    assert recipe.languages == ("en", "no", "sw")  # `no` is a language, not false
    assert recipe.train["learning_rate"] == 3e-5
    assert settled({"task": {"epochs": 1}, "train": recipe.train}, 1.0)[0].learning_rate == 3e-5
    assert recipe.modules["nli-x"].description == "big n=150"
    assert recipe.targets["qa"].limit == 150
    assert recipe.modules["top"].on == parse("stack(nli, fuse(nli-x, joint))")
    methods = [recipe.modules[f"lora-{r}-150"].method for r in (4, 8)]
    assert [method and method.parameters for method in methods] == [{"r": 4}, {"r": 8}]
    assert recipe.modules["joint"].train[1].languages == ("qaa", "qab")
    assert recipe.modules["both"].weights == (1.0, 0.5)
    assert recipe.arms["none"].on == parse("base") and recipe.arms["fuse"].targets == ("qa",)
    assert recipe.retrieve[0].layers == (0, 4) and recipe.evaluate[0].modules == ("nli",)
    assert recipe.where("modules", "seq", "continue") == f"{tmp_path}/r.yaml:15"
    assert recipe.where("modules", "lora-8-150", "method") == f"{tmp_path}/r.yaml:21"


def test_loading_is_quick_and_free_of_torch(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", WHOLE)
    load(path)
    start = time.process_time()
    load(path)
    assert time.process_time() - start < unit()
    code = f"import sys; from adapterstilts.recipe import load; load({str(path)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_all_problems_come_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.yaml",
        """
        name: quick
        base: lab/s0
        seeds: [0, one]
        modules:
          nli: {train: lab-nli, limt: 3}
          bad: {train: lab-nli, on: "fsue(a)"}
          two: {train: lab-nli, merge: [nli]}
          lr: {train: lab-nli, learning_rate: 1}
          neg: {train: lab-nli, settings: {epochs: -1, epoch: 2}}
        targets:
          qa: {limit: "${m}"}
        langages: [en]
        """,
    )
    found = problems(path)
    lines = {(str(problem.where).rpartition(":")[2], problem.what.split(" (")[0]) for problem in found}
    assert lines == {
        ("4", '`seeds.1` cannot be "one"'),
        ("6", "unknown key `limt`"),
        ("7", "unknown operator `fsue` at column 1 of `fsue(a)`"),
        ("8", "modules.two: a module needs one of train, merge, use"),
        ("9", "unknown key `learning_rate`"),
        ("10", "`modules.neg.settings.epochs` cannot be -1"),
        ("10", "unknown key `epoch`"),
        ("12", "unknown variable `m`"),
        ("12", "targets.qa: `task` is missing"),
        ("12", '`targets.qa.limit` cannot be "${m}"'),
        ("13", "unknown key `langages`"),
    }
    reasons = {problem.what: problem.why for problem in found}
    assert reasons["`modules.neg.settings.epochs` cannot be -1"] == "Input should be greater than 0"
    assert reasons["modules.two: a module needs one of train, merge, use"] == "this one has train and merge"
    hints = {problem.what: problem.fix for problem in found}
    assert hints["unknown key `limt`"] == "did you mean `limit`?"
    assert hints["unknown key `langages`"] == "did you mean `languages`?"
    assert hints["unknown key `learning_rate`"] == "write settings: {learning_rate: ...}"
    with pytest.raises(InvalidRecipe, match="11 problems in") as caught:
        load(path)
    assert caught.value.exit_code == 2
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and len(again.problems) == 11


def test_settings_are_checked_as_they_combine(tmp_path: Path) -> None:
    text = """
        name: x
        base: lab/s0
        targets: {qa: {task: t, train: {evaluate: 4}}}
        arms: {none: {settings: {select: best}}}
        """
    recipe = load(write(tmp_path / "good.yaml", text))
    layers = {"targets.qa.train": recipe.targets["qa"].train, "arms.none.settings": recipe.arms["none"].settings}
    assert settled(layers, None)[0].select == "best"
    (problem,) = problems(write(tmp_path / "bad.yaml", text.replace("{evaluate: 4}", "{}")))
    assert "need dev scores" in problem.what and str(problem.where).endswith("bad.yaml:5")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("name: a\nname: b\n", 2, "the key `name` stands twice"),
        ("name: [a\n", 2, "this is not YAML"),
        ("name: !!python/object:os.system a\n", 1, "has no meaning here"),
        ("- a\n", 1, "a recipe is a mapping"),
        ("a: &x [*x]\n", 1, "an alias that contains itself"),
        ("? [a]\n: b\n", 1, "a key must be a word"),
    ],
)
def test_text_that_is_no_recipe(tmp_path: Path, text: str, line: int, told: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=told) as caught:
        load(path)
    assert caught.value.where == f"{path}:{line}"


def test_missing_file_and_wrong_encoding(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the recipe"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")


def test_extends_lays_files_over_each_other(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "name: a\nbase: lab/s0\nvars: {n: 1}\nmodules:\n  m: {train: t, limit: '${n}'}\n")
    (tmp_path / "sub").mkdir()
    child = write(
        tmp_path / "sub" / "r.yaml", "extends: ../base.yaml\nbases: [x, y]\nvars: {n: 7}\nmodules:\n  k: {train: u}\n"
    )
    recipe = load(child)
    assert recipe.bases == ("x", "y") and list(recipe.modules) == ["m", "k"] and recipe.modules["m"].limit == 7
    assert recipe.where("modules", "m") == f"{tmp_path}/sub/../base.yaml:5"
    assert recipe.where("modules", "k") == f"{child}:5"
    write(tmp_path / "base.yaml", "extends: sub/r.yaml\n")
    with pytest.raises(RecipeError, match="circle") as caught:
        load(child)
    assert "r.yaml -> base.yaml -> r.yaml" in str(caught.value)
    write(tmp_path / "base.yaml", "extends: nothing.yaml\n")
    with pytest.raises(RecipeError, match="no such file") as caught:
        load(tmp_path / "base.yaml")
    assert caught.value.where == f"{tmp_path}/base.yaml:1"


def test_set_lays_values_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", WHOLE)
    sets = ["vars.n=7", "train.learning_rate=1e-4", "seeds=[3]", "base=lab/s9", "method.r=16", "data=/x"]
    recipe = load(
        path, [*sets, "modules.new={train: t}", "modules.nli.limit=5", "seeds.0=4", "arms.none.method.name=seq_bn"]
    )
    assert recipe.targets["qa"].limit == 7 and recipe.train["learning_rate"] == 1e-4
    assert recipe.seeds == (4,) and recipe.bases == ("lab/s9",) and recipe.data == "/x"
    assert recipe.method.parameters == {"r": 16} and recipe.modules["nli"].limit == 5
    assert recipe.modules["new"].train[0].task == "t"
    assert recipe.arms["none"].method is not None and recipe.arms["none"].method.name == "seq_bn"
    found = problems(path, "train.epoch=3", "seeds.9=1", "name.x=1", "nonsense", "data=[")
    whats = {problem.where: problem.what for problem in found}
    assert whats["--set train.epoch=3"] == "unknown key `epoch`"
    assert "no item 9" in whats["--set seeds.9=1"] and "single value" in whats["--set name.x=1"]
    assert "cannot read" in whats["--set nonsense"]
    assert any("not YAML" in problem.what for problem in found)


def test_variables_and_matrices_that_cannot_be(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.yaml",
        """
        name: x
        base: lab/s0
        vars: {a: "${b}", b: "${a}"}
        modules:
          same: {matrix: {r: [4, 8]}, train: t}
          none: {matrix: {r: []}, train: t}
        """,
    )
    whats = [problem.what for problem in problems(path)]
    assert "the variable `a` refers to itself" in whats
    assert "two entries are named `same`" in whats and "`matrix` is a mapping of names to lists" in whats


def test_a_recipe_in_memory_names_the_options_it_came_from() -> None:
    recipe = from_plain({"name": "adhoc", "base": "lab/s0", "modules": {"m": {"train": "lab-nli"}}})
    assert isinstance(recipe, Recipe) and recipe.bases == ("lab/s0",)
    with pytest.raises(InvalidRecipe) as caught:
        from_plain({"name": "adhoc", "base": "lab/s0", "seeds": ["x"]}, places={("seeds",): "--seeds"})
    assert caught.value.problems[0].where == "--seeds"


KEYS = st.sampled_from(
    ["name", "base", "bases", "vars", "modules", "arms", "targets", "train", "on", "merge", "matrix", "x"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["a", "${a}", "base", "fuse(a)", "all", "3e-5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
@settings(deadline=None, max_examples=300)
def test_any_mapping_is_a_recipe_or_gives_one_of_our_errors(plain: dict[str, object]) -> None:
    try:
        from_plain(plain)
    except AdapterstiltsError as error:
        assert str(error)
