"""Ray: this machine's own, and a cluster of two nodes on loopback, one of which is killed in the middle."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from adapterstilts.errors import RecipeError, StageFailed
from adapterstilts.executors import drive
from adapterstilts.executors.crew import Setup
from adapterstilts.executors.events import Event
from adapterstilts.store import Store
from tests.executors.clusters import RayNode, wait_until
from tests.executors.kinds import KINDS, make, plan_of
from tests.executors.test_local import outcomes

if find_spec("ray") is None:
    pytest.skip("no Ray", allow_module_level=True)
QUIET = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(autouse=True, scope="module")
def token() -> Iterator[None]:
    """One token for all that follows: a process reads it once, when it loads Ray, and all nodes must have the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")  # a client that names an address does not look for a token otherwise
        patch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 2)
        yield


@QUIET
@pytest.mark.slow
def test_the_own_ray_behaves_as_every_executor(store: Store) -> None:
    a, c = make("a"), make("c", act="fail")
    b, d = make("b", a), make("d", c)
    e = make("e", b)
    events: list[Event] = []
    plan = plan_of(a, b, c, d, e)
    result = drive.run(plan, Setup(store, None, kinds=KINDS), "ray", on_event=events.append)
    assert outcomes(result) == {"a": "done", "b": "done", "c": "failed", "d": "skipped", "e": "done"}
    assert (store.path(e.hash) / "name").read_text() == "a+b+e"
    error = result.having("failed")[0].error
    assert error is not None and error.what == "ZeroDivisionError: one by none" and error.where == "c"
    order = [(event.kind, event.stage.label) for event in events if event.kind != "progress"]
    assert order.index(("started", "b")) > order.index(("done", "a")) and ("skipped", "d") in order
    again = drive.run(plan_of(a, b, e), Setup(store, 1, kinds=KINDS), "ray")
    assert set(outcomes(again).values()) == {"hit"}
    assert store.verify() == []


@QUIET
@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(store: Store, tmp_path: Path) -> None:
    attempts = tmp_path / "attempts"
    killed: list[int] = []

    def listen(event: Event) -> None:
        if event.kind == "progress" and not killed and attempts.exists():
            killed.append(int(attempts.read_text()))
            os.kill(killed[0], signal.SIGKILL)

    stage = make("s", act="patient", shared=tmp_path)
    result = drive.run(plan_of(stage), Setup(store, None, kinds=KINDS), "ray", on_event=listen)
    assert outcomes(result) == {"s": "done"} and len(attempts.read_text().split()) == 2
    assert store.verify() == [] and not (store.root / "work" / stage.hash).exists()


@QUIET
@pytest.mark.slow
def test_a_node_that_dies_costs_nothing_but_time(store: Store, tmp_path: Path) -> None:
    head = RayNode()
    other: RayNode | None = None
    try:
        wait_until(head.answers)
        other = RayNode(head.address)
        stages = [make(f"s{number}", act="patient", shared=tmp_path) for number in range(4)]
        end = make("end", *stages)
        killed: list[bool] = []

        def listen(event: Event) -> None:
            if not killed and other is not None:
                wait_until(lambda: other is not None and other.runs(tmp_path / "attempts"))
                time.sleep(1)  # it has left checkpoints, and needs three seconds more
                killed.append(True)
                other.kill()

        setup = Setup(store, None, kinds=KINDS, options={"address": head.address})
        _wait_for_cores(head.address, 2)
        result = drive.run(plan_of(*stages, end), setup, "ray", on_event=listen)
        assert killed and set(outcomes(result).values()) == {"done"}, outcomes(result)
        attempts = (tmp_path / "attempts").read_text().split()
        assert len(attempts) >= 5 and store.verify() == []
        assert (store.path(end.hash) / "name").read_text() == "s0+s1+s2+s3+end"
    finally:
        for node in (other, head):
            if node is not None:
                node.kill()


def _wait_for_cores(address: str, cores: int) -> None:
    import ray

    ray.init(address=address, logging_level="error", log_to_driver=False)
    try:
        wait_until(lambda: ray.cluster_resources().get("CPU", 0) == cores)
    finally:
        ray.shutdown()


@QUIET
@pytest.mark.parametrize(
    ("name", "value", "told"),
    [("partition", "x", "no option `partition`"), ("retries", "x", "this option is a number")],
)
def test_what_is_wrong_is_one_error(store: Store, name: str, value: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        drive.run(plan_of(make("a")), Setup(store, None, kinds=KINDS, options={name: value}), "ray")


@QUIET
def test_no_cluster_is_one_error(store: Store) -> None:
    with pytest.raises(StageFailed, match="no Ray cluster at"):
        drive.run(plan_of(make("a")), Setup(store, None, kinds=KINDS, options={"address": "127.0.0.1:1"}), "ray")
