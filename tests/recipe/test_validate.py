"""Cross references, and compositions that the families make impossible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterstilts.recipe import bind, from_plain, validate
from adapterstilts.recipe.problems import InvalidRecipe
from adapterstilts.tasks.registry import TaskRegistry
from tests.small_tasks import small_registry

MODULES: dict[str, Any] = {
    "nli": {"train": "t-nli"},
    "nli-x": {"train": "t-nli/qac"},
    "r4": {"train": "t-nli", "method": {"name": "lora", "r": 4}},
    "bn": {"train": "t-nli", "method": "seq_bn"},
    "bn2": {"train": "t-nli/qac", "method": "seq_bn"},
    "bn-wide": {"train": "t-nli", "method": {"name": "seq_bn", "reduction": 2}},
    "bn-top": {"train": "t-nli", "method": "seq_bn", "on": "bn2"},
    "top": {"train": "t-nli", "on": "nli"},
    "fused": {"train": "t-nli", "on": "fuse(nli, nli-x)"},
    "both": {"merge": ["nli", "nli-x"]},
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskRegistry:
    return small_registry(tmp_path_factory.mktemp("tasks"))


def whats(registry: TaskRegistry, **parts: Any) -> list[str]:
    return [str(problem) for problem in validate(from_plain({"name": "x", "base": "lab/s0", **parts}), registry)]


def test_a_sound_recipe_has_no_problems(tasks: TaskRegistry) -> None:
    targets = {"qa": {"task": "t-xqa", "languages": ["en", "qaa"]}}
    arms = {"none": {}, "stack": {"on": "stack(nli, bn)", "baseline": "none"}, "continue": {"continue": "top"}}
    retrieve = {"tasks": ["t-tatoeba", "t-bucc"], "modules": ["base", "both"]}
    assert not whats(tasks, modules=MODULES, targets=targets, arms=arms, retrieve=retrieve)


@pytest.mark.parametrize(
    ("on", "told"),
    [
        ("fuse(nli, bn, how=attention)", "AdapterFusion needs bottlenecks"),
        ("fuse(nli, nli-x, how=attention)", "AdapterFusion needs bottlenecks"),
        ("fuse(0.5*nli, nli-x)", "fuse learns its weights"),
        ("0.5*bn", "`bn` is a bottleneck and cannot be weighted"),
        ("stack(nli, nli)", "`nli` would count twice"),
        ("stack(nli, top)", "it is part of `nli` and of `top`"),
        ("merge(nli, fused)", "`nli` would count twice"),
        ("merge(nli-x, stack(r4, nli))", "merge takes modules"),
        ("merge(fused, r4)", "a merge of a fused module"),
        ("merge(nli, bn)", "merge of two families"),
        ("merge(nli, r4, how=linear)", "a linear merge of unequal ranks"),
        ("merge(bn, bn-wide)", "an average of unequal modules"),
        ("merge(bn, bn2, how=cat)", "seq_bn cannot be merged by `cat`"),
        ("merge(bn, bn2, how=search, task=t-nli)", "seq_bn cannot be merged by `search`"),
        ("merge(nli, nli-x, how=search, task=t-qa)", "none of nli, nli-x has a head for `t-qa`"),
        ("merge(nli, nli-x, how=search, task=t-nly)", "did you mean `t-nli`"),
        ("merge(nli, nli-x, how=search, task=t-bucc)", "is searched"),
        ("merge(nli, nli-x, how=search, task=t-nli/fr)", "`t-nli` has no language `fr`"),
        ("merge(nli, 2*nli-x, how=search, task=t-nli)", "a search with weights"),
        ("merge(2*nli, nli-x, weights=[1, 1])", "merge has weights twice"),
        ("stack({language}, nli)", "{language} is not bound"),
        ("stack(nly, nli)", "did you mean `nli`?"),
    ],
)
def test_impossible_compositions_are_refused_with_the_reason(tasks: TaskRegistry, on: str, told: str) -> None:
    found = whats(tasks, modules=MODULES, targets={"qa": {"task": "t-qa"}}, arms={"a": {"on": on}})
    assert found and told in found[0]


@pytest.mark.parametrize(
    "on",
    [
        "fuse(bn, bn2, how=attention)",
        "stack(bn, nli)",
        "fuse(nli, stack(nli-x, r4))",
        "2*nli",
        "merge(nli, -0.5*nli-x)",
        "merge(nli, nli-x, how=average)",
        "merge(nli, r4, how=search, task=t-nli/en, steps=5)",
        "fuse(nli, bn)",
        "fuse(stack(bn, bn2), bn-wide)",
    ],
)
def test_possible_compositions_pass(tasks: TaskRegistry, on: str) -> None:
    assert not whats(tasks, modules=MODULES, targets={"qa": {"task": "t-qa"}}, arms={"a": {"on": on}})


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"modules": {"m": {"train": "t-nly"}}}, "did you mean `t-nli`"),
        ({"modules": {"m": {"train": "t-nli/qa"}}}, "`t-nli` has no language `qa`"),
        ({"modules": {"m": {"train": "t-nli/a/b"}}}, "is no task"),
        ({"modules": {"m": {"train": "t-bucc"}}}, "`t-bucc` is searched"),
        ({"modules": {"m": {"train": "t-nli", "method": "lara"}}}, "did you mean `lora`?"),
        ({"modules": {"m": {"train": "t-nli", "method": {"name": "lora", "rank": 4}}}}, "no parameter `rank`"),
        ({"method": {"name": "lora", "sites": ["kee"]}}, "unknown site `kee`"),
        ({"modules": {"m": {"merge": ["n"]}, "nn": {"train": "t-nli"}}}, "unknown module `n`"),
        ({"modules": {"a": {"train": "t-nli", "on": "b"}, "b": {"train": "t-nli", "continue": "a"}}}, "a -> b -> a"),
        (
            {"modules": MODULES | {"m": {"train": "t-nli", "continue": "nli", "method": "seq_bn"}}},
            "cannot change",
        ),
        ({"modules": MODULES, "retrieve": {"tasks": "t-nli"}}, "`t-nli` is not searched"),
        ({"modules": MODULES, "evaluate": {"tasks": "t-qa", "modules": "nli"}}, "`nli` has no head for `t-qa`"),
        ({"modules": MODULES, "evaluate": {"tasks": "t-nli", "modules": "both"}}, "this merge has no heads"),
        ({"evaluate": {"tasks": "t-nli", "modules": "base"}}, "the bare base has no head"),
        ({"targets": {"q": {"task": "t-qa", "languages": ["fr"]}}, "arms": {"a": {}}}, "`t-qa` has no language `fr`"),
        (
            {"languages": ["qad"], "targets": {"q": {"task": "t-qa"}}, "arms": {"a": {}}},
            "no task has the language `qad`",
        ),
        ({"targets": {"q": {"task": "t-qa"}}}, "targets without arms"),
        ({"targets": {"q": {"task": "t-qa"}}, "arms": {"a": {"targets": "r"}}}, "unknown target `r`"),
        ({"targets": {"q": {"task": "t-qa"}}, "arms": {"a": {"baseline": "a"}}}, "is its own baseline"),
        ({"targets": {"q": {"task": "t-qa"}}, "arms": {"a": {}}, "report": {"baseline": "aa"}}, "did you mean `a`?"),
        ({"tasks": {"t-qa": {"formt": "x"}}}, "unknown key `formt`"),
    ],
)
def test_references_that_lead_nowhere(tasks: TaskRegistry, parts: dict[str, Any], told: str) -> None:
    found = whats(tasks, **parts)
    assert any(told in text for text in found), found


def test_unknown_keys_do_not_hide_unknown_names(tasks: TaskRegistry) -> None:
    plain = {"name": "x", "base": "lab/s0", "modules": {"m": {"train": "t-nly", "limt": 3}}}
    with pytest.raises(InvalidRecipe) as caught:
        from_plain(plain, check=bind(tasks))
    text = str(caught.value)
    assert "unknown key `limt`" in text and "t-nly" in text


def test_problems_stand_at_their_lines(tasks: TaskRegistry, tmp_path: Path) -> None:
    from adapterstilts.recipe import load

    path = tmp_path / "r.yaml"
    path.write_text(
        "name: x\nbase: lab/s0\nmodules:\n  a: {train: t-nli}\n  b:\n    train: t-nli\n    on: fuse(a, c)\n"
    )
    with pytest.raises(InvalidRecipe) as caught:
        load(path, check=bind(tasks))
    assert [problem.where for problem in caught.value.problems] == [f"{path}:7"]
