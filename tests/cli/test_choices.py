"""What a name of --only, --from, --until and --force stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterstilts.api.choosing import Choice, Part, choose, matching
from adapterstilts.api.planning import Planned, plan_recipe
from adapterstilts.errors import RecipeError
from adapterstilts.plan.graph import Plan
from adapterstilts.store import Store


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    return plan_recipe("quickstart", store=tmp_path_factory.mktemp("s"), sets=["seeds=[0]", "bases=[lab/s0]"])


def labels(plan: Plan, *names: str) -> set[str]:
    return {plan.by_hash[hash].label for hash in matching(plan, names)}


def test_a_name_is_a_kind_a_module_a_target_a_label_or_a_part(planned: Planned) -> None:
    plan = planned.plan
    assert labels(plan, "merge") == {"merge siqa-merged lab/s0 seed 0"}
    assert labels(plan, "siqa") == {"train siqa lab/s0 seed 0"}  # the module, not all that contain the word
    assert labels(plan, "train siqa*") > labels(plan, "siqa")
    copa = labels(plan, "copa")
    assert "train copa by stack lab/s0 seed 0" in copa and "evaluate copa by stack lab/s0 seed 0" in copa
    assert not any("pos" in label.split() or label.startswith("prepare") for label in copa)
    assert labels(plan, "copa by none lab") == {f"{kind} copa by none lab/s0 seed 0" for kind in ("train", "evaluate")}
    stage = plan.stages[5]
    assert matching(plan, [stage.hash[:10]]) == {stage.hash}
    assert {plan.by_hash[hash].kind for hash in matching(plan, ["retrieve", "prepare"])} == {"retrieve", "prepare"}
    with pytest.raises(RecipeError, match="no stage is called `siqaa`") as caught:
        matching(plan, ["siqaa"])
    assert "siqa" in str(caught.value.fix)


def test_only_from_until_and_force(planned: Planned) -> None:
    plan, store = planned.plan, planned.store

    def runs(**names: tuple[str, ...]) -> set[str]:
        part = choose(planned, Choice(**names)).plan
        assert isinstance(part, Part)
        part.check(store)
        return {stage.label for stage in part.needed(store)}

    until = runs(until=("siqa",))
    assert until == {"prepare lab-siqa/en train", "prepare lab-siqa/en dev", "train siqa lab/s0 seed 0"}
    after = runs(start=("siqa-merged",))
    assert "evaluate copa by merge lab/s0 seed 0" in after and "train siqa lab/s0 seed 0" in after  # it is missing
    assert "evaluate copa by none lab/s0 seed 0" not in after
    with pytest.raises(RecipeError, match="needs `prepare"):
        runs(only=("siqa",))
    assert runs(only=("prepare",)) == {stage.label for stage in plan.stages if stage.kind == "prepare"}


def test_force_removes_nothing_before_the_run(planned: Planned, tmp_path: Path) -> None:
    store = Store(tmp_path)
    plan = planned.plan
    merge = next(stage for stage in plan.stages if stage.kind == "merge")
    for stage in plan.stages:
        with store.write(stage.hash, stage.kind, {"parents": dict(stage.parents)}) as directory:
            (directory / "x").write_text("x")
    part = choose(Planned(planned.recipe, plan, store, planned.tasks), Choice(force=("merge",))).plan
    assert isinstance(part, Part) and store.has(merge.hash)
    again = {stage.label for stage in part.needed(store)}
    by_merge = {f"{kind} copa by merge lab/s0 seed 0" for kind in ("train", "evaluate")}
    assert again == {"merge siqa-merged lab/s0 seed 0", *by_merge}
    part.make_way(store)
    assert not store.has(merge.hash) and {stage.label for stage in part.needed(store)} == again
