"""The host ``qemu``: an emulated CPU, by QEMU's user mode, without Docker or root.

For this machine's own architecture it runs this Python on another CPU model; for another one, a Python from a sysroot
with wheels beside it.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import resource
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backends import environments, sysroots
from backends.device.errors import UserError, did_you_mean
from backends.device.runtimes import engine
from backends.hosts import local
from backends.sysroots import Sysroot
from backends.words import check_qemu_cpu

if TYPE_CHECKING:
    from backends.hosts import Target, Tell

EMULATORS = {"x86_64": "qemu-x86_64", "aarch64": "qemu-aarch64", "armv7l": "qemu-arm"}
LEAST_VERSION = (10, 0)  # of those tried: under 7.2 onnxruntime from 1.30 on dies with SIGSEGV at import
INSTALL = "apt-get install qemu-user mmdebstrap debian-archive-keyring"
WHERE = "10 is in Debian 13 and Ubuntu 25.10, package qemu-user"
HELP = ["-cpu", "help"]
NO_WHEELS = ("numpy", "pillow")  # for `sysroots.WITH_NUMPY`

fetch = local.fetch
is_lost = local.is_lost
cores = local.cores


class Emulator(NamedTuple):
    """An installed QEMU: its version and its CPU models."""

    version: str
    cpus: frozenset[str]


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the device side under QEMU; a crash leaves no core file."""
    command = [_name(target), "-cpu", _cpu(target)]
    variables = {"PYTHONNOUSERSITE": "1"}
    if _is_native(target):
        python, path = local.interpreter(_requirements(target))
    else:
        sysroot = _sysroot(target)
        root = sysroot.folder
        site = environments.site(_requirements(target), target.arch, sysroot.system)
        command += ["-L", str(root)]
        if libraries := sysroot.libraries:  # by -E, not in our own environment, which QEMU itself would follow
            command += ["-E", f"LD_LIBRARY_PATH={os.pathsep.join(map(str, libraries))}"]
        python = str(sysroot.python)
        path = [str(site), str(root / sysroots.PACKAGES_FOLDER), str(local.ROOT)]
        variables |= {"PYTHONHOME": str(root / "usr"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        _emulator(target)
    except UserError as error:
        if Path(python).is_file():
            raise
        raise UserError(f"{error}; {local.not_prepared(target, python)}") from error
    process = local.launch(target, [*command, python], path, bundle, out, variables)
    resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    return process


def prepare(target: Target, tell: Tell) -> None:
    """Install the sysroot and the wheels, or the environment, that it runs in."""
    reason = availability(target)
    if reason:
        raise UserError(f"{target.name}: {reason}")
    if _is_native(target):
        local.prepare(target, tell)
    else:
        sysroot = _sysroot(target)
        sysroots.make_sysroot(sysroot, tell)
        complete = target.arch not in sysroots.WITH_NUMPY
        environments.make_site(_requirements(target), target.arch, tell, complete, sysroot.system)


def is_emulated(target: Target) -> bool:
    """Return True."""
    return True


def identity(target: Target) -> dict[str, object]:
    """Return the target's settings, the emulator, and the packages under it; nothing of this machine."""
    own: dict[str, object] = {"emulator": None}
    with suppress(UserError):  # then it cannot run; see availability
        own = {"emulator": f"{_name(target)} {_emulator(target).version}"}
        requirements = _requirements(target)
        if _is_native(target):
            own |= {"python": platform.python_version()}
            own |= environments.versions(engine(target.runtime).package, requirements)
        else:
            own |= {"sysroot": _sysroot(target).facts, "version": f"of Debian, {_sysroot(target).debian}"}
            if requirements:
                own |= environments.versions(engine(target.runtime).package, requirements)
    return own | {
        **target.settings,
        "arch": target.arch,
        "cpu": _cpu(target),
    }


def availability(target: Target) -> str | None:
    """Return None where the target can run; else why not, with the command that fixes it."""
    found = _emulator(target)
    cpu = _cpu(target).partition(",")[0]
    if cpu not in found.cpus:
        hint = did_you_mean(cpu, sorted(found.cpus))
        return f"{_name(target)} has no CPU {cpu!r}; {hint} ({_name(target)} -cpu help lists them)"
    if _is_native(target) and target.debian:
        return f"debian = {target.debian!r} is for another architecture than this machine's, {target.arch}"
    if not _is_native(target) and not _sysroot(target).folder.is_dir() and not shutil.which("mmdebstrap"):
        return f"mmdebstrap, which unpacks the sysroot for {target.arch}, is not installed: {INSTALL}"
    _requirements(target)
    return None


def _emulator(target: Target) -> Emulator:
    """Find the emulator for a target; a missing or outdated one is a `UserError`."""
    path = shutil.which(_name(target))
    if path is None:
        raise UserError(f"{_name(target)} is not installed: {INSTALL} ({WHERE})")
    found = _ask(path)
    if found.version and tuple(map(int, found.version.split(".")[:2])) >= LEAST_VERSION:
        return found
    least = ".".join(map(str, LEAST_VERSION))
    raise UserError(
        f"{path} is version {found.version or 'unknown'}, too old: under 7.2 onnxruntime dies with SIGSEGV; expected "
        f"{least} or newer ({WHERE}) first in the PATH"
    )


@functools.cache
def _ask(path: str) -> Emulator:
    said = [subprocess.run([path, *words], capture_output=True, text=True).stdout for words in (["--version"], HELP)]
    version = re.search(r"version (\d+(\.\d+)+)", said[0])
    listed = said[1].partition("Available CPUs:\n")[2].partition("\n\n")[0]
    return Emulator(version[1] if version else "", frozenset(line.split()[0] for line in listed.splitlines()))


def _name(target: Target) -> str:
    """Return the emulator's program."""
    if target.arch not in EMULATORS:
        raise UserError(f"{target.name}: arch = {target.arch!r}: expected one of {', '.join(EMULATORS)}")
    return EMULATORS[target.arch]


def _cpu(target: Target) -> str:
    return check_qemu_cpu(target.cpu or "max")


def _is_native(target: Target) -> bool:
    return target.arch == platform.machine()


def _sysroot(target: Target) -> Sysroot:
    return Sysroot.of(target.arch, target.debian, engine(target.runtime).package)


def _requirements(target: Target) -> tuple[str, ...]:
    """Return the requirements of its environment or wheels; none where this Python will do."""
    package = engine(target.runtime).package
    if _is_native(target):
        return environments.needed(package, target.version)
    sysroot = _sysroot(target)
    if sysroot.runtime:
        if target.version:
            raise UserError(
                f"version = {target.version!r}: {sysroot.debian} has its own {package} for {target.arch}; leave it out"
            )
        return ()
    found = environments.pinned(package, target.version, elsewhere=sysroot.system)
    return tuple(one for one in found if target.arch not in sysroots.WITH_NUMPY or not one.startswith(NO_WHEELS))
