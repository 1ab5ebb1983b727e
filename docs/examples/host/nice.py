"""The machine itself, at the lowest priority: replays leave its cores to everything else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from backends.hosts import Target, local
from backends.hosts.local import cores, fetch, is_emulated, is_lost, prepare

__all__ = ["availability", "cores", "fetch", "identity", "is_emulated", "is_lost", "prepare", "start"]

LOWEST = 19


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the device side as the local host does, then lower its priority."""
    process = local.start(target, bundle, out)
    os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST)
    return process


def identity(target: Target) -> dict[str, object]:
    """Return everything that decides the results: as on the local host, since priority changes none of them."""
    return local.identity(target)


def availability(target: Target) -> str | None:
    """Return None where the target can run, else why not and the command that mends it."""
    if not hasattr(os, "setpriority"):
        return 'this system has no priorities; choose host = "local"'
    return local.availability(target)
