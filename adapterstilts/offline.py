"""No connection to anywhere, when told so."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

from adapterstilts.errors import DataError

OFFLINE = "ADAPTERSTILTS_OFFLINE"  # set for this process and inherited by its workers
_LOOPBACK = ("127.", "::1", "localhost")


@cache
def go_offline() -> None:
    """Refuse every connection of this process from now on, but those to this machine.

    An audit hook sees what any Python library opens, and cannot be taken back. The Hub's clients are told as well, so
    that they say what is missing instead of trying.
    """
    for name in (OFFLINE, "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ[name] = "1"
    sys.addaudithook(_refuse)


def stay_offline() -> None:
    """In a worker: what the run that started it was told."""
    if os.environ.get(OFFLINE, "") not in ("", "0"):
        go_offline()


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        host = str(address[0]) if isinstance(address, tuple) else ""  # a path: a socket of this machine
    elif event == "socket.getaddrinfo":
        host = str(arguments[0] or "")
    else:
        return
    if host and not host.startswith(_LOOPBACK):
        raise DataError(f"a connection to `{host}` is refused", why="--offline", fix="run without --offline")
