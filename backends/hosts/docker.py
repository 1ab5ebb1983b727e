"""The host ``docker``: a container without network or privileges that can write only to the folder for results.

The image holds Python, numpy and a runtime. The device side is mounted from this program, over the one that our images
contain for use by hand: so every container runs this program's code, and an edit needs no new image.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import platform
import secrets
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from backends import container_images
from backends.container_images import NOT_INSTALLED, ROOT
from backends.device.errors import UserError
from backends.device.machine import describe
from backends.device.runtimes import engine
from backends.hosts import local
from backends.words import check_qemu_cpu

if TYPE_CHECKING:
    from backends.hosts import Target, Tell

CODE = ("backends/__init__.py", "backends/device")
MEMORY = "4g"
PROCESSES = 256
NOBODY = 65534  # the container's user where the caller is root
is_lost = local.is_lost
cores = local.cores
BINFMT = Path("/proc/sys/fs/binfmt_misc")

# Dies by the signal that the device side died by. The container still exists then, for docker inspect.
RUN = """
name=$1; shift
docker run --name "$name" "$@"; code=$?
if [ $code = 137 ] && [ "$(docker inspect --format '{{.State.OOMKilled}}' "$name")" = true ]; then
    echo "the container ran out of memory, its limit is $MEMORY" >&2
fi
if [ $code -gt 128 ]; then ulimit -c 0; kill -$((code - 128)) $$; fi
exit $code
"""
# Runs between this program and the container, in a session of its own. When this program closes its end, or dies, the
# container is removed; one that the engine is just then creating exists a moment later.
KEEPER = """
exec 3<&0
(cat <&3; exec >/dev/null; docker rm --force "$1" | grep -q . || { sleep 2; docker rm --force "$1"; }) &
"""


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the device side in a fresh container, which is removed when the process's standard input closes."""
    name = f"patchbench-{secrets.token_hex(8)}"
    image = container_images.inspect(_image(target))
    if image is None:
        raise UserError(f"{target.name}: the image {_image(target)} is missing; {_fix(target)}")
    for folder in (bundle, ROOT / "backends"):
        _check_readable(folder)
    mounts = [_mount(ROOT / path, f"/opt/patchbench/{path}") for path in CODE] + [_mount(bundle, "/bundle")]
    command = ["sh", "-c", RUN, "sh", name, *LIMITS, *_for(target), "--user", _user(out), *mounts]
    command += [_mount(out, "/out", writable=True), f"--env=PATCHBENCH_IMAGE={image.id}"]
    command += ["--entrypoint=python3", image.id, "-m", "backends.device.replay", "/bundle", "/out"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["sh", "-c", KEEPER, "sh", name],
        stdin=pipe,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as keeper:
        process = subprocess.Popen(
            command,
            stdin=keeper.stdout,
            stdout=pipe,
            stderr=pipe,
            env=os.environ | {"MEMORY": MEMORY},
            start_new_session=True,
        )
        process.stdin = keeper.stdin
        keeper.stdin = None
    return process


def prepare(target: Target, tell: Tell) -> None:
    """Build the image, unless it exists or is the user's own."""
    if not target.image:
        container_images.build(_recipe(target), tell)


def fetch(target: Target, out: Path, name: str, most: int) -> None:
    """Give the result to the caller, where the container ran as nobody."""
    path = out / name
    if os.geteuid() == 0 and path.is_file():
        os.chown(path, 0, 0, follow_symlinks=False)


def is_emulated(target: Target) -> bool:
    """Return whether the target asks for an architecture other than this machine's."""
    return _arch(target) != platform.machine()


def identity(target: Target) -> dict[str, object]:
    """Return the target's settings, its image, and the CPU unless that is emulated.

    Our image is identified by what it is built from, so before it is built; a user's by its digest.
    """
    image = _image(target)
    machine = describe()
    if target.image:
        with suppress(UserError):  # without an engine the name must do
            found = container_images.inspect(image)
            image = found.id if found else image
    seen = {"cpu": machine.cpu, "features": hashlib.sha256(" ".join(machine.features).encode()).hexdigest()[:16]}
    return {
        **target.settings,
        "version": target.version,
        "arch": _arch(target),
        "image": image,
    } | ({"cpu": target.cpu or "emulated"} if is_emulated(target) else seen)


def availability(target: Target) -> str | None:
    """Return None where the target can run, once prepared; else why not, with the command that fixes it."""
    if not shutil.which("docker"):
        return NOT_INSTALLED
    try:
        container_images.docker("version", "--format", "{{.Server.Version}}")
    except UserError as error:
        fix = "sudo usermod -aG docker $USER" if "permission denied" in str(error) else "sudo systemctl start docker"
        return f"docker's engine does not answer: {fix}\n{error}"
    if target.cpu and not is_emulated(target):
        return f"cannot choose a CPU model ({target.cpu}) without emulation: use the host qemu"
    image = container_images.inspect(_image(target))
    wanted = _platform(target)
    if is_emulated(target) and not emulates(_arch(target), BINFMT):
        arch = wanted.split("/")[1]
        return f"{arch} is not emulated here: docker run --privileged --rm tonistiigi/binfmt --install {arch}"
    if target.image and (image is None or image.platform != wanted):
        found = f"is {image.platform}, not {wanted}" if image else "is missing"
        return f"the image {target.image} {found}: {_fix(target)}"
    return None if image else container_images.cannot_build()


def emulates(arch: str, folder: Path) -> bool:
    """Return whether the kernel runs programs of an architecture, in containers too: binfmt_misc's F flag."""
    try:
        lines = (folder / f"qemu-{arch}").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(": ")[2] for line in lines if line.startswith("flags:")), "")
    return "enabled" in lines and "F" in flags


LIMITS = [
    "--interactive",
    "--init",
    "--pull=never",
    "--network=none",
    "--read-only",
    "--ipc=none",  # or /dev/shm would be writable
    "--tmpfs=/dev/mqueue:ro,size=4k,mode=555",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--log-driver=none",
    "--no-healthcheck",
    "--ulimit=core=0",
    f"--pids-limit={PROCESSES}",
    "--workdir=/opt/patchbench",
    "--env=PYTHONFAULTHANDLER=1",
]


def _for(target: Target) -> list[str]:
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    cpus = min(cores(target), os.cpu_count() or 1)
    flags = [f"--platform={_platform(target)}", f"--cpus={cpus}", f"--memory={MEMORY}", f"--memory-swap={MEMORY}"]
    flags += [f"--env={name}={cores(target)}" for name in threads]
    if target.cpu:  # what emulates the program reads this variable
        flags.append(f"--env=QEMU_CPU={check_qemu_cpu(target.cpu)}")
    return flags


def _arch(target: Target) -> str:
    return target.arch or platform.machine()


def _platform(target: Target) -> str:
    return container_images.platform_of(_arch(target))


def _recipe(target: Target) -> container_images.Recipe:
    return container_images.recipe(_arch(target), engine(target.runtime).package, target.version)


def _image(target: Target) -> str:
    return target.image or _recipe(target).tag


def _fix(target: Target) -> str:
    if target.image:
        return f"docker pull --platform {_platform(target)} {target.image}"
    return "preparing the target builds it"


def _mount(source: Path, to: str, writable: bool = False) -> str:
    fields = ["type=bind", f"source={source.resolve()}", f"target={to}", *([] if writable else ["readonly"])]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)  # docker parses it as CSV: a path may contain commas
    return f"--mount={line.getvalue()}"


def _user(out: Path) -> str:
    """Return the container's user, never root, and give that user the folder for results."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if os.geteuid():
            return f"{os.geteuid()}:{os.getegid()}"
        os.chown(out, NOBODY, NOBODY)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    return f"{NOBODY}:{NOBODY}"


def _check_readable(folder: Path) -> None:
    """Check that ``nobody`` can read a folder, where the container runs as that user."""
    if os.geteuid():
        return
    for path in (folder, *folder.rglob("*")):
        wanted = 0o5 if path.is_dir() else 0o4
        if path.lstat().st_mode & wanted != wanted:  # a link is followed there, not here
            raise UserError(f"{path}: only root can read it, but the container is not root: chmod -R o+rX {folder}")
