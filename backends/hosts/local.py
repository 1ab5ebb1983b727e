"""The host that is this machine: the device side in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backends
from backends.device.machine import describe
from backends.device.runtimes import engine

if TYPE_CHECKING:
    from backends.hosts import Target, Tell

ROOT = Path(backends.__file__).resolve().parents[1]


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Starts the device side with this Python; modules are found in this program's folder, then as everywhere."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    count = str(target.threads or len(os.sched_getaffinity(0)))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), count)
    environment = {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1", "PYTHONFAULTHANDLER": "1"} | threads
    return subprocess.Popen(
        [sys.executable, "-m", "backends.device.replay", str(bundle), str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
        start_new_session=True,
    )


def prepare(target: Target, tell: Tell) -> None:
    """Nothing: it runs in this Python."""


def fetch(target: Target, out: Path, name: str) -> None:
    """Nothing: it is here."""


def is_lost(code: int | None) -> bool:
    """Never: there is no way that could break."""
    return False


def cores(target: Target) -> int:
    """As many as it has threads."""
    return target.threads or len(os.sched_getaffinity(0))


def is_emulated(target: Target) -> bool:
    """It is this very CPU."""
    return False


def identity(target: Target) -> dict[str, Any]:
    """The target's own words, the runtime package's version, and this machine."""
    machine = describe()
    return {
        "runtime": target.runtime,
        "version": _version(target),
        "options": dict(target.options),
        "threads": target.threads,
        "batch": target.batch,
        "host": target.host,
        "arch": machine.arch,
        "cpu": machine.cpu,
        "features": hashlib.sha256(" ".join(machine.features).encode()).hexdigest()[:16],
        "python": machine.python,
        "numpy": machine.numpy,
    }


def availability(target: Target) -> str | None:
    """None where the target can run; else why not, and the one command that mends it."""
    machine = describe()
    if target.arch not in ("", machine.arch) or target.cpu not in ("", machine.cpu):
        wanted = " ".join(filter(None, [target.arch, target.cpu]))
        return f"asks for {wanted}, this machine is {machine.arch} {machine.cpu}; choose another host"
    if _version(target) is None:
        package = engine(target.runtime).package
        return f"{package} is not installed: pip install {package}"
    return None


def _version(target: Target) -> str | None:
    try:
        return version(engine(target.runtime).package)
    except PackageNotFoundError:
        return None
