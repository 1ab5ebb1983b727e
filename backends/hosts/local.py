"""The host that is this machine: the device side in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backends
from backends import environments
from backends.device.errors import UserError
from backends.device.machine import describe
from backends.device.runtimes import engine

if TYPE_CHECKING:
    from backends.hosts import Target, Tell

ROOT = Path(backends.__file__).resolve().parents[1]


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Starts the device side; in an environment it sees the packages of that environment alone."""
    python, path = interpreter(_requirements(target))
    return launch(target, [python], path, bundle, out)


def interpreter(requirements: Sequence[str]) -> tuple[str, list[str]]:
    """The Python that has what is required (this one, if that is nothing), and where it seeks modules."""
    if not requirements:
        return sys.executable, [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # before our own folder, which may be that of all our packages
    return str(environments.python(requirements)), [str(environments.packages(requirements)), str(ROOT)]


def launch(
    target: Target,
    python: Sequence[str],
    path: Sequence[str],
    bundle: Path,
    out: Path,
    more: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Starts the device side with a Python, where modules are sought, and more variables of the environment."""
    if not Path(python[-1]).is_file():
        raise UserError(not_prepared(target, python[-1]))
    count = str(cores(target))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), count)
    environment = {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1", "PYTHONFAULTHANDLER": "1"} | threads
    return subprocess.Popen(
        [*python, "-m", "backends.device.replay", str(bundle), str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment | (more or {}),
        start_new_session=True,
    )


def not_prepared(target: Target, python: str) -> str:
    """What to tell a user whose target lacks its Python."""
    return f"{target.name}: {python} is not there; the target was not prepared"


def prepare(target: Target, tell: Tell) -> None:
    """Makes the environment that it runs in, where this Python has not the runtime as asked."""
    if requirements := _requirements(target):
        environments.make_environment(requirements, tell)


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
    machine, package = describe(), engine(target.runtime).package
    requirements: tuple[str, ...] = ()
    with suppress(UserError):  # it cannot run; see availability
        requirements = _requirements(target)
    return environments.versions(package, requirements) | {
        "runtime": target.runtime,
        "options": dict(target.options),
        "threads": target.threads,
        "batch": target.batch,
        "host": target.host,
        "arch": machine.arch,
        "cpu": machine.cpu,
        "features": hashlib.sha256(" ".join(machine.features).encode()).hexdigest()[:16],
        "python": machine.python,
    }


def availability(target: Target) -> str | None:
    """None where the target can run; else why not, and the one command that mends it."""
    machine = describe()
    if target.arch not in ("", machine.arch) or target.cpu not in ("", machine.cpu):
        wanted = " ".join(filter(None, [target.arch, target.cpu]))
        return f"asks for {wanted}, this machine is {machine.arch} {machine.cpu}; choose another host"
    _requirements(target)
    return None


def _requirements(target: Target) -> tuple[str, ...]:
    """Of the environment that it runs in; none where that is this Python."""
    return environments.needed(engine(target.runtime).package, target.version)
