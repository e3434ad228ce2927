"""Looking on, logs, and stopping runs and stages through the store."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest

from adapterstilts.api.care import run_hash
from adapterstilts.api.following import Tail, cancel, find, runs, stage_states
from adapterstilts.errors import StoreError
from adapterstilts.executors.events import RunResult
from adapterstilts.executors.local import run
from adapterstilts.executors.signs import Sign, queue_sign, read_sign, write_sign
from adapterstilts.plan.graph import Plan
from adapterstilts.store import Store
from tests.executors.clusters import wait_until
from tests.executors.kinds import KINDS, make, plan_of
from tests.executors.test_local import BOTH, outcomes


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def behind(plan: Plan, store: Store, jobs: int) -> tuple[threading.Thread, list[RunResult]]:
    results: list[RunResult] = []
    thread = threading.Thread(target=lambda: results.append(run(plan, store, jobs, kinds=KINDS)))
    thread.start()
    return thread, results


@BOTH
def test_a_running_stage_is_seen_and_stopped(store: Store, tmp_path: Path, jobs: int) -> None:
    stage = make("a", act="report", shared=tmp_path)
    plan = plan_of(stage, make("b", stage), make("c"))
    thread, results = behind(plan, store, jobs)
    wait_until(lambda: (sign := read_sign(store, stage.hash)) is not None and sign.fraction > 0.01, 30)
    (state,) = stage_states(store, find(store, "a").stages)
    assert state["state"] == "running" and ":" in state["where"] and state["text"].startswith("count")
    assert state["left"] > 1 and state["seconds"] > 0
    assert runs(store)[0]["running"] == 1
    assert cancel(store, stage.hash[:8])["stopped"] == ["a"]
    thread.join(20)
    (result,) = results
    assert outcomes(result) == {"a": "failed", "b": "skipped", "c": "done"} and not result.interrupted
    first = store.log(stage.hash).read_text().splitlines()[0]
    assert re.fullmatch(r"\d\d:\d\d:\d\d 50% half", first)
    error = result.having("failed")[0].error
    assert error is not None and error.what == "it was cancelled" and "checkpoints" in str(error.why)
    (state,) = stage_states(store, find(store, "a").stages)
    assert state["state"] == "failed" and "cancelled" in state["error"]
    with pytest.raises(StoreError, match="nobody works on `a`"):
        cancel(store, "a")


@BOTH
def test_a_cancelled_run_ends_as_after_an_interrupt(store: Store, tmp_path: Path, jobs: int) -> None:
    stage = make("a", act="report", shared=tmp_path)
    thread, results = behind(plan_of(stage, make("b", stage)), store, jobs)
    wait_until(lambda: (tmp_path / "waiting").exists() and read_sign(store, stage.hash) is not None, 30)
    assert cancel(store, "test")["stopped"] == ["a"]
    thread.join(20)
    (result,) = results
    assert result.interrupted and result.exit_code == 130
    thread, results = behind(plan_of(make("c")), store, 1)  # the request was for that run alone
    thread.join(20)
    assert results[0].ok


def test_logs_come_line_by_line_and_once(store: Store) -> None:
    stage = make("a")
    tail = Tail(store, [{"hash": stage.hash, "label": "a", "kind": "step"}])
    assert list(tail.lines()) == [] and not tail.alive()
    log = store.log(stage.hash)
    log.parent.mkdir(parents=True)
    log.write_text("one\ntw")
    assert list(tail.lines()) == [("a", "one")]
    with log.open("a") as file:
        file.write("o\nthree")
    assert list(tail.lines()) == [("a", "two")]
    assert list(tail.lines(whole=True)) == [("a", "three")]
    log.write_text("new\n")
    assert list(tail.lines()) == [("a", "new")]


def test_a_sign_says_what_remains_and_survives_a_jumping_clock(store: Store) -> None:
    assert Sign("running", began=100, at=130, fraction=0.75).left == pytest.approx(10)
    assert Sign("running", began=100, at=50, fraction=0.5).left is None
    assert Sign("running", began=100, at=130).left is None
    hash = make("a").hash
    (store.root / "signs").mkdir(parents=True)
    (store.root / "signs" / f"{hash}.json").write_text("{half")
    assert read_sign(store, hash) is None
    write_sign(store, hash, Sign("running", at=time.time()))
    queue_sign(store, hash, "slurm 7")  # the worker was faster
    sign = read_sign(store, hash)
    assert sign is not None and sign.state == "running"


@pytest.mark.parametrize("name", ["*", "", "?" * 64, "../../x", "abc", "0" * 64, "f" * 12])
def test_only_a_hash_names_a_planned_stage_and_a_refusal_writes_nothing(store: Store, name: str) -> None:
    run(plan_of(make("a")), store, kinds=KINDS)
    before = sorted(store.root.rglob("*"))
    with pytest.raises(StoreError, match="no stage"):
        run_hash(store, name)
    assert sorted(store.root.rglob("*")) == before


def test_a_name_of_nothing_is_one_error(store: Store) -> None:
    with pytest.raises(StoreError, match="no run and no stage `nothing`"):
        find(store, "nothing")
