"""Slurm: a real controller and node on this machine, where Debian's packages are installed; submitit alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapterstilts.api.following import cancel
from adapterstilts.errors import AdapterstiltsError, MissingDependency, RecipeError
from adapterstilts.executors import drive
from adapterstilts.executors.crew import Job, Setup
from adapterstilts.executors.events import Event, RunResult
from adapterstilts.executors.slurm import Jobs
from adapterstilts.plan.needs import Needs
from adapterstilts.store import Store
from tests.executors.clusters import slurm, wait_until
from tests.executors.kinds import KINDS, make, plan_of
from tests.executors.test_local import outcomes

pytest.importorskip("submitit")
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with slurm(tmp_path_factory.mktemp("slurm")) as configuration, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(configuration))
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def run(plan, store: Store, events: list[Event] | None = None, **options: str) -> RunResult:  # type: ignore[no-untyped-def]
    setup = Setup(store, None, kinds=KINDS, options={"poll": "0.5", **options})
    return drive.run(plan, setup, "slurm", on_event=None if events is None else events.append)


def check_behaviour(store: Store, **options: str) -> None:
    """What every executor does: parents first, a failure skips what needs it, everything else goes on."""
    a, c = make("a"), make("c", act="fail")
    b, d = make("b", a), make("d", c)
    e = make("e", b)
    events: list[Event] = []
    result = run(plan_of(a, b, c, d, e), store, events, **options)
    assert outcomes(result) == {"a": "done", "b": "done", "c": "failed", "d": "skipped", "e": "done"}
    assert (store.path(e.hash) / "name").read_text() == "a+b+e"
    error = result.having("failed")[0].error
    assert error is not None and error.what == "ZeroDivisionError: one by none" and error.where == "c"
    assert "Traceback" in store.log(c.hash).read_text()
    order = [(event.kind, event.stage.label) for event in events if event.kind != "progress"]
    assert order.index(("started", "b")) > order.index(("done", "a")) and ("skipped", "d") in order
    assert store.verify() == []


def test_a_real_slurm_behaves_as_every_executor(cluster: None, store: Store) -> None:
    check_behaviour(store)


def test_jobs_are_arrays_by_level_with_the_needs_of_their_stages(cluster: None, store: Store) -> None:
    import submitit

    jobs = Jobs(Setup(store, None, kinds=KINDS, options={"partition": "main", "time": "7"}), submitit)
    a, b = make("a", act="nap"), make("b")
    jobs.give(Job(a.hash, Needs(2, 0, 1_500_000_000)))
    jobs.give(Job(b.hash, Needs(1)))
    for child in [make(f"x{number}", a) for number in range(3)]:
        jobs.give(Job(child.hash, Needs(1), (a.hash,)))
    with jobs:
        jobs._submit()
        scripts = {path.read_text() for path in store.root.glob("slurm/**/*.sh")}
        (first,) = [text for text in scripts if "--cpus-per-task=2" in text]
        assert "--mem=2GB" in first and "--time=7" in first and "--partition=main" in first
        assert "--dependency" not in first and "--signal=USR2@90" in first
        (array,) = [text for text in scripts if "--dependency" in text]
        assert f"--dependency=afterok:{jobs.ids[a.hash]}" in array and "--array=0-2" in array
        assert "--kill-on-invalid-dep=yes" in array and len(set(jobs.ids.values())) == 5


@pytest.mark.slow
def test_a_cancelled_run_keeps_its_checkpoint_and_the_next_goes_on(cluster: None, store: Store, tmp_path: Path) -> None:
    stage = make("a", act="patient", shared=tmp_path)
    plan = plan_of(stage, make("b", stage))
    checkpoint = store.root / "work" / stage.hash / "checkpoint"
    results: list[RunResult] = []
    thread = threading.Thread(target=lambda: results.append(run(plan, store)))
    thread.start()
    wait_until(lambda: checkpoint.exists() and int(checkpoint.read_text()) > 3)
    assert cancel(store, "test")["stopped"] == ["a", "b"]
    thread.join(60)
    assert results[0].interrupted and results[0].exit_code == 130
    wait_until(lambda: not store.held(stage.hash))
    assert int(checkpoint.read_text()) > 3
    assert run(plan, store).ok
    assert len((tmp_path / "attempts").read_text().split()) == 2


@pytest.mark.slow
def test_a_job_at_its_time_limit_is_queued_again_and_goes_on(cluster: None, store: Store, tmp_path: Path) -> None:
    """A limit of one minute with a warning 58 s before: Slurm tells the job almost at once."""
    stage = make("a", act="long", shared=tmp_path)
    assert run(plan_of(stage), store, time="1", warning="58").ok
    assert (tmp_path / "resumed").exists()
    assert not (store.root / "work" / stage.hash).exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # submitit waits for no process
def test_submitit_alone_behaves_as_every_executor(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    check_behaviour(store, cluster="local")


def test_what_is_wrong_is_said_before_anything_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for time in ("soon", "nan", "-5", "inf"):
        with pytest.raises(RecipeError, match="this option is a number"):
            run(plan_of(make("a")), store, cluster="local", time=time)
    monkeypatch.setenv("PATH", str(store.root))
    with pytest.raises(MissingDependency, match="no Slurm on this machine") as caught:
        run(plan_of(make("a")), store)
    assert isinstance(caught.value, AdapterstiltsError) and caught.value.exit_code == 6
