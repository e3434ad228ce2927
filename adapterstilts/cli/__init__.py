"""The command line: a file for each family of verbs. stdout is the result, stderr everything else."""

from __future__ import annotations


def main() -> None:
    """The entry point ``adapterstilts``."""
    from adapterstilts.api.environment import prepare

    prepare()  # before anything can import torch

    from adapterstilts.cli.root import root

    root()
