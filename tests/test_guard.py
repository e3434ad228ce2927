"""Offline means no connection, in workers too; no token is said or written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapterstilts.errors import DataError
from adapterstilts.redact import redacted

TOKEN = "hf_" + "aB3" * 12
CONNECT = "import socket; socket.create_connection(({host!r}, 9), timeout=2)"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "example.invalid", "2001:db8::1"])
def test_offline_refuses_every_other_machine(host: str) -> None:
    done = run("from adapterstilts.offline import go_offline; go_offline(); " + CONNECT.format(host=host))
    assert f"a connection to `{host}` is refused" in done.stderr


def test_offline_allows_this_machine() -> None:
    done = run("from adapterstilts.offline import go_offline; go_offline(); " + CONNECT.format(host="127.0.0.1"))
    assert "ConnectionRefusedError" in done.stderr  # by the machine, as nothing listens


def test_workers_stay_offline() -> None:
    code = "from adapterstilts.offline import stay_offline; stay_offline(); " + CONNECT.format(host="192.0.2.1")
    assert "is refused" in run(code, ADAPTERSTILTS_OFFLINE="1").stderr


def test_the_option_reaches_the_hub_clients(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adapterstilts", "--offline", "train", "mnli", "--base", "nobody/nothing"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 3 and "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_redaction() -> None:
    secrets = {"WANDB_API_KEY": "0123456789abcdef", "AWS_SECRET_ACCESS_KEY": "s3cr3t/s3cr3t", "HOME": "/home/me"}
    said = redacted(f"{TOKEN} s3cr3t/s3cr3t 0123456789abcdef /home/me https://me:pw1@host/x", secrets)
    assert said == "*** *** *** /home/me https://***@host/x"
    assert redacted("nothing to hide: hf_model a:b@c", {}) == "nothing to hide: hf_model a:b@c"


def test_an_error_holds_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "some-token-of-mine")
    error = DataError("GET with some-token-of-mine", where=TOKEN, why=f"Bearer {TOKEN}", fix="some-token-of-mine")
    assert "some-token" not in repr(error.__reduce__()) and TOKEN not in str(error) and "some-token" not in str(error)
