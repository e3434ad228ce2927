"""Which source serves, what identifies it, and that a resolved source can be written down and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterstilts.data.bitext import load_bitext
from adapterstilts.data.hashes import FileHashes
from adapterstilts.data.rows import read_examples
from adapterstilts.data.sources import DataRoot, Resolved, resolve
from adapterstilts.errors import DataError
from adapterstilts.store.files import sha256
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import TaskSpec

REGISTRY = TaskRegistry()


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task(*sources: dict[str, Any], **more: Any) -> TaskSpec:
    plain = {
        "name": "t",
        "format": "classification",
        "labels": ["a", "b"],
        "languages": ["en", "de"],
        "metric": "accuracy",
    }
    return TaskSpec.model_validate({**plain, "sources": sources, **more})


RAW = {"name": "raw", "layout": "raw", "files": {"train": "t/{language}.jsonl", "dev": "t/dev.jsonl"}}
XTREME = {"name": "xtreme", "layout": "xtreme", "files": {"dev": "t.jsonl"}, "blanked": ["dev"],
          "gold": {"dev": {"layout": "xtreme_gold", "file": "t"}}}  # fmt: skip
STAND_IN = {
    "name": "substitutes",
    "layout": "substitutes",
    "files": {"train": "t.jsonl", "dev": "d.jsonl"},
    "stand_in": True,
}
ROW = {"text_a": "x", "label": "a"}


def test_the_order_of_preference(tmp_path: Path) -> None:
    spec = task(STAND_IN, XTREME, RAW)
    assert not resolve(spec, "en", "dev", tmp_path).present
    write(tmp_path / "substitutes/d.jsonl", ROW)
    assert resolve(spec, "en", "dev", tmp_path).stand_in
    write(tmp_path / "xtreme/t.jsonl", ROW)
    assert resolve(spec, "en", "dev", tmp_path).source.name == "xtreme"
    assert not resolve(spec, "en", "dev", tmp_path).labelled
    write(tmp_path / "raw/t/dev.jsonl", ROW)
    assert resolve(spec, "en", "dev", tmp_path).source.name == "raw"  # labelled before blanked
    write(tmp_path / "xtreme_gold/t")
    (tmp_path / "xtreme_gold/t").write_text("b\n")
    found = resolve(spec, "en", "dev", tmp_path)
    assert (found.source.name, found.labelled) == ("xtreme", True)
    assert next(read_examples(found))["label"] == "b"
    write(tmp_path / "own/t/dev-en.jsonl", ROW)
    assert resolve(spec, "en", "dev", tmp_path).source.name == "own"
    forced = task(STAND_IN, XTREME, RAW, source="substitutes")
    assert resolve(forced, "en", "dev", tmp_path).source.name == "substitutes"


@pytest.mark.parametrize("place", ["xtreme", "download", "data/xtreme", "."])
def test_where_xtreme_may_lie(place: str, tmp_path: Path) -> None:
    write(tmp_path / place / "t.jsonl", ROW)
    assert resolve(task(XTREME), "en", "dev", tmp_path).present


def test_layouts_may_be_given_one_by_one(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/t/de.jsonl", ROW)
    found = resolve(task(RAW), "de", "train", {"raw": tmp_path / "elsewhere"})
    assert found.present
    assert not resolve(task(RAW), "en", "train", {"raw": tmp_path / "elsewhere"}).present


def test_missing_data_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data for t/de train") as caught:
        resolve(task(RAW), "de", "train", tmp_path).require()
    assert str(tmp_path / "raw/t/de.jsonl") in str(caught.value)
    assert "own/t/train-de.jsonl" in str(caught.value)


def test_languages_and_splits_are_checked() -> None:
    xnli = REGISTRY.get("xnli")
    with pytest.raises(DataError, match="no language `xx`"):
        resolve(xnli, "xx", "dev", None)
    with pytest.raises(DataError, match="did you mean `dev`"):
        resolve(xnli, "de", "validation", None)


HUB = {"name": "hub", "kind": "hub", "repo": "owner/data", "config": "{code}", "codes": {"de": "deu"},
       "splits": {"dev": "validation"}, "columns": {"text_a": "premise", "label": "label"},
       "label_map": {"0": "a", "1": "b"}}  # fmt: skip


def test_when_the_hub_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    spec = task(STAND_IN, HUB)
    assert resolve(spec, "de", "dev", None).source.kind == "hub"
    assert resolve(spec, "de", "dev", None).fingerprint().startswith("hub:owner/data@main:deu:validation")
    assert not resolve(spec, "de", "dev", tmp_path).present
    write(tmp_path / "substitutes/d.jsonl", ROW)
    assert resolve(spec, "de", "dev", tmp_path).stand_in
    assert resolve(spec, "de", "dev", {"root": tmp_path, "hub": True}).source.kind == "hub"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not resolve(spec, "de", "dev", None).present


def test_a_local_copy_of_the_hub(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = tmp_path / "owner/data/deu/validation.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pa.table({"premise": ["x", "y", "z"], "label": [0, 1, 0]}), path)
    found = resolve(task(HUB), "de", "dev", {"hub": tmp_path})
    assert [example["label"] for example in read_examples(found)] == ["a", "b", "a"]
    assert found.fingerprint() == resolve(task(HUB), "de", "dev", {"hub": tmp_path}).fingerprint()
    assert found.fingerprint().startswith("files:")


@pytest.mark.parametrize(
    ("name", "language", "columns", "gold"),
    [
        ("xnli", "de", {"premise": ["a"], "hypothesis": ["b"], "label": [2]}, "contradiction"),
        ("udpos", "de", {"tokens": [["Ein", "Haus"]], "pos_tags": [[5, 7]]}, ["DET", "NOUN"]),
        ("panx", "sw", {"tokens": [["Nairobi"]], "ner_tags": [[5]]}, ["B-LOC"]),
        ("squad", "en", {"id": ["1"], "question": ["q"], "context": ["so c it"],
                         "answers": [{"text": ["c"], "answer_start": [3]}]}, ["c"]),
        ("siqa", "en", {"context": ["c"], "question": ["q"], "answerA": ["x"], "answerB": ["y"], "answerC": ["z"],
                        "label": ["3"]}, 2),
        ("hellaswag", "en", {"ind": [1], "ctx_a": ["a"], "ctx_b": ["he"], "ctx": ["a he"],
                             "endings": [["x", "y", "z", "w"]], "label": ["1"]}, 1),
        ("commonsenseqa", "en", {"id": ["1"], "question": ["q"], "answerKey": ["C"],
                                 "choices": [{"label": list("ABC"), "text": ["x", "y", "z"]}]}, 2),
        ("tydiqa", "fi", {"id": ["english-1", "finnish-2"], "question": ["q", "k"], "context": ["c", "k d"],
                          "answers": [{"text": [a], "answer_start": [i]} for a, i in (("c", 0), ("d", 2))]}, ["d"]),
        ("snli", "en", {"premise": ["a", "c"], "hypothesis": ["b", "d"], "label": [-1, 0]}, "entailment"),
    ],
)  # fmt: skip
def test_hub_schemas(name: str, language: str, columns: dict[str, Any], gold: Any, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from adapterstilts.data.sources import hub_config
    from adapterstilts.tasks.formats import get_format

    spec = REGISTRY.get(name, {"source": "hub"})
    source = next(s for s in spec.sources if s.name == "hub")
    split = next(iter(source.splits))
    bare = Resolved(spec, language, split, source, {})
    path = tmp_path / str(source.repo) / hub_config(bare) / f"{source.splits[split]}.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pa.table(columns), path)
    (example,) = read_examples(resolve(spec, language, split, {"hub": tmp_path}))
    assert get_format(spec.format).gold(example, spec) == gold


def test_hub_tatoeba(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    path = tmp_path / "mteb/tatoeba-bitext-mining/default/test.parquet"
    path.parent.mkdir(parents=True)
    rows = {
        "sentence1": ["zwei", "eins", "un"],
        "sentence2": ["two", "one", "one"],
        "lang": ["deu-eng"] * 2 + ["fra-eng"],
    }
    parquet.write_table(pa.table(rows), path)
    data = load_bitext(resolve(REGISTRY.get("tatoeba"), "de", "test", {"hub": tmp_path}))
    assert data["source"] == [("0", "zwei"), ("1", "eins")]
    assert data["target"] == [("0", "one"), ("1", "two")]
    assert data["gold"] == [("0", "1"), ("1", "0")]


def test_a_group_is_there_when_all_its_parts_are(tmp_path: Path) -> None:
    anli = REGISTRY.get("anli")
    for number in (1, 2):
        write(tmp_path / f"raw/anli/R{number}/dev.jsonl", {"uid": "u", "context": "c", "hypothesis": "h", "label": "e"})
    assert not resolve(anli, "en", "dev", tmp_path).present
    with pytest.raises(DataError, match="R3"):
        resolve(anli, "en", "dev", tmp_path).require()
    write(tmp_path / "raw/anli/R3/dev.jsonl", {"uid": "u", "context": "c", "hypothesis": "h", "label": "n"})
    found = resolve(anli, "en", "dev", tmp_path)
    assert [example["id"] for example in read_examples(found)] == ["anli_r1:u", "anli_r2:u", "anli_r3:u"]
    assert len(found.paths()) == 3


def test_who_trains_on_a_piece_of_dev_is_not_scored_on_all_of_it(tmp_path: Path) -> None:
    hellaswag = REGISTRY.get("hellaswag")
    row = {"ind": 0, "ctx": "c", "endings": ["a", "b", "c", "d"], "label": 0}
    write(tmp_path / "raw/hellaswag/hellaswag_val.jsonl", row)
    assert resolve(hellaswag, "en", "dev", tmp_path).source.name == "raw"
    for split in ("train", "val"):
        write(tmp_path / f"substitutes/hellaswag/hellaswag_{split}.jsonl", row)
    assert resolve(hellaswag, "en", "train", tmp_path).stand_in
    assert resolve(hellaswag, "en", "dev", tmp_path).source.name == "substitutes"
    forced = REGISTRY.get("hellaswag", {"source": "raw"})
    assert resolve(forced, "en", "dev", tmp_path).source.name == "raw"
    write(tmp_path / "raw/hellaswag/hellaswag_train.jsonl", row)
    assert resolve(hellaswag, "en", "dev", tmp_path).source.name == "raw"


def test_fingerprints_follow_bytes_and_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "raw/t/de.jsonl", ROW)
    first = resolve(task(RAW), "de", "train", tmp_path).fingerprint()
    assert first == resolve(task(RAW), "de", "train", tmp_path).fingerprint()
    assert first != resolve(task({**RAW, "label_map": {"a": "b"}}), "de", "train", tmp_path).fingerprint()
    assert first == resolve(task({**RAW, "note": "other prose"}), "de", "train", tmp_path).fingerprint()
    moved = write(tmp_path / "moved/raw/t/de.jsonl", ROW)
    assert first == resolve(task(RAW), "de", "train", moved.parent.parent.parent).fingerprint()
    path.write_text(path.read_text() * 2)
    assert first != resolve(task(RAW), "de", "train", tmp_path).fingerprint()


def test_fingerprint_of_the_lab() -> None:
    from adapterstilts.lab import WORLD_VERSION

    found = resolve(REGISTRY.get("lab-nli", {"sizes": {"dev": 7}}), "qaa", "dev", None)
    assert found.present
    assert found.fingerprint() == f"lab:{WORLD_VERSION}:lab-nli:qaa:dev:7:0"
    assert len(list(read_examples(found))) == 7


def test_hashes_are_remembered(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache.json"
    data.write_text("one")
    hashes = FileHashes(cache)
    assert hashes(data) == sha256(data)
    hashes.save()
    plain = json.loads(cache.read_text())
    plain[str(data)][2] = "remembered"
    cache.write_text(json.dumps(plain))
    assert FileHashes(cache)(data) == "remembered"
    data.write_text("three")
    assert FileHashes(cache)(data) == sha256(data)
    cache.write_text("broken {")
    assert FileHashes(cache)(data) == sha256(data)


@pytest.mark.parametrize("place", ["xnli/de test", "xcopa/id test", "anli/en dev", "tatoeba/de test", "udpos/tr dev"])
def test_a_resolved_source_can_be_written_down(place: str, shared_data: Path) -> None:
    where, split = place.split()
    name, language = where.split("/")
    found = resolve(REGISTRY.get(name), language, split, shared_data)
    plain = json.loads(json.dumps(found.plain))
    again = Resolved.from_plain(plain)
    assert again.plain == found.plain
    assert again.fingerprint() == found.fingerprint()
    if name == "tatoeba":
        assert load_bitext(again) == load_bitext(found)
    else:
        assert next(read_examples(again)) == next(read_examples(found))


def test_roots_from_what_recipes_say(tmp_path: Path) -> None:
    assert DataRoot.of(None).asks_hub
    assert not DataRoot.of(str(tmp_path)).asks_hub
    root = DataRoot.of({"root": tmp_path, "own": tmp_path / "mine", "hub": True})
    assert root.asks_hub
    assert root.folders("own") == [tmp_path / "mine", tmp_path / "own", tmp_path / "data/own"]
    assert DataRoot.of(root) is root
