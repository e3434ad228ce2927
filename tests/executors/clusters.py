"""A Slurm and a Ray cluster on this machine, for tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={port}
SlurmdPort={other}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def slurm(folder: Path) -> Iterator[Path]:
    """munged, slurmctld and slurmd of this machine alone; gives the configuration that SLURM_CONF must name."""
    missing = [name for name in DAEMONS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} (Debian: slurmctld slurmd slurm-client munge)")
    if os.geteuid() != 0:
        pytest.skip("slurmd and munged of a test need root")
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o700, parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    text = CONFIGURATION.format(host=host, folder=folder, port=free_port(), other=free_port())
    configuration.write_text(text)
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    munge = [f"--{name}={folder}/munge/{name}" for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")]
    munge[0] = f"--key-file={key}"
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for command in (["munged", "--force", "--foreground", *munge], ["slurmctld", "-D"], ["slurmd", "-D"]):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            daemons.append(subprocess.Popen(command, env=environment, **quiet))  # type: ignore[call-overload]
            time.sleep(0.5)
        wait_until(lambda: b"idle" in subprocess.run(["sinfo"], env=environment, capture_output=True).stdout, 30)
        yield configuration
    finally:
        subprocess.run(["scancel", "--user", "root"], env=environment, capture_output=True, check=False)
        time.sleep(0.5)
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


class RayNode:
    """One node of a Ray cluster on loopback, in a process group of its own."""

    def __init__(self, head: str = "", cores: int = 1) -> None:
        self.address = head or f"127.0.0.1:{free_port()}"
        # The paths of Ray's sockets must be short: no folder of pytest.
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
        port = self.address.rpartition(":")[2]
        first = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self.folder}"]
        ray = str(Path(sys.executable).parent / "ray")
        command = [ray, "start", *(["--address", head] if head else first), "--block", "--node-ip-address=127.0.0.1"]
        command += [f"--num-cpus={cores}", "--object-store-memory=80000000", "--disable-usage-stats"]
        self.log = (self.folder / "said").open("wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, start_new_session=True)

    def answers(self) -> bool:
        """Whether the head listens."""
        with socket.socket() as one:
            host, _, port = self.address.rpartition(":")
            return one.connect_ex((host, int(port))) == 0

    def runs(self, processes: Path) -> bool:
        """Whether one of the processes whose numbers the file has is a living worker of this node."""
        listed = {int(line) for line in processes.read_text().split()} if processes.exists() else set()
        own = {process.pid for process in psutil.Process(self.process.pid).children(recursive=True)}
        return bool(listed & own)

    def kill(self) -> None:
        """As if the machine lost its power."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_until(true, seconds: float = 60) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
