"""The prepare stage writes what the other stages read, streaming, and refuses what nothing can be learnt from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapterstilts.data.arrays import read_arrays, write_arrays
from adapterstilts.data.prepared import read_prepared, read_prepared_bitext
from adapterstilts.data.sources import Resolved, resolve
from adapterstilts.data.tokenise import Tokenizer
from adapterstilts.encoder.reference import fingerprint, locate
from adapterstilts.errors import DataError, StoreError
from adapterstilts.stages.prepare import run
from adapterstilts.stages.specs import BaseRef, PrepareSpec
from adapterstilts.store.files import sha256
from adapterstilts.tasks.formats import get_format
from adapterstilts.tasks.formats.base import EncodedExample, EncodedRow, FieldType
from adapterstilts.tasks.registry import TaskRegistry
from adapterstilts.tasks.spec import task_hash

REGISTRY = TaskRegistry()
SMALL = {"sizes": {"train": 40, "dev": 30, "test": 20}}


def prepare(resolved: Resolved, base: Path, directory: Path, data: str | None = None) -> dict[str, Any]:
    weights, tokenizer = fingerprint(locate(str(base)), sha256)
    spec = PrepareSpec(
        base=BaseRef(ref=str(base), fingerprint=weights, tokenizer=tokenizer),
        task=resolved.task.name,
        language=resolved.language,
        split=resolved.split,
        task_hash=task_hash(resolved.task),
        source=json.loads(json.dumps(resolved.plain)),
        data=data or resolved.fingerprint(),
    )
    seen: list[float] = []
    facts = run(spec, {}, directory, directory / "work", lambda done, text: seen.append(done))
    assert seen[-1] == 1.0
    return facts


@pytest.mark.parametrize("name", [n for n in REGISTRY.names() if n.startswith("lab-")])
def test_every_lab_task(name: str, lab_base: Path, tmp_path: Path) -> None:
    task = REGISTRY.get(name, SMALL)
    facts = prepare(resolve(task, "qab", "dev", None), lab_base, tmp_path)
    if task.format == "bitext":
        stored = read_prepared_bitext(tmp_path)
        assert len(stored.source_arrays) == len(stored.source) == len(stored.target) == 30
        assert stored.gold
        return
    stored_split = read_prepared(tmp_path)
    assert len(stored_split.arrays) == facts["n"] == 30
    assert stored_split.task.head_name == task.head_name
    assert stored_split.facts == facts
    assert facts["mask_id"] == Tokenizer.from_directory(lab_base).mask
    assert facts["unknown_rate"] < 0.01
    assert facts["truncated_share"] == 0
    assert len(list(stored_split.examples())) == 30
    assert set(stored_split.arrays.fields) == set(get_format(task.format).fields)


def test_a_hundred_times_the_chunk_is_the_same_stream(lab_base: Path, tmp_path: Path) -> None:
    task = REGISTRY.get("lab-qa", {"sizes": {"train": 2300}})
    facts = prepare(resolve(task, "en", "train", None), lab_base, tmp_path)
    arrays = read_arrays(tmp_path)
    examples = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    encoded = get_format("span").encode(examples, Tokenizer.from_directory(lab_base), task)
    assert len(arrays) == len(encoded) == facts["n"] == 2300
    assert arrays.ids.tolist() == [token for e in encoded for row in e.rows for token in row.ids]
    assert arrays.fields["end"][1].tolist() == [row.fields["end"] for e in encoded for row in e.rows]
    assert facts["labels"] == {"answerable": 2300}


def test_stand_ins_and_sources_are_in_the_facts(shared_data: Path, shared_base: Path, tmp_path: Path) -> None:
    facts = prepare(resolve(REGISTRY.get("snli"), "en", "train", shared_data), shared_base, tmp_path)
    assert facts["stand_in"]
    assert "0.3 % of SNLI" in facts["notes"][0]
    assert facts["n"] == 1666
    assert sum(facts["labels"].values()) == 1666
    assert 1 < facts["pieces_per_word"] < 3
    assert facts["files"] == [str(shared_data / "raw/snli_cad/original/train.tsv")]


def test_answers_that_are_nowhere_are_not_trained_on(shared_data: Path, shared_base: Path, tmp_path: Path) -> None:
    facts = prepare(resolve(REGISTRY.get("cmrc2018"), "zh", "train", shared_data), shared_base, tmp_path)
    assert facts["n"] + facts["skipped"] == 3219
    assert facts["skipped"] == sum(1 for e in lost_answers(shared_data))


def lost_answers(root: Path) -> list[dict[str, Any]]:
    from adapterstilts.data.rows import read_examples

    found = resolve(REGISTRY.get("cmrc2018"), "zh", "train", root)
    return [e for e in read_examples(found) if e["answers"][0]["text"] not in e["context"]]


def test_blanked_labels_stay_blank(shared_data: Path, shared_base: Path, tmp_path: Path) -> None:
    found = resolve(REGISTRY.get("xnli"), "sw", "test", {"xtreme": shared_data / "xtreme"})
    assert not found.labelled
    facts = prepare(found, shared_base, tmp_path)
    assert facts["labels"] == {"(blanked)": 5010}
    assert set(read_arrays(tmp_path).fields["label"][1].tolist()) == {-1}


def test_nothing_to_prepare(lab_base: Path, tmp_path: Path) -> None:
    place = tmp_path / "own/mnli"
    place.mkdir(parents=True)
    (place / "train-en.jsonl").write_text("")
    with pytest.raises(DataError, match="the data set is empty"):
        prepare(resolve(REGISTRY.get("mnli"), "en", "train", tmp_path), lab_base, tmp_path / "out")
    (place / "train-en.jsonl").write_text('{"text_a": "x", "text_b": "y", "label": null}\n')
    with pytest.raises(DataError, match="without usable label"):
        prepare(resolve(REGISTRY.get("mnli"), "en", "train", tmp_path), lab_base, tmp_path / "out")
    squad = tmp_path / "own/squad"
    squad.mkdir()
    (squad / "train-en.jsonl").write_text('{"question": "q", "context": "c", "answers": []}\n')
    with pytest.raises(DataError, match="all 1 were without usable label"):
        prepare(resolve(REGISTRY.get("squad"), "en", "train", tmp_path), lab_base, tmp_path / "out")
    found = resolve(REGISTRY.get("mnli"), "en", "train", tmp_path)
    planned = found.fingerprint()
    (place / "train-en.jsonl").unlink()
    with pytest.raises(DataError, match="gone since the plan"):
        prepare(found, lab_base, tmp_path / "out", planned)


def test_data_that_changed_since_the_plan(lab_base: Path, tmp_path: Path) -> None:
    place = tmp_path / "own/mnli"
    place.mkdir(parents=True)
    (place / "train-en.jsonl").write_text('{"text_a": "x", "text_b": "y", "label": "neutral"}\n')
    found = resolve(REGISTRY.get("mnli"), "en", "train", tmp_path)
    planned = found.fingerprint()
    (place / "train-en.jsonl").write_text('{"text_a": "z", "text_b": "y", "label": "neutral"}\n')
    with pytest.raises(DataError, match="changed since the plan"):
        prepare(found, lab_base, tmp_path / "out", planned)


def test_a_directory_without_tokenizer(tmp_path: Path, lab_base: Path) -> None:
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        Tokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        Tokenizer.from_directory(tmp_path)


def test_arrays_notice_what_does_not_fit(tmp_path: Path) -> None:
    fields = {"word": FieldType("token", "int32")}
    good = EncodedExample([EncodedRow([0, 5, 2], {"word": [-1, 0, -1]})])
    write_arrays(tmp_path, [good, good], fields)
    assert read_arrays(tmp_path).lengths().tolist() == [3, 3]
    assert read_arrays(tmp_path).view(1).fields["word"][0].tolist() == [-1, 0, -1]
    with pytest.raises(ValueError, match="1 values for 3 tokens"):
        write_arrays(tmp_path / "bad", [EncodedExample([EncodedRow([0, 5, 2], {"word": [0]})])], fields)
    ids = tmp_path / "ids.bin"
    ids.write_bytes(ids.read_bytes()[:-2])
    with pytest.raises(StoreError, match="truncated"):
        read_arrays(tmp_path)
    with pytest.raises(StoreError, match="no tokenised arrays"):
        read_arrays(tmp_path / "nowhere")
    write_arrays(tmp_path / "none", [], fields)
    assert len(read_arrays(tmp_path / "none")) == 0


def test_arrays_feed_the_encoder(lab_base: Path, tmp_path: Path) -> None:
    from adapterstilts.encoder.batch import collate

    prepare(resolve(REGISTRY.get("lab-copa", SMALL), "en", "dev", None), lab_base, tmp_path)
    arrays = read_arrays(tmp_path)
    batch = collate(arrays.ids, arrays.rows, arrays.examples, arrays.fields, [3, 1], pad_id=1)
    assert batch.examples.tolist() == [0, 2, 4]
    assert batch.fields["label"].tolist() == [int(arrays.fields["label"][1][i]) for i in (3, 1)]
    assert np.array_equal(batch.lengths.numpy(), arrays.lengths()[[6, 7, 2, 3]])
