"""Ten thousand stages, workers that stay busy, and a thousand stages that leave nothing behind. CPU time is counted."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import psutil
import pytest

from adapterstilts.api.following import runs, stage_states
from adapterstilts.executors.events import Event
from adapterstilts.executors.local import run
from adapterstilts.executors.schedule import Schedule
from adapterstilts.plan import Plan, Stage, record, states
from adapterstilts.plan.runs import outline
from adapterstilts.store import Store
from tests.executors.kinds import KINDS, make, plan_of

MANY = 10_000


def grid(count: int) -> Plan:
    """Preparations, modules that need them, and evaluations that need these, as in a table of many arms and seeds."""
    prepared = [make(f"prepare {number}", base="b") for number in range(20)]
    stages: list[Stage] = list(prepared)
    while len(stages) < count:
        number = len(stages)
        module = make(f"train {number}", *(prepared[(number + k) % 20] for k in range(3)), base=f"b{number % 4}")
        stages += [module, make(f"evaluate {number}", module, prepared[number % 20], base=f"b{number % 4}")]
    return Plan("grid", tuple(stages[:count]), names={f"grid/{number}": s.hash for number, s in enumerate(stages)})


@pytest.mark.slow
def test_scheduling_and_status_of_ten_thousand_stages(tmp_path: Path) -> None:
    store = Store(tmp_path)
    began = time.process_time()
    plan = grid(MANY)
    folder = record(plan, store)
    found = states(plan, store)
    schedule = Schedule(plan.needed(store))
    order = []
    while (stage := schedule.take("b1")) is not None:
        order.append(stage.hash)
        schedule.done(stage.hash)
    assert len(order) == len(found) == MANY and not schedule.given
    assert {state["state"] for state in stage_states(store, outline(folder)["stages"])} == {"open"}
    assert runs(store)[0]["open"] == MANY
    assert time.process_time() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 500 * 1024


def test_the_cost_of_giving_out_a_stage_does_not_grow_with_their_number() -> None:
    def seconds(count: int) -> float:
        stages = [make(f"s{number}") for number in range(count)]
        best = float("inf")
        for _ in range(3):
            schedule = Schedule(stages)
            began = time.process_time()
            while (stage := schedule.take()) is not None:
                schedule.done(stage.hash)
            best = min(best, time.process_time() - began)
        return best / count

    assert seconds(4000) < 4 * seconds(400)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_sleeping_stages_keep_the_workers_busy(tmp_path: Path, jobs: int) -> None:
    """Chains of stages of one second: the share of the workers' time in which a stage runs."""
    chains = []
    for number in range(2 * jobs):
        first = make(f"{number}a", act="second")
        middle = make(f"{number}b", first, act="second")
        chains += [first, middle, make(f"{number}c", middle, act="second")]
    times: list[float] = []

    def listen(event: Event) -> None:
        if event.kind in ("started", "done"):
            times.append(time.perf_counter())

    result = run(plan_of(*chains), Store(tmp_path), jobs, on_event=listen, kinds=KINDS)
    assert result.ok
    assert len(chains) * 1.0 / (jobs * (times[-1] - times[0])) > 0.9


@pytest.mark.slow
def test_a_thousand_stages_leave_no_memory_handle_or_lock_behind(tmp_path: Path) -> None:
    store, process = Store(tmp_path), psutil.Process()

    def round(name: str) -> tuple[int, int, int]:
        stages = [make(f"{name} {number}") for number in range(334)]
        assert run(plan_of(*stages), store, kinds=KINDS).ok
        assert not any(store.held(stage.hash) for stage in stages)
        return process.memory_info().rss, process.num_fds(), process.num_threads()

    first = round("first")
    second, third = round("second"), round("third")
    assert second[1:] == third[1:] == first[1:]
    assert third[0] - first[0] < 10 * 2**20
    assert not list((store.root / "signs").iterdir()) and not list((store.root / "work").iterdir())
    assert os.listdir(store.root / "artifacts") == ["step"] and len(list(store.hashes())) == 1002
