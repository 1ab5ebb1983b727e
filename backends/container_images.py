"""Container images for the host ``docker``, built from the ``replay`` stage of the Dockerfile.

Environment variables: ``PATCHBENCH_BASE_IMAGE``, an image with Python 3.11 and pip, where ``{arch}`` stands for
``amd64`` or ``arm64``; and ``PATCHBENCH_BUILDX_ARGS``, more arguments for ``docker buildx build``, such as
``--secret id=ca,src=/etc/ssl/certs/ca-certificates.crt``.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import backends
from backends.device.errors import UserError
from backends.environments import ALONE, ELSEWHERE, pinned, run
from backends.words import check_image

ROOT = Path(backends.__file__).resolve().parents[1]
HERE = ROOT / "backends"
PLATFORMS = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}  # by `uname -m`; others lack numpy's wheels
SHIPPED = ("onnxruntime", "ai-edge-litert")  # the stage's packages by default
FILES = ("Dockerfile", "requirements-replay.txt")  # all that such an image depends on; links in a checkout
WHEELS = Path("wheels")  # of the user's own, below the current folder
NOT_INSTALLED = "docker is not installed: sudo apt-get install docker.io docker-buildx"


class Recipe(NamedTuple):
    """The inputs of an image of ours; empty requirements are the Dockerfile's own."""

    platform: str
    base: str
    requirements: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """The image's name, by the content of all that decides what pip installs."""
        parts = [_read("Dockerfile"), *self.requirements] if self.requirements else map(_read, FILES)
        text = "\0".join([self.platform, self.base, *parts])
        return f"patchbench/replay:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Image(NamedTuple):
    """An image of the engine: its digest, and its platform as in `PLATFORMS`."""

    id: str
    platform: str


def recipe(arch: str, package: str, version: str = "") -> Recipe:
    """Return the recipe for a runtime's package on an architecture; all of `SHIPPED` share one at their pins.

    A package that needs torch is a `UserError`.
    """
    platform = platform_of(arch)
    base = os.environ.get("PATCHBENCH_BASE_IMAGE") or f"python:{ELSEWHERE.python}-slim"
    base = base.replace("{arch}", platform.partition("/")[2])
    if package in ALONE:
        raise UserError(f"no images with {package}, which needs torch's gigabytes: use another host")
    wanted = () if package in SHIPPED and not version else pinned(package, version, elsewhere=ELSEWHERE)
    return Recipe(platform, check_image(base), wanted)


def platform_of(arch: str) -> str:
    """Return docker's name for an architecture; one without images is a `UserError`."""
    if arch not in PLATFORMS:
        raise UserError(f"no images for {arch}, only for {', '.join(PLATFORMS)}: use the host qemu")
    return PLATFORMS[arch]


def inspect(name: str) -> Image | None:
    """Look up an image; None where the engine has none, a `UserError` without an engine."""
    try:
        facts = docker("image", "inspect", "--format", "{{.Id}} {{.Os}}/{{.Architecture}}", check_image(name))
    except UserError as error:
        if "no such image" in str(error).lower():
            return None
        raise
    return Image(*facts.split())


def build(wanted: Recipe, tell: Callable[[str], None]) -> None:
    """Build an image unless it exists; takes minutes. `tell` gets every line; concurrent builds share layers."""
    if inspect(wanted.tag):
        return
    reason = cannot_build()
    if reason:
        raise UserError(reason)
    arguments = [f"BASE_IMAGE={wanted.base}"]
    if wanted.requirements:
        arguments.append(f"REQUIREMENTS={' '.join(wanted.requirements)}")
    command = ["docker", "buildx", "build", "--progress", "plain", "--load", "--target", "replay"]
    command += ["--platform", wanted.platform, "--tag", wanted.tag]
    arguments += ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"]  # those of the environment, if any
    command += [word for argument in arguments for word in ("--build-arg", argument)]
    command += shlex.split(os.environ.get("PATCHBENCH_BUILDX_ARGS", ""))
    try:
        with _context() as context:
            run([*command, context], wanted.tag, lambda line: tell(re.sub(r"#\d+ ([\d.]+ )?", "", line, count=1)))
    except UserError as error:
        raise UserError(
            f"{error}\nset PATCHBENCH_BASE_IMAGE to use another base than {wanted.base}, "
            "PATCHBENCH_BUILDX_ARGS to pass more arguments to docker buildx build"
        ) from error


def cannot_build() -> str | None:
    """Return None where images can be built; else why not, with the fix."""
    if not shutil.which("docker"):
        return NOT_INSTALLED
    with suppress(UserError):
        docker("buildx", "version")
        return None
    return "docker has no buildx: sudo apt-get install docker-buildx"


def docker(*arguments: str) -> str:
    """Run a docker command and return its output; its error message becomes a `UserError`."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise UserError(NOT_INSTALLED) from error
    if done.returncode:
        raise UserError(done.stderr.strip() or f"docker {arguments[0]}: exit code {done.returncode}")
    return done.stdout.strip()


@contextmanager
def _context() -> Iterator[str]:
    """Give a folder with what the stage copies: the same from a checkout and from a wheel."""
    with tempfile.TemporaryDirectory() as context:
        for name in FILES:
            shutil.copy(HERE / name, context)
        device = Path(context, "backends", "device")
        shutil.copytree(HERE / "device", device, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE / "__init__.py", device.parent)
        if WHEELS.is_dir():
            shutil.copytree(WHEELS, Path(context, WHEELS))
        yield context


def _read(name: str) -> str:
    return (HERE / name).read_text()
