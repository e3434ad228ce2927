"""Faults on purpose: kills, full disks, damage, jumping clocks, two runs at once; then run again and compare.

    python benchmarks/faults.py --kills 4 --worker-kills 1 --others 1      # that everything works
    python benchmarks/faults.py --out benchmarks/results/faults.json       # whole: over a hundred kills

A small recipe trains two modules, merges them, trains on top, evaluates, retrieves and reports. Each fault strikes a
run of it in a store of its own at a random moment. Then the recipe is run again, and must end with the scores and
weights of an undisturbed run, bit for bit, and with a store whose every file is what its manifest says. Runs are forks
of this process, which has torch loaded already: a fault costs a second or two.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import ctypes
import json
import math
import platform
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from adapterstilts.api.care import collect
from adapterstilts.api.running import run
from adapterstilts.stages import evaluate, merge, prepare, retrieve, train  # noqa: F401  (loaded before forking)
from adapterstilts.store import Store

RECIPE: dict[str, Any] = {
    "name": "faults",
    "bases": ["lab/s0"],
    "seeds": [0],
    "languages": ["en", "qac"],
    "tasks": {task: {"sizes": {"train": 40, "dev": 10, "test": 20}} for task in ("lab-siqa", "lab-copa")},
    "train": {"batch": 8, "steps": 6, "checkpoints": 3, "evaluate": 0, "dev_limit": 10},
    "modules": {
        "a": {"train": "lab-siqa", "limit": 32},
        "b": {"train": "lab-siqa/qac", "limit": 32},
        "both": {"merge": ["a", "b"], "how": "cat", "weights": [0.5, 0.5]},
    },
    "targets": {"copa": {"task": "lab-copa", "limit": 16, "test_limit": 20}},
    "arms": {"none": {}, "merged": {"on": "both"}},
    "retrieve": [{"tasks": ["lab-tatoeba"], "modules": ["base", "a"], "limit": 20, "layers": [2]}],
}
LOADING = 4.0  # CPU seconds that a worker needs before its first stage
Before = Callable[[], None]


def start(store: Path, jobs: int = 1, before: Before | None = None) -> int:
    """A run of the recipe in a fork; its exit code is that of the run, 99 when it raised."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    os.setsid()
    code = 99
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if before is not None:
            before()
        made = run(RECIPE, store=store, jobs=jobs)
        if made.ok:
            made.report(store / "report", ("md", "json"))
        code = made.result.exit_code
    finally:
        os._exit(code)


def ended(child: int) -> int:
    """The exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def cpu_seconds(child: int) -> float:
    """What a process has used so far; infinite when it has ended. Moments are told by it, whatever else is running."""
    try:
        used = psutil.Process(child).cpu_times()
        return float(used.user + used.system) if psutil.Process(child).status() != psutil.STATUS_ZOMBIE else math.inf
    except psutil.NoSuchProcess:
        return math.inf


def strike(child: int, moment: float, signal_: signal.Signals) -> bool:
    """Send a signal when the process has used ``moment`` CPU seconds; whether it was still there."""
    while cpu_seconds(child) < moment:
        time.sleep(0.005)
    alive = cpu_seconds(child) < math.inf
    if alive:
        os.kill(child, signal_)
    return alive


Outcome = tuple[str, dict[str, dict[str, str]]]


def outcome(store: Path) -> Outcome:
    """What must not change: the rows of the report, and of every artifact the sha256 of its files."""
    artifacts = {}
    for _, hash in Store(store).hashes():
        files = Store(store).manifest(hash)["files"]
        artifacts[hash] = {name: file["sha256"] for name, file in files.items() if name != "facts.json"}
    return json.dumps(run(RECIPE, store=store).rows, sort_keys=True), artifacts


class Campaign:
    """The undisturbed outcome, and what each fault led to."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.rows: dict[str, dict[str, Any]] = {}
        self.number = 0
        first = self.store()
        assert run(RECIPE, store=first).ok, "the undisturbed run fails"  # here, so that forks have all modules loaded
        second = self.store()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        assert ended(start(second)) == 0
        self.seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
        self.wanted = outcome(first)
        assert outcome(second) == self.wanted, "two undisturbed runs differ"
        shutil.rmtree(second)
        self.done = first

    def store(self, copy: Path | None = None) -> Path:
        """An empty store, or a copy."""
        self.number += 1
        place = self.folder / f"store{self.number}"
        if copy is not None:
            shutil.copytree(copy, place, symlinks=True)
        return place

    def same(self, store: Path) -> bool:
        """Equal rows and equal artifacts; one that is gone and that nothing needed again may be absent."""
        rows, artifacts = outcome(store)
        return rows == self.wanted[0] and artifacts.items() <= self.wanted[1].items()

    def check(self, fault: str, store: Path, struck: int) -> None:
        """Run again, compare, and look for damage. ``struck``: how many of its faults hit something."""
        code = ended(start(store))
        same, damage = code == 0 and self.same(store), Store(store).verify()
        row = self.rows.setdefault(fault, {"rounds": 0, "struck": 0, "same scores": 0, "clean": 0})
        row["rounds"] += 1
        row["struck"] += struck
        row["same scores"] += same
        row["clean"] += not damage
        if not same or damage:
            print(f"{fault}: exit {code}, same {same}, damage {damage}, kept in {store}", flush=True)
        else:
            shutil.rmtree(store)

    # -- the faults ---------------------------------------------------------------------------------------------------

    def kill_parent(self) -> None:
        """SIGKILL at random moments, up to eight times in a row: what goes on from a killed run is killed, too."""
        store, struck = self.store(), 0
        for _ in range(self.random.randint(1, 8)):
            child = start(store)
            struck += strike(child, self.random.uniform(0.0, 0.4 * self.seconds), signal.SIGKILL)
            ended(child)
        self.check("SIGKILL of the run", store, struck)

    def kill_worker(self) -> None:
        """SIGKILL of one of two workers, while it loads, works or waits; the run goes on without it."""
        store = self.store()
        child = start(store, jobs=2)
        struck = strike(self.worker(child), self.random.uniform(0.0, LOADING + self.seconds / 2), signal.SIGKILL)
        ended(child)
        self.check("SIGKILL of a worker", store, struck)

    def worker(self, child: int) -> int:
        """One of the two workers of a run that has just begun."""
        while len(found := psutil.Process(child).children()) < 2:
            time.sleep(0.01)
        return self.random.choice(found).pid

    def full_disk(self) -> None:
        """No file may grow beyond a random size (EFBIG stands for ENOSPC)."""
        limit = int(2 ** self.random.uniform(8, 17))

        def before() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        store = self.store()
        self.check("no space: file size", store, ended(start(store, before=before)) != 0)

    def full_tmpfs(self) -> None:
        """A file system of a random small size, enlarged for the second run."""
        store = self.store()
        store.mkdir(parents=True)
        size = self.random.randint(64, 1500)
        libc = ctypes.CDLL(None, use_errno=True)
        place = str(store).encode()
        if libc.mount(b"tmpfs", place, b"tmpfs", 0, f"size={size}k".encode()) != 0:
            self.rows["no space: tmpfs"] = {"skipped": "no right to mount"}
            return
        try:
            struck = ended(start(store)) != 0
            libc.mount(b"tmpfs", place, b"tmpfs", 32, b"size=500m")  # MS_REMOUNT
            inner = self.store(copy=store)
        finally:
            libc.umount2(place, 2)
        self.check("no space: tmpfs", inner, struck)

    def damage(self, how: str) -> None:
        """A random file of a finished store is cut or has one bit flipped; verify must find it."""
        store = self.store(copy=self.done)
        files = [path for path in sorted((store / "artifacts").rglob("*")) if path.is_file() and path.stat().st_size]
        path = self.random.choice([path for path in files if path.name != "manifest.json"])
        data = bytearray(path.read_bytes())
        place = self.random.randrange(len(data))
        if how == "truncated":
            data = data[:place]
        else:
            data[place] ^= 1 << self.random.randrange(8)
        path.unlink()  # leaves of modules are hard links: the others must stay whole
        path.write_bytes(data)
        struck = bool(Store(store).verify())
        collect(Store(store), damaged=True)
        self.check(f"artifact {how}", store, struck)

    def terminate(self) -> None:
        """SIGTERM of a run of two workers: it ends them, and they leave their checkpoints."""
        store = self.store()
        child = start(store, jobs=2)
        worker = self.worker(child)
        while cpu_seconds(worker) < self.random.uniform(0.0, LOADING + self.seconds / 2):
            time.sleep(0.01)
        os.kill(child, signal.SIGTERM)
        self.check("SIGTERM of the run", store, ended(child) != 0)

    def clock(self) -> None:
        """The clock of the run jumps by up to a year, back and forth."""
        seed = self.random.random()

        def before() -> None:
            own, real = random.Random(seed), time.time
            time.time = lambda: real() + own.uniform(-3e7, 3e7)

        store = self.store()
        self.check("the clock jumps", store, ended(start(store, before=before)) == 0)

    def twice(self) -> None:
        """Two runs of the recipe at once on one store; both end well."""
        store = self.store()
        children = [start(store), start(store)]
        codes = [ended(child) for child in children]
        self.check("two runs at once", store, codes == [0, 0])


def campaign(folder: Path, kills: int, worker_kills: int, others: int, seed: int) -> dict[str, Any]:
    """All faults; the JSON of the result."""
    made = Campaign(folder, seed)
    several: list[Callable[[], None]] = [made.full_disk, made.full_tmpfs, made.clock, made.twice, made.terminate]
    several += [lambda: made.damage("truncated"), lambda: made.damage("with a flipped bit")]
    plan = [made.kill_parent] * kills + [made.kill_worker] * worker_kills + several * others
    made.random.shuffle(plan)
    began = time.perf_counter()
    for number, fault in enumerate(plan, 1):
        fault()
        seconds = time.perf_counter() - began
        print(f"{number} of {len(plan)} rounds, {seconds:.0f} s: {json.dumps(made.rows)}", flush=True)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    counted = [row for row in made.rows.values() if "rounds" in row]
    return {
        "schema_version": 1,
        "ok": all(row["same scores"] == row["clean"] == row["rounds"] for row in counted),
        "seed": seed,
        "faults": made.rows,
        "undisturbed CPU seconds": round(made.seconds, 2),
        "cpu seconds": round(sum(one.ru_utime + one.ru_stime for one in used), 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--worker-kills", type=int, default=10)
    parser.add_argument("--others", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="faults") as folder:
        result = campaign(Path(folder), given.kills, given.worker_kills, given.others, given.seed)
    print(json.dumps(result, indent=1))
    if given.out:
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
