"""Several processes take the step that one takes on the whole batch, whatever the batch; one that fails ends all."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapterstilts.errors import StageFailed
from adapterstilts.stages.ranks import together
from tests.modules.conftest import tiny_directory  # noqa: F401
from tests.training import shared_update

ENTRY = "tests.training.shared_update"
# Float32 added in another order. Measured: 5e-7 and 5e-8 of the norm of the whole gradient and of the trained weights.
FAR = 1e-6


def test_two_processes_take_the_step_of_one(tiny_directory: Path, tmp_path: Path) -> None:  # noqa: F811
    places = [tmp_path / name for name in ("one", "two", "work1", "work2")]
    for place in places:
        place.mkdir()
    told: list[float] = []
    alone = shared_update.run(str(tiny_directory), {}, places[0], places[2], lambda fraction, text: None)
    both = together(
        f"{ENTRY}:run", 2, str(tiny_directory), {}, places[1], places[3], lambda fraction, text: told.append(fraction)
    )
    assert both["processes"] == 2 and both["rank"] == 0 and alone["processes"] == 1
    assert told == sorted(told) and len(told) == 12  # of the first process alone
    for key, loss in alone["losses"].items():
        assert both["losses"][key] == pytest.approx(loss, rel=1e-6), key
    one, two = load_file(places[0] / "tensors"), load_file(places[1] / "tensors")
    assert one.keys() == two.keys()
    for update in {name.rpartition("/")[0] for name in one if not name.startswith("fit/")} | {"fit"}:
        names = [name for name in one if name.startswith(f"{update}/")]
        whole, shared = (torch.cat([tensors[name].flatten() for name in names]) for tensors in (one, two))
        assert float((whole - shared).norm() / whole.norm()) < FAR, update
    assert any(not torch.equal(one[name], two[name]) for name in one)  # they did share the work


@pytest.mark.slow
def test_a_process_that_fails_ends_all_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(StageFailed, match="ZeroDivisionError: one by none"):
        together(f"{ENTRY}:fail_in_one", 2, "", {}, tmp_path / "out", tmp_path, lambda fraction, text: None)
    assert time.monotonic() - began < 50
