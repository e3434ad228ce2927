"""MAD-X on the embedded world: a task module over {language}, scored with each language's own module below it."""

from __future__ import annotations

import json

import pytest

from adapterstilts.api.explaining import explain
from adapterstilts.api.predicting import predict
from adapterstilts.api.verbs import evaluate, retrieve, stack
from adapterstilts.encoder.base import load_base
from adapterstilts.errors import RecipeError
from adapterstilts.executors.local import run
from adapterstilts.modules.artifact import load_adapted, read_module
from adapterstilts.modules.composition import has_slot, leaves
from adapterstilts.modules.expressions import format_tree
from adapterstilts.recipe.load import from_plain
from adapterstilts.recipe.validate import validate
from adapterstilts.store import Store
from adapterstilts.tasks.registry import TaskRegistry

from .test_stages import plan_of

MLM = {"limit": 48, "settings": {"epochs": 1, "learning_rate": 5e-3}}
RECIPE = {
    "name": "madx",
    "base": "lab/s0",
    "method": {"name": "lora", "r": 4, "sites": ["value", "output"]},
    "train": {"batch": 16, "learning_rate": 2e-3, "checkpoints": 0},
    "tasks": {n: {"sizes": {"train": 100, "dev": 20, "test": 60}} for n in ("lab-mlm", "lab-qa")},
    "modules": {
        "mlm-en": {"train": "lab-mlm/en", **MLM},
        "mlm-qac": {"train": "lab-mlm/qac", **MLM, "method": {"name": "seq_bn", "reduction": 4}},
        "nli": {"train": "lab-qa", "on": "{language}", "limit": 32, "settings": {"epochs": 1}},
    },
    "slots": {"language": {"en": "mlm-en", "qac": "mlm-qac"}},
    "targets": {"nli": {"task": "lab-qa", "limit": 48, "languages": ["en", "qaa", "qac"], "train": {"epochs": 2}}},
    "arms": {"static": {"on": "mlm-en"}, "madx": {"on": "stack({language})"}, "over": {"on": "nli"}},
    "evaluate": [{"tasks": ["lab-qa"], "modules": ["nli"], "languages": ["en", "qac"]}],
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):  # type: ignore[no-untyped-def]
    store = Store(tmp_path_factory.mktemp("slots"))
    plan = plan_of(RECIPE, store)
    result = run(plan, store)
    assert result.ok, [str(stage.error) for stage in result.having("failed")]
    for name, hash in plan.names.items():
        store.names.set(name, hash)
    return plan, store


def artifact(finished, beginning):  # type: ignore[no-untyped-def]
    plan, store = finished
    (found,) = [stage for stage in plan.stages if stage.label.startswith(beginning)]
    return found, store.path(found.hash)


def test_each_language_is_scored_with_its_own_module(finished):  # type: ignore[no-untyped-def]
    spec, madx = artifact(finished, "evaluate nli by madx")
    _, static = artifact(finished, "evaluate nli by static")
    plan = finished[0]
    assert spec.spec.bindings == {"en": plan.names["madx/mlm-en"], "qac": plan.names["madx/mlm-qac"]}
    assert {role for role in spec.parents if role.startswith("bind:")} == {"bind:en", "bind:qac"}
    # Answers carry their scores, so a change of the module shows.
    for language, equal in (("en", True), ("qaa", True), ("qac", False)):
        one, two = ((path / f"predictions.{language}.jsonl").read_text() for path in (madx, static))
        assert (one == two) == equal, language


def test_a_language_without_a_module_is_said(finished):  # type: ignore[no-untyped-def]
    (warning,) = [text for text in finished[0].warnings if "nli by madx" in text]
    assert "no module for {language} in qaa" in warning


def test_the_stored_module_keeps_the_slot_and_its_default(finished):  # type: ignore[no-untyped-def]
    plan, store = finished
    _, path = artifact(finished, "train nli by madx")
    module = read_module(path)
    plain = json.loads((path / "module.json").read_text())
    assert plain["tree"].startswith("stack({language}, ") and has_slot(module.tree)
    english = read_module(store.path(plan.names["madx/mlm-en"]))
    assert plain["slots"] == {"language": english.trained}
    assert leaves(module.bound()) == [english.trained, module.trained]
    assert load_adapted(load_base("lab/s0"), module).tree == module.bound()  # its golden outputs are compared here
    other = read_module(store.path(plan.names["madx/mlm-qac"]))
    assert leaves(module.bound(other.bound())) == [other.trained, module.trained]


def test_a_module_over_an_open_one_keeps_it_open(finished):  # type: ignore[no-untyped-def]
    spec, path = artifact(finished, "train nli by over")
    assert format_tree(read_module(path).tree).startswith("stack({language}, ")
    assert spec.parents["bind:language"] == finished[0].names["madx/mlm-en"]
    scored, _ = artifact(finished, "evaluate nli by over")
    assert set(scored.spec.bindings) == {"en", "qac"}


def test_predict_fills_the_slot_by_the_language_of_each_row(finished):  # type: ignore[no-untyped-def]
    _, store = finished
    scored, path = artifact(finished, "evaluate lab-qa with nli")
    wanted, rows = {}, []
    for role, hash in scored.parents.items():
        if role.startswith("data:"):
            code = role.removeprefix("data:")
            lines = (store.path(hash) / "examples.jsonl").read_text().splitlines()[:6]
            rows += [{**json.loads(line), "language": code} for line in lines]
            answers = map(json.loads, (path / f"predictions.{code}.jsonl").read_text().splitlines()[:6])
            wanted |= {(code, row["id"]): row["prediction"]["text"] for row in answers}
    assert {row["language"] for row in rows} == {"qac", "en"}
    rows = rows[::2] + rows[1::2]  # languages in turn
    slots = {"en": "madx/mlm-en", "qac": "madx/mlm-qac"}
    found = list(predict("madx/nli", "lab-qa", rows, slots=slots, chunk=5, store=store))
    for row, answer in zip(rows, found, strict=True):
        assert answer["prediction"]["text"] == wanted[row["language"], row["id"]]
    scores = {
        name: [
            answer["prediction"]["score"] for answer in predict("madx/nli", "lab-qa", rows, slots=given, store=store)
        ]
        for name, given in (("own", slots), ("english", {}))
    }
    for row, own, english in zip(rows, scores["own"], scores["english"], strict=True):
        assert (own == pytest.approx(english, rel=1e-5)) == (row["language"] == "en")


def test_verbs_fill_the_slot(finished):  # type: ignore[no-untyped-def]
    plan, store = finished
    options = {"languages": ["qac"], "limit": 10, "store": store}
    own = evaluate("madx/nli", "lab-qa", slots={"qac": "madx/mlm-qac"}, **options)
    (stage,) = [s for s in artifacts_of(store, "evaluate") if s["spec"]["limit"] == 10]
    assert own and stage["spec"]["bindings"] == {"qac": plan.names["madx/mlm-qac"]}
    settings = {"epochs": 1, "batch": 16, "learning_rate": 2e-3}
    made = stack(
        "{language}", "lab-qa", slots={"en": "madx/mlm-en"}, name="own", limit=16, settings=settings, store=store
    )
    assert format_tree(read_module(store.path(made.hash)).tree).startswith("stack({language}, ")


def test_each_side_of_a_bitext_has_its_own_module(finished):  # type: ignore[no-untyped-def]
    plan, store = finished
    options = {"modules": ["madx/nli"], "languages": ["qac"], "limit": 40, "layers": [1], "store": store}
    english, own = "madx/mlm-en", "madx/mlm-qac"
    found = {}
    for name, slots in (("own", {"en": english, "qac": own}), ("english", {"en": english, "qac": english}),
                        ("swapped", {"en": own, "qac": english}), ("none", {})):  # fmt: skip
        rows = retrieve("lab-tatoeba", slots=slots, **options)
        (stage,) = {row["stage"] for row in rows if row["arm"] != "base"}
        found[name] = {path.name: path.read_bytes() for path in store.path(stage).glob("predictions.*")}
        bindings = {code: plan.names[module] for code, module in slots.items()}
        assert store.manifest(stage)["spec"]["bindings"] == bindings
    assert found["none"] == found["english"]
    assert found["own"] != found["english"] and found["own"] != found["swapped"]


def artifacts_of(store, kind):  # type: ignore[no-untyped-def]
    return [store.manifest(path.name) for path in (store.root / "artifacts" / kind).glob("*/*")]


def test_explain_shows_the_slot(finished):  # type: ignore[no-untyped-def]
    about = explain("madx/nli", store=finished[1])
    assert about["expression"] == "stack({language}, madx/nli)"
    assert [row["name"] for row in about["modules"]] == ["{language}", "madx/nli"]
    assert about["formulas"] == {"delta": "W x + Δ_{language} x + Δ_madx/nli x"}
    assert any("{language}: bound when it is used" in note for note in about["notes"])


@pytest.mark.parametrize(("change", "part"), [
    ({"slots": {}}, "{language} is not bound"),
    ({"slots": {"language": {"en": "nobody"}}}, "unknown module `nobody`"),
    ({"arms": {"x": {"on": "stack({language}, nli)"}}}, "{language} stands twice"),
    ({"arms": {"x": {"on": "fuse({language}, mlm-en)"}}}, "{language} inside fuse"),
    ({"arms": {"x": {"on": "fuse(nli, mlm-en)"}}}, "`nli` inside fuse"),
    ({"arms": {"x": {"on": "stack({language}, mlm-en)"}}}, "`mlm-en` would count twice"),
    ({"slots": {"language": {"en": "mlm-en", "qac": "nli"}}}, "need each other"),
    ({"slots": {"place": {"en": "mlm-en"}}}, "place"),
])  # fmt: skip
def test_impossible_slots_are_refused_at_planning(change, part):  # type: ignore[no-untyped-def]
    recipe = {**RECIPE, "evaluate": [], **change}
    with pytest.raises(RecipeError) as caught:
        problems = validate(from_plain(recipe), TaskRegistry())
        raise RecipeError("\n".join(map(str, problems)))
    assert part in str(caught.value)


@pytest.mark.parametrize(("module", "part"), [
    ({"train": ["lab-qa/en", "lab-qa/qac"]}, "several training languages"),
    ({"train": "lab-qa/qaa"}, "no module for {language} in qaa"),
])  # fmt: skip
def test_training_needs_one_language_with_a_module(module, part, tmp_path):  # type: ignore[no-untyped-def]
    recipe = {**RECIPE, "modules": {**RECIPE["modules"], "nli": {**module, "on": "{language}", "limit": 8}}}
    with pytest.raises(RecipeError, match=part):
        plan_of(recipe, Store(tmp_path))
