"""The store: whole or not at all, locked, verified, collected."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapterstilts.errors import StoreError
from adapterstilts.store import Store, beside
from tests.conftest import unit

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(store: Store, hash: str, kind: str = "train", parents: tuple[str, ...] = (), text: str = "data") -> Path:
    with store.write(hash, kind, {"parents": {f"p{i}": p for i, p in enumerate(parents)}}) as directory:
        (directory / "inner").mkdir()
        (directory / "inner" / "weights.safetensors").write_text(text)
    return store.path(hash)


def temporaries(store: Store) -> list[Path]:
    return list(store.root.glob("artifacts/*/*/.tmp-*"))


def test_an_artifact_appears_whole_with_its_manifest(store: Store) -> None:
    assert not store.has(A)
    manifest: dict[str, object] = {"label": "train nli"}
    with store.write(A, "train", manifest) as directory:
        (directory / "x.txt").write_text("hello")
        assert not store.has(A) and not Store(store.root).has(A)
        manifest["facts"] = {"loss": 1.5}
    assert store.path(A) == store.root / "artifacts" / "train" / "aa" / A
    stored = Store(store.root).manifest(A)
    assert stored["kind"] == "train" and stored["hash"] == A and stored["schema"] == 1
    assert stored["facts"] == {"loss": 1.5} and stored["label"] == "train nli"
    assert stored["files"]["x.txt"]["bytes"] == 5 and len(stored["files"]["x.txt"]["sha256"]) == 64
    assert not temporaries(store)


def test_an_exception_leaves_nothing(store: Store) -> None:
    with pytest.raises(ValueError), store.write(A, "train", {}) as directory:
        (directory / "x.txt").write_text("half")
        raise ValueError
    assert not store.has(A) and not temporaries(store)


def test_the_first_of_two_equal_writes_stays(store: Store) -> None:
    with store.write(A, "train", {"who": 1}) as first:
        (first / "x").write_text("1")
        with Store(store.root).write(A, "train", {"who": 2}) as second:
            (second / "x").write_text("2")
    assert store.manifest(A)["who"] == 2
    assert not temporaries(store)


KILLED = """
import sys, time
from adapterstilts.store import Store
with Store(sys.argv[1]).write(sys.argv[2], "train", {}) as directory:
    (directory / "x").write_text("half")
    print("inside", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_no_artifact_and_its_rest_is_collected(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, store.root, A], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "inside\n"
    assert store.gc().leftovers == 0  # its owner lives
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not store.has(A) and len(temporaries(store)) == 1
    assert store.gc().leftovers == 1
    assert not temporaries(store)


def test_what_another_machine_writes_is_left_alone_for_a_day(store: Store) -> None:
    write(store, B)
    folder = store.path(B).parent / f".tmp-{A[:16]}-1-0123abcd-node-7.cluster"
    (folder / "inner").mkdir(parents=True)
    assert store.gc(keep=[B]).leftovers == 0 and folder.exists()
    os.utime(folder, (0, 0))
    assert store.gc(keep=[B]).leftovers == 1 and not folder.exists()


def test_names_beside_a_file_differ_where_processes_have_the_same_number(tmp_path: Path) -> None:
    assert len({beside(tmp_path / "x") for _ in range(100)}) == 100


LOCKED = """
import sys, time
from adapterstilts.store import Store
from tests.conftest import unit
with Store(sys.argv[1]).lock(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_excludes_and_dies_with_its_process(store: Store) -> None:
    process = subprocess.Popen([sys.executable, "-c", LOCKED, store.root, A], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match="another process"), store.lock(A, timeout=0.1):
        pass
    with store.lock(B, timeout=0.1):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with store.lock(A, timeout=5):
        pass


@pytest.fixture
def small_disk(tmp_path: Path) -> object:
    """A file system of 1 MiB, or None where one cannot be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    yield place if done.returncode == 0 else None
    if done.returncode == 0:
        subprocess.run(["umount", place], check=True)


def test_a_full_disk_gives_one_error_and_nothing_half_written(small_disk: Path | None, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.getsignal(signal.SIGXFSZ)
    store = Store((small_disk or tmp_path) / "store")
    write(store, B)
    try:
        if small_disk is None:  # no file larger than 1 MiB instead
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        with pytest.raises(StoreError) as caught, store.write(A, "train", {}) as directory:
            (directory / "weights").write_bytes(b"x" * (3 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert "the disk is full" in str(caught.value) and "gc" in str(caught.value) and caught.value.exit_code == 5
    assert not store.has(A) and not temporaries(store)
    assert store.has(B) and store.verify() == []
    write(store, A)
    assert store.has(A)


def test_verify_finds_what_changed(store: Store) -> None:
    write(store, A, text="0123456789")
    weights = write(store, B, text="0123456789") / "inner" / "weights.safetensors"
    altered = write(store, C, "merge", text="0123456789") / "inner" / "weights.safetensors"
    assert store.verify() == []
    os.truncate(weights, 4)
    altered.write_text("012345678X")
    found = {damage.hash: damage for damage in store.verify()}
    assert set(found) == {B, C}
    assert found[B].why == "4 bytes instead of 10" and found[B].file == "inner/weights.safetensors"
    assert found[C].why.startswith("altered") and found[C].kind == "merge"
    weights.unlink()
    (store.path(C) / "manifest.json").write_text("{")
    assert [(damage.hash, damage.file) for damage in store.verify([B])] == [(B, "inner/weights.safetensors")]
    assert {damage.file for damage in store.verify()} == {"inner/weights.safetensors", "manifest.json"}


def test_gc_keeps_what_is_named_or_asked_for_and_all_it_stands_on(store: Store) -> None:
    for hash, parents in ((A, ()), (B, (A,)), (C, ())):
        write(store, hash, parents=parents)
    other = "d" * 64
    write(store, other, "prepare")
    store.names.set("nli", B)
    assert set(store.gc([C], dry_run=True).artifacts) == {other}
    assert store.has(other)
    removed = store.gc([C])
    assert removed.artifacts == (other,) and removed.bytes > 0
    assert [store.has(hash) for hash in (A, B, C, other)] == [True, True, True, False]
    store.names.drop("nli")
    assert set(store.gc().artifacts) == {A, B, C}


def test_names_and_hashes_resolve(store: Store) -> None:
    write(store, A)
    store.names.set("mnli+xquad", A)
    store.names.set("quickstart/nli/lab-s0/seed0", A)
    assert dict(store.names) == {"mnli+xquad": A, "quickstart/nli/lab-s0/seed0": A}
    assert store.resolve("mnli+xquad") == store.resolve("a" * 8) == store.resolve(A) == A
    with pytest.raises(StoreError, match="did you mean `mnli\\+xquad`"):
        store.resolve("mnli+xqad")
    write(store, "a" * 63 + "0")
    with pytest.raises(StoreError, match="2 artifacts begin with"):
        store.resolve("aaaaaa")
    (store.root / "names" / "bad.json").write_text("")
    with pytest.raises(StoreError, match="unreadable"):
        store.resolve("bad")


def test_missing_artifacts_and_sizes(store: Store) -> None:
    assert store.du() == {} and store.kinds() == []
    with pytest.raises(StoreError, match="no artifact"):
        store.path(A)
    write(store, A)
    (store.work(B) / "checkpoint").write_bytes(b"x" * 10)
    assert store.du()["train"][0] == 1 and store.du()["work"] == (1, 10)
    store.drop_work(B)
    assert "work" not in store.du()
    json.dumps(store.manifest(A))


def test_one_artifact_costs_little(store: Store) -> None:
    start = time.process_time()
    for number in range(20):
        write(store, f"{number:064d}")
    assert time.process_time() - start < 2 * unit()
