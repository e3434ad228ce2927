"""Ten thousand stages, workers that stay busy, and a thousand stages that leave nothing behind. CPU time is counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from adapterstilts.executors.events import Event
from adapterstilts.executors.local import run
from adapterstilts.executors.schedule import Schedule
from adapterstilts.store import Store
from tests.executors.kinds import KINDS, make, plan_of


@pytest.mark.slow
def test_planning_scheduling_and_status_of_ten_thousand_stages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.executors.big_table", str(tmp_path), "285"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    assert figures["stages"] > 10_000
    assert figures["seconds"] < 10 and figures["MB"] < 500, figures


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
    """Chains of stages of three seconds: the share of the workers' time in which a stage runs."""
    chains = []
    for number in range(3 * jobs):
        first = make(f"{number}a", act="sleep")
        middle = make(f"{number}b", first, act="sleep")
        chains += [first, middle, make(f"{number}c", middle, act="sleep")]
    times: list[float] = []

    def listen(event: Event) -> None:
        if event.kind in ("started", "done"):
            times.append(time.perf_counter())

    result = run(plan_of(*chains), Store(tmp_path), jobs, on_event=listen, kinds=KINDS)
    assert result.ok
    assert len(chains) * 3.0 / (jobs * (times[-1] - times[0])) > 0.9


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
