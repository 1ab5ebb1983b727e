"""Sysroots: the part of a Debian system that an emulated Python needs, for another architecture, never booted.

mmdebstrap unpacks the packages, for any architecture, without emulation or root.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from backends.device.errors import UserError
from backends.environments import PYTHON_ELSEWHERE, cached, make_once, run

if TYPE_CHECKING:
    from backends.hosts import Tell

SUITE = "bookworm"  # Debian 12
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}  # uname's name: Debian's name
PACKAGES = ("python3", "libstdc++6", "libgomp1")
WITH_NUMPY = ("armv7l",)  # numpy has no wheels for it
PACKAGES_FOLDER = "usr/lib/python3/dist-packages"
FOLDERS = ("lib", "lib64", "usr/bin", "usr/lib")
MIRROR = "http://deb.debian.org/debian"
UNPRIVILEGED = (
    "a user other than root needs a range of ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME"
)
PYTHON = f"usr/bin/python{PYTHON_ELSEWHERE}"


def sysroot(arch: str) -> Path:
    """Return the folder of a sysroot, whether unpacked yet or not; its Python is `PYTHON` in it."""
    return cached("sysroots", f"{SUITE}-{ARCHITECTURES[arch]}", facts(arch), FOLDERS)


def facts(arch: str) -> list[str]:
    """Return what a sysroot is made of: Debian's release, architecture and packages."""
    numpy = ["python3-numpy"] if arch in WITH_NUMPY else []
    return [SUITE, ARCHITECTURES[arch], *PACKAGES, *numpy]


def libraries(arch: str) -> list[Path]:
    """Return where Debian's numpy finds its libraries; the links to them exist only in a configured system."""
    root = sysroot(arch) / "usr/lib/arm-linux-gnueabihf"
    return [root / "blas", root / "lapack"] if arch in WITH_NUMPY else []


def make_sysroot(arch: str, tell: Tell) -> None:
    """Unpack the sysroot of an architecture, unless it exists: about 20 s and 80 MB."""

    def make(folder: Path) -> None:
        what = f"{SUITE} for {arch}"
        tar = folder / "root.tar"
        folder.mkdir()
        suite, architecture, *packages = facts(arch)
        command = ["mmdebstrap", "--variant=extract", "--format=tar", f"--architectures={architecture}"]
        sources = f"deb {_mirror()} {suite} main"
        try:
            run([*command, f"--include={','.join(packages)}", suite, str(tar), sources], what, tell)
        except UserError as error:
            raise UserError(f"{error}\n{UNPRIVILEGED}" if os.geteuid() else str(error)) from error
        # unpacked here, so that the user owns every file, however mmdebstrap became root
        with tarfile.open(tar) as archive:
            archive.extractall(folder, [member for member in archive if _is_wanted(member)])
        tar.unlink()
        if not (folder / PYTHON).is_file():
            raise UserError(f"{what}: mmdebstrap unpacked no {PYTHON}")
        # by this Python, which writes the same bytecode: an emulated one takes a minute
        run([sys.executable, "-I", "-m", "compileall", "-qq", str(folder / "usr/lib/python3.11")], what, tell)

    make_once(sysroot(arch), make, tell)


def _is_wanted(member: tarfile.TarInfo) -> bool:
    """Select programs and libraries; leave out documents, devices and absolute links."""
    member.mode &= 0o755
    is_kind = member.isfile() or member.isdir() or (member.issym() and not member.linkname.startswith("/"))
    return is_kind and any(f"{member.name}/".startswith(f"./{folder}/") for folder in FOLDERS)


def _mirror() -> str:
    """Return the mirror that this machine's apt uses, if it is a Debian; else Debian's."""
    with suppress(OSError):
        release = platform.freedesktop_os_release()
        if release.get("ID") == "debian":
            command = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
            said = subprocess.run(command, capture_output=True, text=True).stdout
            for line in said.splitlines():
                site, suite, component = line.split()
                if suite == release.get("VERSION_CODENAME") and component == "main":
                    return site
    return MIRROR
