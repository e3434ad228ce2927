"""Plan, record, schedule and look at a table of many seeds: python -m tests.executors.big_table STORE SEEDS."""

from __future__ import annotations

import json
import resource
import sys
import time

from adapterstilts.api.following import runs, stage_states
from adapterstilts.api.planning import plan_recipe
from adapterstilts.executors.schedule import Schedule
from adapterstilts.plan import record
from adapterstilts.plan.runs import outline

RECIPE = {
    "name": "table",
    "bases": ["lab/s0"],
    "languages": "all",
    "modules": {
        "nli": {"train": "lab-nli"},
        "siqa": {"train": "lab-siqa"},
        "qa": {"train": "lab-qa"},
        "both": {"merge": ["nli", "siqa"]},
    },
    "targets": {"copa": {"task": "lab-copa"}, "pos": {"task": "lab-pos"}, "nli": {"task": "lab-nli"}},
    "arms": {
        "none": {},
        "stack": {"on": "siqa"},
        "merged": {"on": "both"},
        "continue": {"continue": "siqa"},
        "fused": {"on": "fuse(siqa, nli, qa)"},
    },
    "evaluate": [{"tasks": ["lab-nli"], "modules": ["nli"]}],
    "retrieve": [{"tasks": ["lab-tatoeba"], "modules": ["nli", "siqa"]}],
}


def main(root: str, seeds: int) -> dict[str, float]:
    """CPU seconds and MB of all that a run does with a table besides running it."""
    began = time.process_time()
    planned = plan_recipe({**RECIPE, "seeds": list(range(seeds))}, store=root)
    plan, store = planned.plan, planned.store
    count = len(plan.stages)
    assert set(planned.states().values()) == {"missing"}
    folder = record(plan, store)
    schedule = Schedule(plan.needed(store))
    order = []
    while (stage := schedule.take("lab/s0")) is not None:
        order.append(stage.hash)
        schedule.done(stage.hash)
    assert len(set(order)) == len(order) == count
    assert {state["state"] for state in stage_states(store, outline(folder)["stages"])} == {"open"}
    assert runs(store)[0]["open"] == count
    seconds = time.process_time() - began
    return {"stages": count, "seconds": seconds, "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
