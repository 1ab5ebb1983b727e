"""The host ``local``: this machine, with the device side in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import backends
from backends import environments
from backends.device.errors import UserError
from backends.device.machine import describe, usable_cores
from backends.device.runtimes import engine

if TYPE_CHECKING:
    from backends.hosts import Target, Tell

ROOT = Path(backends.__file__).resolve().parents[1]


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the device side; in an environment it sees only the packages of that environment."""
    python, path = interpreter(_requirements(target))
    return launch(target, [python], path, bundle, out)


def interpreter(requirements: Sequence[str]) -> tuple[str, list[str]]:
    """Return the Python that has the requirements (this one if there are none), and its module path."""
    if not requirements:
        return sys.executable, [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # first: our own folder may be this Python's site-packages
    return str(environments.python(requirements)), [str(environments.packages(requirements)), str(ROOT)]


def launch(
    target: Target,
    python: Sequence[str],
    path: Sequence[str],
    bundle: Path,
    out: Path,
    more: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start the device side with a Python, a module path, and more environment variables."""
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
    """Return the error for a target whose Python is missing."""
    return f"{target.name}: {python} does not exist; the target was not prepared"


def prepare(target: Target, tell: Tell) -> None:
    """Install the environment, where this Python lacks the runtime in the version asked for."""
    if requirements := _requirements(target):
        environments.make_environment(requirements, tell)


def fetch(target: Target, out: Path, name: str, most: int) -> None:
    """Do nothing: the result is here."""


def is_lost(code: int | None) -> bool:
    """Return False: there is no connection that could break."""
    return False


def cores(target: Target) -> int:
    """Return as many as the target has threads."""
    return target.threads or usable_cores()


def is_emulated(target: Target) -> bool:
    """Return False: it is this machine's CPU."""
    return False


def identity(target: Target) -> dict[str, object]:
    """Return the target's settings, the runtime package's version, and this machine."""
    machine, package = describe(), engine(target.runtime).package
    requirements: tuple[str, ...] = ()
    with suppress(UserError):  # then it cannot run; see availability
        requirements = _requirements(target)
    return environments.versions(package, requirements) | {
        **target.settings,
        "arch": machine.arch,
        "cpu": machine.cpu,
        "features": hashlib.sha256(" ".join(machine.features).encode()).hexdigest()[:16],
        "python": machine.python,
    }


def availability(target: Target) -> str | None:
    """Return None where the target can run; else why not, with the command that fixes it."""
    machine = describe()
    if target.arch not in ("", machine.arch) or target.cpu not in ("", machine.cpu):
        wanted = " ".join(filter(None, [target.arch, target.cpu]))
        return f"asks for {wanted}, but this machine is {machine.arch} {machine.cpu}; choose another host"
    _requirements(target)
    return None


def _requirements(target: Target) -> tuple[str, ...]:
    """Return the requirements of its environment; none where this Python will do."""
    return environments.needed(engine(target.runtime).package, target.version)
