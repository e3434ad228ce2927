"""How far runs have come, what their stages print, and stopping them: all of it through the store."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterstilts.api.places import PathLike, open_store
from adapterstilts.errors import StoreError
from adapterstilts.executors.drive import request_stop
from adapterstilts.executors.signs import as_error, read_sign, stop_mark
from adapterstilts.plan.runs import outline, runs_of
from adapterstilts.store import Store

LIVE = ("queued", "running")


def stage_states(store: Store, stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stages, of which hash, kind and label are known, with how far they are.

    ``state``: done; running; queued on a cluster; failed, with its ``error``; started, when it has checkpoints or a log
    and nobody works on it; open. ``left``: seconds that remain when it goes on as it went.
    """
    return [_state(store, stage) for stage in stages]


def _state(store: Store, stage: Mapping[str, Any]) -> dict[str, Any]:
    hash = stage["hash"]
    plain: dict[str, Any] = {"name": stage["label"], "kind": stage["kind"], "state": "open", "seconds": None}
    plain |= {"where": "", "fraction": None, "left": None, "text": "", "error": None, "hash": hash}
    plain["log"] = str(store.log(hash))
    if store.has(hash):
        return {**plain, "state": "done", "seconds": store.manifest(hash).get("wall_seconds")}
    sign = read_sign(store, hash)
    held = store.held(hash)
    if sign is not None and (held or sign.state == "queued"):
        state = "running" if held else "queued"
        about = {"where": sign.job or sign.where, "fraction": sign.fraction, "text": sign.text, "left": sign.left}
        return {**plain, "state": state, **about, "seconds": max(0.0, time.time() - sign.began) if held else None}
    if held:
        return {**plain, "state": "running"}
    if sign is not None and sign.error is not None:
        return {**plain, "state": "failed", "where": sign.where, "error": str(as_error(sign.error))}
    touched = (store.root / "work" / hash).is_dir() or store.log(hash).exists()
    return {**plain, "state": "started" if touched else "open"}


def runs(store: PathLike | Store | None = None, most: int | None = None) -> list[dict[str, Any]]:
    """The runs of a store, the newest first, each with the number of stages by state."""
    opened = open_store(store)
    found = []
    for folder in runs_of(opened)[:most]:
        plan = outline(folder)
        states = Counter(stage["state"] for stage in stage_states(opened, plan["stages"]))
        found.append(
            {
                "name": f"{folder.parent.name}/{folder.name}",
                "recipe": plan["recipe"],
                "id": folder.name,
                "when": time.strftime("%Y-%m-%d %H:%M", time.localtime((folder / "plan.json").stat().st_mtime)),
                "stages": len(plan["stages"]),
                **{state: states.get(state, 0) for state in ("done", "running", "queued", "failed", "started", "open")},
            }
        )
    return found


@dataclass(frozen=True)
class Followed:
    """A run, or one stage: what `logs` and `cancel` are about. ``folder``: of the run, None for a stage."""

    name: str
    stages: tuple[dict[str, Any], ...]
    folder: Path | None = None


def find(store: Store, name: str) -> Followed:
    """A run by recipe name (its newest), id or recipe/id; or a stage by its label or the beginning of its hash.

    Raises:
        StoreError: neither, or several stages.
    """
    folders = runs_of(store)
    for folder in folders:
        if name in (folder.name, folder.parent.name, f"{folder.parent.name}/{folder.name}"):
            plan = outline(folder)
            return Followed(f"{plan['recipe']}/{folder.name}", tuple(plan["stages"]), folder)
    for folder in folders:
        found = [s for s in outline(folder)["stages"] if s["label"] == name or _begins(s["hash"], name)]
        if len(found) == 1:
            return Followed(found[0]["label"], (found[0],))
        if found:
            raise StoreError(f"{len(found)} stages begin with `{name}`", where=str(folder), fix="give more digits")
    fix = "adapterstilts status lists the runs, adapterstilts status RUN its stages"
    raise StoreError(f"no run and no stage `{name}`", where=str(store.runs), fix=fix)


def _begins(hash: str, text: str) -> bool:
    return len(text) >= 6 and hash.startswith(text)


# -- logs -------------------------------------------------------------------------------------------------------------


@dataclass
class Tail:
    """The lines of the logs of some stages, each given once."""

    store: Store
    stages: Sequence[Mapping[str, Any]]
    _read: dict[str, int] = field(default_factory=dict)

    def lines(self, whole: bool = False) -> Iterator[tuple[str, str]]:
        """(label, line) of what is new, stage by stage; a line that is still being written only with ``whole``."""
        for stage in self.stages:
            path = self.store.log(stage["hash"])
            begin = self._read.get(stage["hash"], 0)
            try:
                if path.stat().st_size < begin:
                    begin = 0  # made again from the start
                with path.open("rb") as file:
                    file.seek(begin)
                    data = file.read()
            except FileNotFoundError:
                continue
            end = len(data) if whole else data.rfind(b"\n") + 1
            self._read[stage["hash"]] = begin + end
            for line in data[:end].decode("utf-8", "replace").splitlines():
                yield stage["label"], line

    def alive(self) -> bool:
        """Whether any of the stages is queued or running."""
        return any(state["state"] in LIVE for state in stage_states(self.store, self.stages))


# -- cancel -----------------------------------------------------------------------------------------------------------


def cancel(store: PathLike | Store | None, name: str) -> dict[str, Any]:
    """Stop a run, or a running stage. Checkpoints are kept; running the recipe again goes on from them.

    What runs stops at its next report of progress, on whatever machine it is; queued Slurm jobs are cancelled at once;
    the program that drives the run ends as after Ctrl-C.

    Returns:
        {schema_version, name, stopped: [labels]}

    Raises:
        StoreError: no such run or stage, or a stage that nobody works on.
    """
    opened = open_store(store)
    found = find(opened, name)
    live = [stage for stage in stage_states(opened, found.stages) if stage["state"] in LIVE]
    if found.folder is not None:
        request_stop(found.folder)
    elif not live:
        raise StoreError(f"nobody works on `{found.name}`", where=str(opened.root), fix="adapterstilts status")
    for stage in live:
        if stage["state"] == "running":
            stop_mark(opened, stage["hash"]).touch()
    _scancel([sign.job for stage in live if (sign := read_sign(opened, stage["hash"])) and sign.state == "queued"])
    return {"schema_version": 1, "name": found.name, "stopped": [stage["name"] for stage in live]}


def _scancel(jobs: Sequence[str]) -> None:
    ids = [job.removeprefix("slurm ") for job in jobs if job.startswith("slurm ")]
    if ids and shutil.which("scancel"):
        subprocess.run(["scancel", *ids], check=False, capture_output=True)
