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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backends.device.errors import UserError, did_you_mean
from backends.environments import ELSEWHERE, System, cached, make_once, run

if TYPE_CHECKING:
    from backends.hosts import Tell

DEBIAN = "bookworm"
RELEASES = {  # Debian 11 to 14
    "bullseye": System("3.9", 31),
    DEBIAN: ELSEWHERE,
    "trixie": System("3.13", 41),
    "forky": System("3.14", 43),
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}  # uname's name: Debian's name
PACKAGES = ("python3", "libstdc++6", "libgomp1")
WITH_NUMPY = ("armv7l",)  # numpy has no wheels for it
# runtimes without wheels for it that a release of Debian has
WITH_RUNTIMES = {("trixie", "armv7l"): {"onnxruntime": "python3-onnxruntime", "onnx": "python3-onnx"}}
PACKAGES_FOLDER = "usr/lib/python3/dist-packages"
FOLDERS = ("lib", "lib64", "usr/bin", "usr/lib")
MIRROR = "http://deb.debian.org/debian"
UNPRIVILEGED = (
    "a user other than root needs a range of ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME"
)


@dataclass(frozen=True)
class Sysroot:
    """A sysroot: an architecture, a release of Debian, and of its packages one more where pip has no wheel for it."""

    arch: str
    debian: str = DEBIAN
    runtime: str = ""  # Debian's package

    @classmethod
    def of(cls, arch: str, debian: str = "", package: str = "") -> Sysroot:
        """Return the sysroot for a runtime's package, by its pip name; an unknown release is a `UserError`."""
        debian = debian or DEBIAN
        if debian not in RELEASES:
            raise UserError(f"debian = {debian!r}: {did_you_mean(debian, RELEASES)}")
        return cls(arch, debian, WITH_RUNTIMES.get((debian, arch), {}).get(package, ""))

    @property
    def system(self) -> System:
        """Its Python and C library."""
        return RELEASES[self.debian]

    @property
    def facts(self) -> list[str]:
        """What it is made of: Debian's release, architecture and packages."""
        more = ["python3-numpy"] if self.arch in WITH_NUMPY else []
        return [self.debian, ARCHITECTURES[self.arch], *PACKAGES, *more, *filter(None, [self.runtime])]

    @property
    def folder(self) -> Path:
        """Where it lies, whether unpacked yet or not."""
        return cached("sysroots", f"{self.debian}-{ARCHITECTURES[self.arch]}", self.facts, FOLDERS)

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.folder / f"usr/bin/python{self.system.python}"

    @property
    def libraries(self) -> list[Path]:
        """Where Debian's numpy finds its libraries; the links to them exist only in a configured system."""
        root = self.folder / "usr/lib/arm-linux-gnueabihf"
        return [root / "blas", root / "lapack"] if self.arch in WITH_NUMPY else []


def make_sysroot(sysroot: Sysroot, tell: Tell) -> None:
    """Unpack a sysroot, unless it exists: about 20 s and 80 MB."""

    def make(folder: Path) -> None:
        what = f"{sysroot.debian} for {sysroot.arch}"
        tar = folder / "root.tar"
        folder.mkdir()
        suite, architecture, *packages = sysroot.facts
        command = ["mmdebstrap", "--variant=extract", "--format=tar", f"--architectures={architecture}"]
        command.append("--aptopt=Acquire::Check-Valid-Until false")  # of testing a mirror may be days behind
        sources = f"deb {_mirror()} {suite} main"
        try:
            run([*command, f"--include={','.join(packages)}", suite, str(tar), sources], what, tell)
        except UserError as error:
            raise UserError(f"{error}\n{UNPRIVILEGED}" if os.geteuid() else str(error)) from error
        # unpacked here, so that the user owns every file, however mmdebstrap became root
        with tarfile.open(tar) as archive:
            archive.extractall(folder, [member for member in archive if _is_wanted(member)])
        tar.unlink()
        for name in ("lib", "lib64"):  # Debian 13's packages have nothing there: a configured system has these links
            if (folder / "usr" / name).is_dir() and not (folder / name).exists():
                (folder / name).symlink_to(f"usr/{name}")
        name = sysroot.python.name
        if not (folder / "usr/bin" / name).is_file():
            raise UserError(f"{what}: mmdebstrap unpacked no usr/bin/{name}")
        if name == f"python{sys.version_info[0]}.{sys.version_info[1]}":
            # by this Python, which writes the same bytecode: an emulated one takes a minute
            run([sys.executable, "-I", "-m", "compileall", "-qq", str(folder / "usr/lib" / name)], what, tell)

    make_once(sysroot.folder, make, tell)


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
