"""Small kinds of stages for tests of executors: each writes what it was given, and misbehaves when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from adapterstilts.errors import DataError
from adapterstilts.plan import Plan, Stage, make_stage
from adapterstilts.stages.specs import BaseRef, Spec

KINDS = {"step": "tests.executors.kinds:step"}
Progress = Callable[[float, str], None]


class StepSpec(Spec):
    kind: ClassVar[str] = "step"
    name: str
    act: str = ""
    shared: str = ""  # a folder outside the store
    base: BaseRef | None = None


def step(
    spec: StepSpec, parents: Mapping[str, Path], directory: Path, work: Path, progress: Progress
) -> dict[str, Any]:
    """Write the names of the parents and the own one."""
    progress(0.5, "half")
    if spec.act == "report":
        _report(spec, progress)
    elif spec.act:
        ACTS[spec.act](spec, work)
    names = [(parents[role] / "name").read_text() for role in sorted(parents)]
    (directory / "name").write_text("+".join([*names, spec.name]))
    return {
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "policy": os.environ.get("OMP_WAIT_POLICY"),
        "pid": os.getpid(),
    }


def _report(spec: StepSpec, progress: Progress) -> None:
    """Says how far it is until somebody stops it, for half a minute at most."""
    (Path(spec.shared) / "waiting").touch()
    for count in range(300):
        time.sleep(0.1)
        progress(count / 300, f"count {count}")


def _print(spec: StepSpec, work: Path) -> None:
    sys.stdout.write("said by python\n")
    sys.stderr.write("said on stderr\n")
    if spec.shared:  # in a worker: output below Python too
        subprocess.run(["echo", "said by another program"], check=True)


def _fail(spec: StepSpec, work: Path) -> None:
    raise ZeroDivisionError("one by none\nand more")


def _bad_data(spec: StepSpec, work: Path) -> None:
    raise DataError("no label", where="x.tsv:3", why="it is empty", fix="fill it")


def _die(spec: StepSpec, work: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _count(spec: StepSpec, work: Path) -> None:
    with (Path(spec.shared) / "runs").open("a") as file:
        file.write(f"{spec.name}\n")
    time.sleep(0.5)


def _nap(spec: StepSpec, work: Path) -> None:
    time.sleep(0.1)


def _sleep(spec: StepSpec, work: Path) -> None:
    time.sleep(3.0)


def _long(spec: StepSpec, work: Path) -> None:
    """Leaves a checkpoint and waits; goes on from it when it is there."""
    if (work / "checkpoint").exists():
        (Path(spec.shared) / "resumed").touch()
        return
    (work / "checkpoint").write_text("half way")
    (Path(spec.shared) / "waiting").touch()
    time.sleep(60)


def _patient(spec: StepSpec, work: Path) -> None:
    """Counts to 40 in four seconds or more, with a checkpoint at every count; every attempt leaves its name."""
    with (Path(spec.shared) / "attempts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    path = work / "checkpoint"
    for count in range(int(path.read_text()) if path.exists() else 0, 40):
        path.with_suffix(".new").write_text(str(count))
        path.with_suffix(".new").replace(path)
        time.sleep(0.1)


ACTS: dict[str, Callable[[StepSpec, Path], None]] = {
    "patient": _patient,
    "sleep": _sleep,
    "print": _print,
    "fail": _fail,
    "bad_data": _bad_data,
    "die": _die,
    "count": _count,
    "long": _long,
    "nap": _nap,
}


def make(name: str, *parents: Stage, act: str = "", shared: Path | str = "", base: str = "") -> Stage:
    """A stage of the kind `step`."""
    ref = BaseRef(ref=base, fingerprint=base, tokenizer=base) if base else None
    spec = StepSpec(name=name, act=act, shared=str(shared), base=ref)
    return make_stage("step", spec, {f"p{number}": parent.hash for number, parent in enumerate(parents)}, name)


def plan_of(*stages: Stage) -> Plan:
    return Plan("test", stages, names={"last": stages[-1].hash})
