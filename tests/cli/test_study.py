"""Studies as they are asked for on the command line, planned and not run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapterstilts.api.studying import plan_study, plan_transfer
from adapterstilts.cli.root import root
from adapterstilts.errors import RecipeError


def counted(command: str, store: Path) -> int:
    words = [*shlex.split(command)[1:], "--dry-run", "--format", "json", "--store", str(store)]
    told = CliRunner().invoke(root, words)
    assert told.exit_code == 0, told.output
    found: int = json.loads(told.stdout)["stages"]
    return found


def test_each_intermediate_is_trained_once_and_every_target_goes_on_from_it(tmp_path: Path) -> None:
    asked = {"seeds": 2, "bases": ["lab/s1"], "sets": ["train.epochs=1"], "store": tmp_path}
    planned = plan_transfer(["lab-siqa", "lab-nli"], ["lab-copa", "lab-tatoeba"], **asked)
    trained = [stage for stage in planned.plan.stages if stage.kind == "train"]
    assert len(trained) == 2 * (2 + 3)  # seeds x (intermediates, and the target without and with each)
    assert {cell.task for cell in planned.plan.cells} == {"lab-copa", "lab-tatoeba"}
    assert {cell.base for cell in planned.plan.cells} == {"lab/s1"}
    assert counted(planned.command, tmp_path) == len(planned.plan.stages)


def test_the_command_that_a_page_names_makes_that_page(tmp_path: Path) -> None:
    planned = plan_study("scale", seeds=1, sets=["train.epochs=1"], store=tmp_path)
    assert counted(planned.command, tmp_path) == len(planned.plan.stages)


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="lab-zz"):
        plan_transfer(["lab-zz"], [], store=tmp_path)
