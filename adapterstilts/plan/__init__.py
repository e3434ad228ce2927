"""Recipe -> stages -> hashes -> hit | stale | missing. Torch-free; a thousand stages in less than a second."""

from adapterstilts.plan.build import make_plan
from adapterstilts.plan.graph import Cell, Plan, Stage, State, make_stage
from adapterstilts.plan.runs import Links, load_plan, load_stage, record, runs_of, states

__all__ = [
    "Cell",
    "Links",
    "Plan",
    "Stage",
    "State",
    "load_plan",
    "load_stage",
    "make_plan",
    "make_stage",
    "record",
    "runs_of",
    "states",
]
