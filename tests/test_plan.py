"""Plans: what a recipe expands to, hashes that follow what decides a result, and runs that can be read back."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.errors import DataError, RecipeError
from adapterstilts.plan import Links, Plan, Stage, load_plan, load_stage, make_plan, make_stage, record, states
from adapterstilts.plan.used import instance, without_instance
from adapterstilts.recipe import Recipe, from_plain
from adapterstilts.stages.specs import EvaluateSpec, MergeSpec, RetrieveSpec, TrainSpec
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry
from tests.conftest import unit
from tests.small_tasks import own_data, small_base, small_registry

RECIPE: dict[str, Any] = {
    "name": "quick",
    "seeds": [0, 1],
    "train": {"epochs": 2},
    "modules": {
        "nli": {"train": "t-nli", "limit": 50},
        "seq": {"train": "t-nli/qac", "continue": "nli"},
        "joint": {"train": ["t-nli", {"task": "t-nli", "languages": ["qaa", "qac"], "limit": 9}]},
        "both": {"merge": ["nli", "joint"]},
        "bn": {"train": "t-nli", "method": "seq_bn"},
    },
    "targets": {"qa": {"task": "t-xqa", "limit": 30, "test_limit": 10}},
    "arms": {
        "none": {},
        "continue": {"continue": "seq"},
        "stack": {"on": "stack(nli)"},
        "fuse": {"on": "fuse(nli, joint)", "settings": {"epochs": 4}},
        "merge": {"on": "merge(nli, 0.5*joint)"},
        "bn": {"method": "seq_bn", "on": "bn"},
    },
    "retrieve": [{"tasks": ["t-tatoeba", "t-bucc"], "modules": ["base", "nli"]}],
    "evaluate": [{"tasks": "t-nli", "modules": "seq"}],
}


@pytest.fixture
def tasks(tmp_path: Path) -> TaskRegistry:
    return small_registry(tmp_path / "tasks")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    bases = [str(small_base(tmp_path / name, name.encode())) for name in ("s0", "s1")]
    return {**RECIPE, "bases": bases}


def planned(plain: dict[str, Any], registry: TaskRegistry, store: Store, **changes: Any) -> Plan:
    return make_plan(from_plain({**plain, **changes}), registry, store)


def simple(plain: dict[str, Any], **parts: Any) -> Recipe:
    """A recipe on the first base with nothing but these parts."""
    return from_plain({"name": "x", "base": plain["bases"][0], **parts})


def labelled(plan: Plan, text: str) -> Stage:
    (found,) = [stage for stage in plan.stages if stage.label.startswith(text)]
    return found


def test_a_recipe_expands_to_stages_after_their_parents(
    plain: dict[str, Any], tasks: TaskRegistry, store: Store
) -> None:
    plan = planned(plain, tasks, store)
    place: dict[str, int] = {stage.hash: number for number, stage in enumerate(plan.stages)}
    assert len(place) == len(plan.stages)
    assert all(place[parent] < place[stage.hash] for stage in plan.stages for parent in stage.parents.values())
    kinds = {
        kind: sum(stage.kind == kind for stage in plan.stages) for kind in ("train", "merge", "evaluate", "retrieve")
    }
    worlds = 4  # two bases, two seeds
    assert kinds == {
        "train": worlds * (4 + 6),
        "merge": worlds * 2,
        "evaluate": worlds * 7,
        "retrieve": 2 * 2 + worlds * 2,
    }
    # Both bases have one tokenizer, so all data is prepared once.
    assert sum(stage.kind == "prepare" for stage in plan.stages) == 3 + 2 + 2 + 3 + 2 + 4 + 3
    assert len(plan.cells) == worlds * (6 + 1 + 4)
    assert {cell.arm for cell in plan.cells if cell.kind == "retrieve"} == {"base", "nli"}


def test_what_a_training_stage_is_told(plain: dict[str, Any], tasks: TaskRegistry, store: Store) -> None:
    plan = planned(plain, tasks, store, bases=plain["bases"][:1], seeds=[0])
    ref = plain["bases"][0]
    nli, seq, joint = (labelled(plan, f"train {name} {ref} seed 0") for name in ("nli", "seq", "joint"))
    spec = seq.spec
    assert isinstance(spec, TrainSpec) and spec.start == nli.hash and spec.method is None and spec.below is None
    assert set(seq.parents) == {"train:t-nli/qac", "dev:t-nli/qac", "start"}
    assert isinstance(joint.spec, TrainSpec) and [(s.key, s.limit) for s in joint.spec.mix] == [
        ("t-nli/en", None),
        ("t-nli/qaa", 9),
        ("t-nli/qac", 9),
    ]
    # English alone selects when the mix holds English.
    assert [role for role in joint.parents if role.startswith("dev:")] == ["dev:t-nli/en"]
    assert isinstance(nli.spec, TrainSpec) and nli.spec.mix[0].limit == 50 and nli.spec.settings.epochs == 2
    assert nli.spec.settings.learning_rate == 3e-4 and nli.spec.method is not None
    assert nli.spec.method.parameters["r"] == 8  # every parameter is written out
    stack, fuse = labelled(plan, "train qa by stack"), labelled(plan, "train qa by fuse")
    assert isinstance(stack.spec, TrainSpec) and stack.spec.below == nli.hash
    assert stack.parents[f"module:{nli.hash}"] == nli.hash and "train:t-qa/en" in stack.parents
    assert isinstance(fuse.spec, TrainSpec) and fuse.spec.below == f"fuse({nli.hash}, {joint.hash})"
    assert fuse.spec.settings.epochs == 4
    by = plan.origins
    assert by[nli.hash] == {"epochs": "train", "learning_rate": "method"}
    assert by[fuse.hash] == {"epochs": "arms.fuse.settings", "learning_rate": "method"}


def test_earlier_tasks_of_a_target_are_trained_first(plain: dict[str, Any], tasks: TaskRegistry, store: Store) -> None:
    small = {"bases": plain["bases"][:1], "seeds": [0], "tasks": {"t-xqa": {"before": ["t-nli"]}}}
    plan = planned(plain, tasks, store, **small)
    for arm, below, start in (("none", False, False), ("continue", False, True), ("stack", True, False)):
        first, last = labelled(plan, f"train qa by {arm} {plain['bases'][0]} seed 0 on t-nli"), None
        (last,) = [stage for stage in plan.stages if stage.label == first.label.removesuffix(" on t-nli")]
        assert isinstance(first.spec, TrainSpec) and isinstance(last.spec, TrainSpec)
        assert [share.key for share in first.spec.mix] == ["t-nli/en"] and first.spec.mix[0].limit == 30
        assert (first.spec.below is not None, first.spec.start is not None) == (below, start)
        # What it stands on comes with the module that it goes on in.
        assert last.spec.start == first.hash and last.spec.below is None and last.spec.method is None
    alone = planned(plain, tasks, store, **small, targets={"qa": {**plain["targets"]["qa"], "before": []}})
    assert not [stage for stage in alone.stages if " on t-nli" in stage.label]
    missing = {**small, "tasks": {"t-xqa": {"before": ["lab-none"]}}}
    with pytest.raises(RecipeError, match="lab-none"):
        planned(plain, tasks, store, **missing)


def test_merges_and_measurements(plain: dict[str, Any], tasks: TaskRegistry, store: Store) -> None:
    plan = planned(plain, tasks, store, bases=plain["bases"][:1], seeds=[0])
    nli, joint = labelled(plan, "train nli"), labelled(plan, "train joint")
    both, inline = labelled(plan, "merge both"), labelled(plan, "merge(nli, 0.5*joint)")
    assert isinstance(both.spec, MergeSpec) and (both.spec.how, both.spec.weights) == ("cat", (1.0, 1.0))
    assert isinstance(inline.spec, MergeSpec) and inline.spec.of == (nli.hash, joint.hash)
    assert inline.spec.weights == (1.0, 0.5)
    merge = labelled(plan, "train qa by merge")
    assert isinstance(merge.spec, TrainSpec) and merge.spec.below == inline.hash
    scores = labelled(plan, "evaluate qa by none")
    assert isinstance(scores.spec, EvaluateSpec) and scores.spec.languages == ("en", "qaa", "qac")
    assert scores.spec.limit == 10 and scores.spec.split == "test"
    assert set(scores.parents) == {"module", "data:en", "data:qaa", "data:qac"}
    bucc, tatoeba = labelled(plan, "retrieve t-bucc with base"), labelled(plan, "retrieve t-tatoeba with nli")
    assert set(bucc.parents) == {f"data:{code}:{split}" for code in ("qaa", "qac") for split in ("dev", "test")}
    assert isinstance(bucc.spec, RetrieveSpec) and bucc.spec.module is None
    assert tatoeba.parents["module"] == nli.hash and "data:qaa:dev" not in tatoeba.parents


def test_a_bottleneck_merge_is_an_even_average(plain: dict[str, Any], tasks: TaskRegistry, store: Store) -> None:
    modules = {"a": {"train": "t-nli"}, "b": {"train": "t-nli/qac"}, "m": {"merge": ["a", "b"]}}
    plan = make_plan(
        from_plain({"name": "x", "base": plain["bases"][0], "method": "seq_bn", "modules": modules}), tasks, store
    )
    spec = labelled(plan, "merge m").spec
    assert isinstance(spec, MergeSpec) and (spec.how, spec.weights) == ("average", (0.5, 0.5))


def test_hashes_follow_what_decides_the_result_and_nothing_else(
    plain: dict[str, Any], tasks: TaskRegistry, store: Store, tmp_path: Path
) -> None:
    one = {**plain, "bases": plain["bases"][:1], "seeds": [0]}

    def hash_of(label: str, **changes: Any) -> str:
        return labelled(planned(one, tasks, store, **changes), label).hash

    nli, qa = hash_of("train nli"), hash_of("train qa by none")
    assert hash_of("train nli", train={"epochs": 2, "checkpoints": 1}) == nli
    assert hash_of("train nli", engine={"tokens": 99, "recompute": 2, "compact": False}) == nli
    assert hash_of("train nli", train={"epochs": 2, "precision": "int8"}) != nli
    assert hash_of("train nli", name="other", description="x") == nli
    assert hash_of("train nli", train={"epochs": 3}) != nli
    assert hash_of("train nli", seeds=[5]) != nli
    assert hash_of("train nli", tasks={"t-nli": {"sizes": {"train": 61}}}) != nli
    assert hash_of("train qa by none", tasks={"t-nli": {"sizes": {"train": 61}}}) == qa
    moved = small_base(tmp_path / "elsewhere", b"s0")
    changed = small_base(tmp_path / "changed", b"other")
    assert hash_of("train nli", bases=[str(moved)]) == nli
    assert hash_of("train nli", bases=[str(changed)]) != nli
    other_tokenizer = small_base(tmp_path / "tokenizer", b"s0", '{"x": 1}')
    assert hash_of("prepare t-nli/en train", bases=[str(other_tokenizer)]) != hash_of("prepare t-nli/en train")
    assert hash_of("prepare t-nli/en train", bases=[str(changed)]) == hash_of("prepare t-nli/en train")


def test_a_hub_base_is_named_by_its_revision_without_a_network(tasks: TaskRegistry, store: Store) -> None:
    plan = make_plan(
        from_plain({"name": "x", "base": "xlm-roberta-large@abc", "modules": {"m": {"train": "t-nli"}}}), tasks, store
    )
    base = labelled(plan, "train m").spec.base  # type: ignore[attr-defined]
    assert base.fingerprint == "hub:FacebookAI/xlm-roberta-large@abc"


def test_languages_that_are_not_there(tasks: TaskRegistry, store: Store, plain: dict[str, Any], tmp_path: Path) -> None:
    data = own_data(tmp_path / "data")
    target = {"task": "t-own"}
    small = {"name": "x", "base": plain["bases"][0], "data": str(data), "arms": {"none": {}}}
    plan = make_plan(from_plain({**small, "targets": {"t": target}}), tasks, store)
    assert labelled(plan, "evaluate").spec.languages == ("en", "de")  # type: ignore[attr-defined]
    assert plan.warnings == ("t-own test: no data for sw (2 of 3 languages there)",)
    with pytest.raises(DataError, match="no data for t-own/sw test") as caught:
        make_plan(from_plain({**small, "targets": {"t": {**target, "languages": ["en", "sw"]}}}), tasks, store)
    assert caught.value.exit_code == 3
    with pytest.raises(DataError, match="no data for t-own/sw"):
        make_plan(from_plain({**small, "languages": ["sw"], "targets": {"t": target}}), tasks, store)
    with pytest.raises(DataError, match="3 data sets are missing"):
        modules = {"m": {"train": "t-own/sw"}, "n": {"train": ["t-own", "t-own/sw"]}}
        (data / "own" / "t-own" / "train-en.jsonl").unlink()
        make_plan(
            from_plain({**small, "targets": {"t": {**target, "languages": "sw"}}, "modules": modules}), tasks, store
        )


def test_changed_bytes_of_the_data_change_the_hash(
    tasks: TaskRegistry, store: Store, plain: dict[str, Any], tmp_path: Path
) -> None:
    data = own_data(tmp_path / "data")
    recipe = from_plain(
        {"name": "x", "base": plain["bases"][0], "data": str(data), "modules": {"m": {"train": "t-own"}}}
    )
    before = labelled(make_plan(recipe, tasks, store), "train m").hash
    assert labelled(make_plan(recipe, tasks, store), "train m").hash == before
    file = data / "own" / "t-own" / "train-en.jsonl"
    file.write_text(file.read_text() * 2)
    assert labelled(make_plan(recipe, tasks, store), "train m").hash != before


def made(store: Store, stage: Stage) -> None:
    manifest = {"parents": dict(stage.parents), "spec": stage.spec.model_dump(mode="json"), "label": stage.label}
    with store.write(stage.hash, stage.kind, manifest) as directory:
        (directory / "x").write_text("x")


def test_states_are_hit_stale_or_missing(plain: dict[str, Any], tasks: TaskRegistry, store: Store) -> None:
    one = {**plain, "bases": plain["bases"][:1], "seeds": [0]}
    plan = planned(one, tasks, store)
    assert set(states(plan, store).values()) == {"missing"}
    record(plan, store)
    made(store, labelled(plan, "train nli"))
    assert states(plan, store)[labelled(plan, "train nli").hash] == "hit"
    changed = planned(one, tasks, store, train={"epochs": 3})
    found = states(changed, store)
    assert found[labelled(changed, "train nli").hash] == "stale"
    assert found[labelled(changed, "train bn").hash] == "missing"


def test_only_what_missing_results_need_is_needed(plain: dict[str, Any], tasks: TaskRegistry, store: Store) -> None:
    modules = {"nli": {"train": "t-nli"}, "top": {"train": "t-nli", "on": "nli"}}
    small = {
        "name": "x",
        "base": plain["bases"][0],
        "modules": modules,
        "evaluate": {"tasks": "t-nli", "modules": "top"},
    }
    plan = make_plan(from_plain({**small, "languages": ["en"]}), tasks, store)
    assert plan.needed(store) == list(plan.stages)
    made(store, labelled(plan, "train nli"))
    needed = {stage.label.split()[0] + stage.label.split()[1] for stage in plan.needed(store)}
    assert "trainnli" not in needed and "traintop" in needed
    made(store, labelled(plan, "evaluate"))
    assert plan.needed(store) == []


def test_a_stored_module_can_be_used(plain: dict[str, Any], tasks: TaskRegistry, store: Store) -> None:
    first, second = plain["bases"]
    plan = make_plan(
        from_plain({"name": "x", "base": first, "modules": {"mnli": {"train": "t-nli"}}}), tasks, store, prefix=""
    )
    trained = labelled(plan, "train mnli")
    assert plan.names == {"mnli": trained.hash}
    made(store, trained)
    record(plan, store)
    Links(plan, store).add(trained)
    for name in ("mnli", trained.hash, trained.hash[:10]):
        small = {"name": "y", "base": first, "modules": {"m": {"use": name}, "top": {"train": "t-qa", "on": "m"}}}
        top = labelled(make_plan(from_plain(small), tasks, store), "train top")
        assert top.parents[f"module:{trained.hash}"] == trained.hash
    with pytest.raises(RecipeError, match="a module of another base"):
        make_plan(from_plain({**small, "base": second}), tasks, store)
    with pytest.raises(RecipeError, match="did you mean `mnli`"):
        make_plan(from_plain({**small, "modules": {"m": {"use": "mnly"}}}), tasks, store)
    with pytest.raises(RecipeError, match="merge of two families"):
        modules = {"m": {"use": "mnli"}, "b": {"train": "t-nli", "method": "seq_bn"}}
        make_plan(from_plain({**small, "modules": {**modules, "t": {"merge": ["m", "b"]}}}), tasks, store)


def test_a_module_of_several_seeds_is_used_seed_by_seed(
    plain: dict[str, Any], tasks: TaskRegistry, store: Store
) -> None:
    recipe = {"name": "a", "bases": plain["bases"], "seeds": [0, 1], "modules": {"nli": {"train": "t-nli"}}}
    plan = make_plan(from_plain(recipe), tasks, store)
    for stage in plan.stages:
        made(store, stage)
        Links(plan, store).add(stage)
    assert len(plan.names) == len(store.names) == 4
    again = make_plan(
        from_plain({**recipe, "modules": {"n": {"use": "a/nli"}, "t": {"train": "t-qa", "on": "n"}}}), tasks, store
    )
    tops = [stage for stage in again.stages if stage.label.startswith("train t ")]
    assert len({stage.spec.below for stage in tops}) == 4  # type: ignore[attr-defined]


def test_the_last_way_told_to_run_a_stage_counts(plain: dict[str, Any], tasks: TaskRegistry, store: Store) -> None:
    def told(tokens: int, name: str) -> Stage:
        plan = planned(plain, tasks, store, engine={"tokens": tokens}, name=name)
        record(plan, store)
        return labelled(plan, f"train nli {plain['bases'][0]} seed 0")

    # What may change between runs of one hash is how it runs: a second run with less memory must not run as the first.
    for tokens, name in ((512, "quick"), (256, "quick"), (128, "other"), (256, "quick")):
        stage = told(tokens, name)
        spec = load_stage(store, stage.hash).spec
        assert isinstance(spec, TrainSpec) and spec.engine.tokens == tokens


def test_a_stage_and_a_plan_are_rebuilt_from_the_run_folder(
    plain: dict[str, Any], tasks: TaskRegistry, store: Store
) -> None:
    plan = planned(plain, tasks, store)
    folder = record(plan, store)
    for stage in plan.stages:
        again = load_stage(store, stage.hash)
        assert again == stage
        assert make_stage(again.kind, again.spec, again.parents, again.label).hash == stage.hash
    for name in ("quick", folder.name, f"quick/{folder.name}"):
        loaded = load_plan(store, name)
        assert (loaded.stages, loaded.cells, dict(loaded.names)) == (plan.stages, plan.cells, dict(plan.names))
    stage = labelled(plan, f"train nli {plain['bases'][0]} seed 0")
    made(store, stage)
    Links(plan, store).add(stage)
    (shown,) = (folder / "links").iterdir()
    assert (shown / "manifest.json").is_file() and shown.name.startswith("train_nli")


def test_a_thousand_stages_are_planned_within_a_second_without_torch(
    plain: dict[str, Any], tasks: TaskRegistry, store: Store
) -> None:
    modules = {"m${i}": {"matrix": {"i": list(range(30))}, "train": "t-nli", "settings": {"epochs": "${i}.5"}}}
    arms = {"none": {}, "a${i}": {"matrix": {"i": list(range(30))}, "on": "m${i}"}}
    recipe = from_plain(
        {**plain, "seeds": list(range(8)), "modules": modules, "arms": arms, "retrieve": [], "evaluate": []}
    )
    start = time.process_time()
    plan = make_plan(recipe, tasks, store)
    states(plan, store)
    seconds = time.process_time() - start
    assert len(plan.stages) > 1400
    assert seconds < 15 * unit()
    code = "import sys, adapterstilts.plan, adapterstilts.executors.local; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_module_of_every_seed_has_one_name() -> None:
    """So that what a fusion used is averaged over seeds and not told once for each of them."""
    for base in ("lab/s0", "../shared/base", "owner/name@main"):
        assert without_instance("a-b" + instance(base, 12)) == "a-b" == without_instance("a-b")
