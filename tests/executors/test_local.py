"""Running plans: order, hits, failures, deaths, races, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapterstilts.errors import DataError, StageFailed
from adapterstilts.executors.events import Event, RunResult
from adapterstilts.executors.local import run
from adapterstilts.executors.schedule import Schedule
from adapterstilts.plan import Plan
from adapterstilts.store import Store
from tests.conftest import unit
from tests.executors.kinds import KINDS, make, plan_of

BOTH = pytest.mark.parametrize("jobs", [1, 2])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def outcomes(result: RunResult) -> dict[str, str]:
    return {one.stage.label: one.outcome for one in result.stages.values()}


@BOTH
def test_stages_run_after_their_parents_and_once(store: Store, jobs: int) -> None:
    a = make("a")
    b, c = make("b", a), make("c", a)
    d = make("d", b, c)
    plan = plan_of(a, b, c, d)
    events: list[Event] = []
    result = run(plan, store, jobs, on_event=events.append, kinds=KINDS)
    assert result.ok and result.exit_code == 0 and set(outcomes(result).values()) == {"done"}
    assert (store.path(d.hash) / "name").read_text() == "a+b+a+c+d"
    kinds = [(event.kind, event.stage.label) for event in events if event.kind != "progress"]
    assert kinds[:2] == [("started", "a"), ("done", "a")] and kinds[-1] == ("done", "d") and len(kinds) == 8
    assert any(event.kind == "progress" and event.fraction == 0.5 and event.text == "half" for event in events)
    manifest = store.manifest(d.hash)
    assert manifest["label"] == "d" and manifest["parents"] == {"p0": b.hash, "p1": c.hash}
    assert manifest["spec"]["name"] == "d" and manifest["wall_seconds"] >= 0 and "pydantic" not in manifest["packages"]
    assert store.names["last"] == d.hash
    assert result.folder is not None and (result.folder / "links" / "d" / "name").is_file()
    events.clear()
    again = run(plan, store, jobs, on_event=events.append, kinds=KINDS)
    assert again.ok and set(outcomes(again).values()) == {"hit"} and {event.kind for event in events} == {"hit"}
    assert store.verify() == []


@BOTH
def test_what_does_not_need_a_failed_stage_goes_on(store: Store, jobs: int) -> None:
    a = make("a", act="fail")
    b, c = make("b", a), make("c")
    d, e = make("d", b), make("e", c)
    events: list[Event] = []
    result = run(plan_of(a, b, c, d, e), store, jobs, on_event=events.append, kinds=KINDS)
    assert outcomes(result) == {"a": "failed", "b": "skipped", "c": "done", "d": "skipped", "e": "done"}
    assert not result.ok and result.exit_code == 1
    (failed,) = result.having("failed")
    assert isinstance(failed.error, StageFailed) and failed.log is not None
    assert failed.error.what == "ZeroDivisionError: one by none" and failed.error.where == "a"
    assert str(failed.log) in str(failed.error.fix) and "Traceback" in failed.log.read_text()
    assert {event.text for event in events if event.kind == "skipped"} == {"needs a"}
    assert not list(store.root.glob("artifacts/*/*/.tmp-*"))


@BOTH
def test_without_keep_going_nothing_new_starts(store: Store, jobs: int) -> None:
    first = make("first", act="fail")
    stages = [first, make("second", first), *(make(f"other{number}", act="nap") for number in range(20))]
    result = run(plan_of(*stages), store, jobs, keep_going=False, kinds=KINDS)
    found = outcomes(result)
    assert found["first"] == "failed" and found["second"] == "skipped" and found["other19"] == "skipped"
    assert "open" not in found.values()


@BOTH
def test_an_error_of_ours_keeps_its_kind_and_says_which_stage(store: Store, jobs: int) -> None:
    result = run(plan_of(make("a", act="bad_data")), store, jobs, kinds=KINDS)
    error = result.having("failed")[0].error
    assert isinstance(error, DataError) and result.exit_code == 3
    assert (error.where, error.why, error.fix) == ("a: x.tsv:3", "it is empty", "fill it")


@BOTH
def test_what_a_stage_prints_goes_to_its_log(store: Store, jobs: int, capfd: pytest.CaptureFixture[str]) -> None:
    a = make("a", act="print", shared="yes" if jobs > 1 else "")
    assert run(plan_of(a), store, jobs, kinds=KINDS).ok
    assert capfd.readouterr() == ("", "")
    log = store.log(a.hash).read_text()
    assert "said by python" in log and "said on stderr" in log
    assert jobs == 1 or "said by another program" in log


def test_a_killed_worker_costs_its_stage_and_no_other(store: Store) -> None:
    a = make("a", act="die")
    others = [make(f"x{number}") for number in range(6)]
    result = run(plan_of(a, make("b", a), *others), store, 2, kinds=KINDS)
    found = outcomes(result)
    assert found.pop("a") == "failed" and found.pop("b") == "skipped" and set(found.values()) == {"done"}
    error = result.having("failed")[0].error
    assert error is not None and "its worker process died (signal SIGKILL)" in str(error)
    assert store.gc(stage.hash for stage in others).leftovers == 1  # what it had written is no artifact


def test_every_worker_dying_ends_the_run(store: Store) -> None:
    result = run(plan_of(*(make(f"a{number}", act="die") for number in range(4))), store, 2, kinds=KINDS)
    assert set(outcomes(result).values()) == {"failed"}


def test_workers_get_their_share_of_the_threads(store: Store) -> None:
    stages = [make(f"a{number}") for number in range(4)]
    run(plan_of(*stages), store, 2, kinds=KINDS)
    facts = [store.manifest(stage.hash)["facts"] for stage in stages]
    cores = len(os.sched_getaffinity(0))
    assert {fact["threads"] for fact in facts} == {str(max(1, cores // 2))}
    assert {fact["policy"] for fact in facts} == {"PASSIVE"}
    assert os.getpid() not in {fact["pid"] for fact in facts}


def started(store: Store, shared: Path, act: str, jobs: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.executors.one_run", str(store.root), str(shared), act, str(jobs)]
    root = Path(__file__).parent.parent.parent
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)


def test_two_runs_at_the_same_time_make_each_stage_once(store: Store, tmp_path: Path) -> None:
    processes = [started(store, tmp_path, "count") for _ in range(2)]
    said = [process.communicate(timeout=600)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert (tmp_path / "runs").read_text() == "b\n"
    assert sorted(words[1] for words in said) == ["done", "hit"]


@pytest.mark.parametrize(("jobs", "sent"), [(1, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM)])
def test_an_interrupt_keeps_checkpoints_and_the_next_run_goes_on(
    store: Store, tmp_path: Path, jobs: int, sent: signal.Signals
) -> None:
    process = started(store, tmp_path, "long", jobs)
    wait_for(tmp_path / "waiting")
    process.send_signal(sent)
    out, error = process.communicate(timeout=600)
    assert process.returncode == 130, error
    assert out.split() == ["done", "interrupted"]
    a = make("a")
    b = make("b", a, act="long", shared=tmp_path)
    assert (store.work(b.hash) / "checkpoint").is_file()
    assert not list(store.root.glob("artifacts/*/*/.tmp-*"))
    result = run(plan_of(a, b), store, jobs, kinds=KINDS)
    assert outcomes(result) == {"a": "hit", "b": "done"} and (tmp_path / "resumed").exists()
    assert not (store.root / "work" / b.hash).exists()


def test_workers_end_with_a_run_that_is_killed(store: Store, tmp_path: Path) -> None:
    process = started(store, tmp_path, "long", 2)
    wait_for(tmp_path / "waiting")
    process.kill()
    process.communicate(timeout=600)
    last = make("b", make("a"), act="long", shared=tmp_path)
    end = time.monotonic() + 30  # the stage itself would sleep for a minute and report nothing
    while store.held(last.hash):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (store.work(last.hash) / "checkpoint").is_file()


def test_a_killed_run_goes_on_from_its_checkpoint(store: Store, tmp_path: Path) -> None:
    process = started(store, tmp_path, "long")
    wait_for(tmp_path / "waiting")
    process.kill()
    process.communicate()
    a = make("a")
    result = run(plan_of(a, make("b", a, act="long", shared=tmp_path)), store, kinds=KINDS)
    assert outcomes(result) == {"a": "hit", "b": "done"} and (tmp_path / "resumed").exists()


def wait_for(path: Path, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.02)


def test_missing_parents_of_what_is_done_are_not_made_again(store: Store) -> None:
    a = make("a")
    plan = plan_of(a, make("b", a))
    run(plan, store, kinds=KINDS)
    store.names.drop("last")
    (store.path(a.hash) / "manifest.json").unlink()
    result = run(plan, Store(store.root), kinds=KINDS)
    assert outcomes(result) == {"a": "unneeded", "b": "hit"} and result.ok


@BOTH
def test_the_cost_of_a_stage_is_small(store: Store, jobs: int) -> None:
    first = [make(f"warm{number}") for number in range(jobs)]
    rest = [make(f"s{number}", *first) for number in range(150)]
    times: list[float] = []
    run(plan_of(*first, *rest), store, jobs, on_event=lambda event: times.append(time.process_time()), kinds=KINDS)
    done = len(times) - len(rest)
    assert times[-1] - times[done] < 30 * unit()


def test_the_longest_chain_comes_first_and_a_worker_keeps_its_base() -> None:
    short, long = make("short", base="x"), make("long", base="y")
    middle = make("middle", long, base="y")
    end = make("end", middle, base="x")
    schedule = Schedule([short, long, middle, end])
    assert schedule.take() == long
    assert schedule.take("x") == short
    assert schedule.take("x") is None
    schedule.done(long.hash)
    assert schedule.take("x") == middle
    assert schedule.failed(middle.hash) == [end]
    assert schedule.take() is None and not schedule.waiting


def test_an_empty_plan_and_an_unknown_kind(store: Store) -> None:
    assert run(Plan("empty", ()), store).ok
    result = run(plan_of(make("a")), store)
    assert "no stage of kind `step`" in str(result.having("failed")[0].error)
