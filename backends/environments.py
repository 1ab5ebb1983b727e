"""Environments: a runtime's packages beside this program's own, made once and kept in the user's cache.

An environment is a virtual one of this very Python; a site is a folder of wheels for another architecture. Either lies
under the hash of what it is made of, so it is never changed, and may be deleted at any time. Where pip finds its
packages is pip's own business: its configuration and the ``PIP_*`` variables hold as everywhere.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from backends.device.errors import UserError

if TYPE_CHECKING:
    from backends.hosts import Tell

QUIET = ("--progress-bar=off", "--disable-pip-version-check")
TAIL_LINES = 15
GLIBC_MINORS = range(36, 16, -1)  # of manylinux wheels that Debian 12's sysroots run


def needed(package: str, wanted: str = "") -> tuple[str, ...]:
    """The requirements of the environment that a runtime's package needs; none where this Python has it as wanted.

    A package that this project does not pin is for its user to install: a `UserError` says so.
    """
    found = installed(package)
    return () if found and wanted in ("", found) else pinned(package, wanted)


def installed(package: str) -> str | None:
    """The version of a package in this Python; None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions(package: str, requirements: Sequence[str]) -> dict[str, str | None]:
    """``version`` of a runtime's package and ``numpy``'s: as required, else those here; None for one unknown."""
    if not requirements:
        return {"version": installed(package), "numpy": installed("numpy")}
    pins = dict(one.split("==") for one in requirements if "==" in one)
    return {"version": pins.get(package), "numpy": pins.get("numpy")}


def pinned(package: str, wanted: str = "") -> tuple[str, ...]:
    """Requirements for a runtime's package, as this project's metadata pins them; or in the version wanted.

    With them come numpy, and Pillow for the defence that needs it. A package of an extra comes with all of that extra.
    """
    groups: dict[str, dict[str, str]] = {}
    for line in requires("patchbench") or ():
        requirement, _, marker = line.partition(";")
        name, extra = re.split(r"[^\w.-]", requirement)[0], re.search(r"extra\s*==\s*[\"']([^\"']+)", marker)
        groups.setdefault(extra[1] if extra else "", {})[name] = "".join(requirement.removeprefix(name).split())
    for extra_name, group in groups.items():
        if package in group and extra_name != "dev":
            chosen = group if extra_name else {package: group[package]}
            pins = (
                {name: groups[""][name] for name in ("numpy", "pillow")}
                | chosen
                | ({package: f"=={wanted}"} if wanted else {})
            )
            return tuple(sorted(name + pin for name, pin in pins.items()))
    if wanted:
        raise UserError(f"{package} {wanted} is asked for, found {installed(package)}: pip install {package}=={wanted}")
    raise UserError(f"{package} is not installed: pip install {package}")


def python(requirements: Sequence[str]) -> Path:
    """The interpreter of an environment, made or not."""
    return _environment(requirements) / "bin" / "python"


def packages(requirements: Sequence[str]) -> Path:
    """The folder of an environment's packages."""
    major, minor, _ = platform.python_version_tuple()
    return _environment(requirements) / "lib" / f"python{major}.{minor}" / "site-packages"


def make_environment(requirements: Sequence[str], tell: Tell) -> None:
    """Makes an environment, unless it is there. Its scripts do not work, its interpreter and ``-m`` do."""

    def make(folder: Path) -> None:
        run([sys.executable, "-I", "-m", "venv", str(folder)], folder.name, tell)
        run(
            [str(folder / "bin" / "python"), "-I", "-m", "pip", "install", *QUIET, *requirements],
            _label(requirements),
            tell,
        )

    make_once(_environment(requirements), make, tell)


def site(requirements: Sequence[str], arch: str) -> Path:
    """The folder of wheels for an architecture, made or not; goes into a ``PYTHONPATH``."""
    return cached("sites", _label(requirements), arch, platform.python_version_tuple()[:2], requirements)


def make_site(requirements: Sequence[str], arch: str, tell: Tell, dependencies: bool = True) -> None:
    """Puts wheels of an architecture, of this Python's version, into a folder, unless they are there."""
    tags = [f"manylinux_2_{minor}_{arch}" for minor in GLIBC_MINORS] + [f"manylinux2014_{arch}", f"linux_{arch}"]
    which = [word for tag in tags for word in ("--platform", tag)] + ["--only-binary=:all:", "--implementation", "cp"]
    which += [
        "--python-version",
        ".".join(platform.python_version_tuple()[:2]),
        *([] if dependencies else ["--no-deps"]),
    ]

    def make(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        if not requirements:  # a runtime of ours, on a system that has numpy of its own
            return
        pip = [sys.executable, "-I", "-m", "pip", "install", *QUIET, "--target", str(folder), *which, *requirements]
        run(pip, f"{_label(requirements)} for {arch}", tell)

    make_once(site(requirements, arch), make, tell)


def cached(kind: str, label: str, *facts: object) -> Path:
    """Where something made of these facts lies: ``CACHE/KIND/LABEL-HASH``."""
    root = os.environ.get("PATCHBENCH_CACHE") or "~/.cache/patchbench"
    digest = hashlib.sha256(json.dumps([kind, label, facts]).encode()).hexdigest()[:16]
    return Path(root).expanduser().absolute() / kind / f"{label}-{digest}"


def make_once(folder: Path, make: Callable[[Path], None], tell: Tell) -> None:
    """Makes a folder beside its place and renames it there, unless it is there; one at a time, others wait for it.

    What a killed one left goes. `make` gets the folder to fill, which does not exist.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")  # an orphan of a killed one may still write into its own
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            tell(f"{folder.name}: waiting for another run that makes it")
            lock.acquire()
        try:
            if not folder.exists():
                for left in folder.parent.glob(f".{folder.name}.*"):
                    shutil.rmtree(left, ignore_errors=True)
                make(beside)
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            lock.release()
    except OSError as error:
        raise UserError(f"{folder}: cannot be made ({error}); PATCHBENCH_CACHE names another place") from error


def run(command: Sequence[str], what: str, tell: Tell) -> None:
    """Runs a command that says on its output how it goes; a failure is a `UserError` with its last lines."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in filter(None, map(str.strip, process.stdout)):
                tail.append(line)
                tell(f"{what}: {line}")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise UserError("\n".join([f"{what}: {' '.join(command[:5])} ... failed", *tail]))


def _environment(requirements: Sequence[str]) -> Path:
    return cached("environments", _label(requirements), platform.machine(), sys.version, sys.base_prefix, requirements)


def _label(requirements: Sequence[str]) -> str:
    """A word for people: what is asked for beside numpy."""
    return "-".join(one.replace("==", "-") for one in requirements if not one.startswith(("numpy", "pillow")))
