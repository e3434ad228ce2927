"""Every broken file gives one DataError that says file and line, and the store is as it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapterstilts.data.readers import READERS
from adapterstilts.data.sources import resolve
from adapterstilts.encoder.reference import fingerprint, locate
from adapterstilts.errors import DataError
from adapterstilts.plan.graph import make_stage
from adapterstilts.stages.run import run_stage
from adapterstilts.stages.specs import BaseRef, PrepareSpec
from adapterstilts.store import Store
from adapterstilts.store.files import sha256
from adapterstilts.tasks.spec import task_hash
from tests.data.broken import BROKEN, Broken, bitext, made_task, text


def prepare(case: Broken, root: Path, base: Path) -> None:
    """Write the files and run the prepare stage in a store, as a run does."""
    for name, content in case.files.items():
        path = root / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    task = made_task(case.task)
    resolved = resolve(task, "en", "train", root)
    weights, tokenizer = fingerprint(locate(str(base)), sha256)
    spec = PrepareSpec(
        base=BaseRef(ref=str(base), fingerprint=weights, tokenizer=tokenizer),
        task="t",
        language="en",
        split="train",
        task_hash=task_hash(task),
        source=resolved.plain,
        data=resolved.fingerprint(),
    )
    run_stage(make_stage("prepare", spec, {}, "t"), Store(root / "store"))


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_explained_and_leave_nothing(case: str, tmp_path: Path, lab_base: Path) -> None:
    broken = BROKEN[case]
    with pytest.raises(DataError, match=re.escape(broken.what)) as caught:
        prepare(broken, tmp_path, lab_base)
    assert caught.value.exit_code == 3 and caught.value.where is not None
    assert (
        caught.value.where.endswith("/" + broken.line)
        or f"/{broken.line}: question" in caught.value.where
        or (broken.line == "row 0" and caught.value.where.endswith(".parquet: row 0"))
    ), caught.value.where
    assert str(caught.value).count("\n") <= 2  # what, why, fix
    left = [path for path in (tmp_path / "store").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


def test_the_table_is_wide_enough() -> None:
    """At least forty, of every reader, and of every kind that files break in."""
    assert len(BROKEN) >= 70
    readers = {plain.task["source"].get("reader", "jsonl") for plain in BROKEN.values()}
    assert readers == set(READERS)
    told = " ".join(BROKEN)
    for kind in ("truncated", "mixed encoding", "swapped", "shuffled", "doubled", "twice", "empty", "another column"):
        assert kind in told, kind


def test_the_same_files_unbroken(tmp_path: Path, lab_base: Path) -> None:
    prepare(Broken(text(), {"file": "für\n"}, "", ""), tmp_path / "a", lab_base)
    prepare(Broken(bitext(), {"s": "s1\tx\n", "t": "t1\ty\n", "g": "s1\tt1\n"}, "", ""), tmp_path / "b", lab_base)
    for name in ("a", "b"):
        assert len(list((tmp_path / name / "store" / "artifacts").rglob("manifest.json"))) == 1
