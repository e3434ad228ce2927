"""One run in a process of its own: python -m tests.executors.one_run STORE SHARED ACT JOBS."""

from __future__ import annotations

import sys
from pathlib import Path

from adapterstilts.executors.local import run
from adapterstilts.store import Store
from tests.executors.kinds import KINDS, make, plan_of

if __name__ == "__main__":
    root, shared, act, jobs = sys.argv[1:]
    first = make("a")
    plan = plan_of(first, make("b", first, act=act, shared=shared))
    result = run(plan, Store(Path(root)), int(jobs), kinds=KINDS)
    sys.stdout.write(" ".join(one.outcome for one in result.stages.values()))
    sys.exit(result.exit_code)
