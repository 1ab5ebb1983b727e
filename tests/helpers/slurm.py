"""A real SLURM of one node, this machine: its own munged, slurmctld and slurmd, on free ports, in a folder."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from helpers.required import absent
from helpers.s3 import free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SECONDS = 120  # for what takes two
CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=16000
PartitionName=short Nodes={host} Default=YES MaxTime=10
"""


@contextmanager
def cluster(folder: Path, cores: int) -> Iterator[dict[str, str]]:
    """A SLURM with so many cores; gives the environment in which its commands find it."""
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        absent("slurm", f"expected {', '.join(missing)}: sudo apt-get install slurm-wlm munge")
    if os.geteuid():
        absent("slurm", "its daemons start jobs as root alone")
    host = socket.gethostname().partition(".")[0]
    controller, node = free_ports(2)
    config = folder / "slurm.conf"
    config.write_text(CONFIG.format(host=host, controller=controller, node=node, folder=folder, cores=cores))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    named = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munge.pid",
             "log-file": folder / "munge.log", "seed-file": folder / "munge.seed"}  # fmt: skip
    environment = {"SLURM_CONF": str(config)}
    with ExitStack() as stack:
        for command in (
            ["munged", "--foreground", "--force", *(f"--{name}={value}" for name, value in named.items())],
            ["slurmctld", "-D", "-f", config],
            ["slurmd", "-D", "-f", config],
        ):
            stack.enter_context(_daemon(command, folder))
        _wait_for_an_idle_node(environment, folder)
        yield environment
        subprocess.run(["scancel", "--user", "root"], env=os.environ | environment, timeout=SECONDS)


@contextmanager
def _daemon(command: list[object], folder: Path) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=SECONDS)


def _wait_for_an_idle_node(environment: dict[str, str], folder: Path) -> None:
    end = time.monotonic() + SECONDS
    asked = ["sinfo", "--noheader", "--format=%T"]
    while time.monotonic() < end:
        if subprocess.run(asked, env=os.environ | environment, capture_output=True, text=True).stdout.strip() == "idle":
            return
        time.sleep(0.2)
    raise AssertionError("\n".join(file.read_text() for file in folder.glob("*.out")))
