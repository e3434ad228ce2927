"""Whether this machine can do the job: versions against the tested ranges, threads, memory, devices, bases, store."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adapterstilts.api.environment import DEFAULTS
from adapterstilts.api.places import PathLike, open_store
from adapterstilts.errors import AdapterstiltsError, DataError
from adapterstilts.executors.devices import cores
from adapterstilts.store import Store

Check = dict[str, Any]
DISTRIBUTION = "adapterstilts"
OPTIONAL = {"adapters": "only bottleneck methods need it"}  # extras that are looked at


def doctor(
    *, store: PathLike | Store | None = None, bases: tuple[str, ...] = ("lab/s0",), devices: bool = True
) -> dict[str, Any]:
    """Checks of packages, machine, bases and store: {schema_version, ok, checks: [{name, state, value, fix}]}.

    ``state`` is ok, warning or error; only errors make ``ok`` false. ``devices`` asks torch, which takes seconds.
    """
    opened = open_store(store)
    checks = [*_packages(), *_machine(), *(_devices() if devices else ())]
    checks += [_tried(f"base {ref}", lambda ref=ref: _base(ref)) for ref in bases]  # type: ignore[misc]
    checks.append(_tried("store", lambda: _store(opened)))
    return {"schema_version": 1, "ok": all(check["state"] != "error" for check in checks), "checks": checks}


def _check(name: str, value: str, state: str = "ok", fix: str | None = None) -> Check:
    return {"name": name, "state": state, "value": value, "fix": fix}


def _tried(name: str, action: Callable[[], Check]) -> Check:
    try:
        return action()
    except AdapterstiltsError as error:
        return _check(name, f"{error.what}" + (f": {error.why}" if error.why else ""), "error", error.fix)


def requirements() -> dict[str, str]:
    """Package -> version range that is tested, as pyproject.toml says; empty when run from a source tree alone."""
    from packaging.requirements import Requirement

    try:
        stated = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = map(Requirement, stated)
    return {
        item.name: str(item.specifier)
        for item in found
        if item.name in OPTIONAL or item.marker is None or "extra" not in str(item.marker)
    }


def _packages() -> Iterator[Check]:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    fits = sys.version_info >= (3, 10)
    yield _check("python", version, "ok" if fits else "error", None if fits else "use Python 3.10 or newer")
    wanted = requirements()
    if not wanted:
        yield _check("packages", "adapterstilts is not installed", "warning", "pip install -e .")
    for name, range in wanted.items():
        try:
            have = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if name in OPTIONAL:
                yield _check(name, f"absent: {OPTIONAL[name]}")
                continue
            # faiss has several distributions of one module.
            optional = name.startswith("faiss") and _has_faiss()
            yield _check(name, "absent", "ok" if optional else "error", None if optional else f"pip install {name}")
            continue
        fits = SpecifierSet(range).contains(have, prereleases=True)
        fix = None if fits else f"pip install '{name}{range}'"
        yield _check(name, f"{have} (tested: {range or 'any'})", "ok" if fits else "warning", fix)


def _has_faiss() -> bool:
    import importlib.util

    return importlib.util.find_spec("faiss") is not None


def _machine() -> Iterator[Check]:
    yield _check("cores", str(cores()))
    for name, wanted in DEFAULTS.items():
        value = os.environ.get(name, "not set")
        late = name == "OMP_WAIT_POLICY" and value.upper() == "ACTIVE"
        fix = f"{name}={wanted}: threads that spin on a busy machine make steps several times slower"
        yield _check(name, value, "warning" if late else "ok", fix if late else None)
    available = _memory()
    if available is not None:
        small = available < 2**30
        hint = "the quickstart needs about 1 GiB" if small else None
        yield _check("memory available", f"{available / 2**30:.1f} GiB", "warning" if small else "ok", hint)


def _memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _devices() -> Iterator[Check]:
    try:
        import torch
    except ImportError as error:
        yield _check("devices", f"torch cannot be imported: {error}", "error", "pip install torch")
        return
    yield _check("torch threads", str(torch.get_num_threads()))
    if not torch.cuda.is_available():
        yield _check("devices", "cpu")
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield _check(f"cuda:{index}", f"{name}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")


def _base(ref: str) -> Check:
    from adapterstilts.data.tokenise import Tokenizer
    from adapterstilts.encoder.reference import locate

    found = locate(ref)
    if found.directory is None:
        return _check(f"base {ref}", f"on the Hub as {found.repository}, fetched when it is used")
    weights = sorted(found.directory.glob("*.safetensors"))
    if not weights:
        return _check(f"base {ref}", "no safetensors weights", "error", "save_pretrained(DIR)")
    tensors = sum(_tensors(path) for path in weights)
    size = Tokenizer.from_directory(found.directory).size
    return _check(f"base {ref}", f"readable: {tensors} tensors, {size} subwords")


def _tensors(path: Path) -> int:
    """Tensors of a safetensors file by its header; the file must be as long as the header says."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        ends = max((entry["data_offsets"][1] for entry in entries), default=0)
        if path.stat().st_size != 8 + length + ends:
            raise ValueError("the file is truncated")
    except (OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise DataError("its weights cannot be read", where=str(path), why=str(error), fix="fetch it again") from None
    return len(entries)


def _store(store: Store) -> Check:
    if not store.root.is_dir():
        return _check("store", f"{store.root}: made by the first run")
    count = sum(1 for _ in store.hashes())
    damage = store.verify()
    if damage:
        first = f"{damage[0].hash[:12]} {damage[0].file}: {damage[0].why}"
        return _check("store", f"{len(damage)} damaged files, first {first}", "error", "adapterstilts store verify")
    return _check("store", f"{store.root}: {count} artifacts, all as written")
