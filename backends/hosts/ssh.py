"""The host ``ssh``: another machine, a board, reached by the user's own ``ssh`` and its configuration.

A board needs Python 3.9 or later, numpy and the runtime, in ``~/.cache/patchbench/venv`` or else in its ``python3``.
The rest is sent once and stored by hash in that same folder.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import backends
from backends import ssh_connection
from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from backends.device.files import replacing
from backends.device.runtimes import engine
from backends.environments import companions
from backends.ssh_connection import Board, Missing, Ready, Size

if TYPE_CHECKING:
    from backends.hosts import Target, Tell

PYTHON_LEAST = (3, 9)
ROOT = Path(backends.__file__).resolve().parents[1]
PROCESS = uuid4().hex  # an unreachable board equals no other board, and none of another process


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Send the files that the board lacks, and start the device side there; a failure is a `UserError`."""
    trees = {"device": _manifest(ROOT, "backends/__init__.py", "backends/device/**/*.py"), "bundle": _manifest(bundle)}
    names = {what: _name(tree) for what, tree in trees.items()}
    files = {file.sha256: file.path for tree in trees.values() for file in tree.values()}
    sent = {names[what]: {name: file[1:] for name, file in tree.items()} for what, tree in trees.items()}

    def send() -> None:
        with ssh_connection.asking(target.address, engine(target.runtime).package) as (found, talk):
            if reason := lacks(target, found):
                raise UserError(reason)
            talk.say({"trees": sent, "kill": _run(out)})
            missing = talk.hear(Missing).missing
            if len(set(missing)) < len(missing) or not files.keys() >= set(missing):
                raise UserError(f"{target.address}: asks for files that were not offered, or for one twice")
            for sha256 in missing:
                talk.send(files[sha256])
            talk.hear(Ready)

    ssh_connection.patiently(target.address, send)
    return subprocess.Popen(
        ssh_connection.command(target.address, _replay_command(target, names["device"], names["bundle"], _run(out))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def prepare(target: Target, tell: Tell) -> None:
    """Check that the board can run the target; files are sent with the first replay."""
    tell(f"asking {', '.join(board.address for board in target.boards)}")
    if reason := availability(target):
        raise UserError(reason)


def fetch(target: Target, out: Path, name: str, most: int) -> None:
    """Copy a result to this machine, and remove it from the board."""

    def get() -> None:
        with ssh_connection.asking(target.address, engine(target.runtime).package) as (_, talk):
            talk.say({"give": f"runs/{_run(out)}/{name}"})
            size = talk.hear(Size).bytes
            if size > most:
                raise UserError(f"{target.address}: {name} has {size:,} bytes, expected at most {most:,}")
            with replacing(out / name) as draft:
                talk.receive(draft, size)
            with suppress(BrokenPipeError):
                talk.say({"done": True})

    ssh_connection.patiently(target.address, get)


def is_lost(code: int | None) -> bool:
    """Return whether ssh itself failed."""
    return code == ssh_connection.LOST


def cores(target: Target) -> int:
    """Return 0: none of this machine."""
    return 0


def is_emulated(target: Target) -> bool:
    """Return False: a board has a CPU of its own."""
    return False


def identity(target: Target) -> dict[str, object]:
    """Return the target's settings and the board's own description, asked for once per process.

    Of several boards it is the first that can be reached: the others must be like it.
    """
    wanted = target.settings
    asked = (_first_description(board.address, engine(target.runtime).package) for board in target.boards)
    found = next(filter(None, asked), None)
    if found is None:
        return wanted | {"unreachable": PROCESS}
    there = found.machine
    features = " ".join([*there.features, *there.detected])
    facts = {"arch": there.arch, "cpu": there.cpu, "python": there.python, "numpy": there.numpy}
    return wanted | facts | {"version": found.version, "features": hashlib.sha256(features.encode()).hexdigest()[:16]}


def availability(target: Target) -> str | None:
    """Return None where the target can run, on one of its boards at least; else why not, with the command for each."""
    reasons = []
    for board in target.boards:
        try:
            reason = lacks(board, describe(board.address, engine(target.runtime).package))
        except UserError as error:
            reason = str(error)
        if not reason:
            return None
        reasons.append(reason)
    return "\n".join(reasons)


def lacks(target: Target, found: Board) -> str | None:
    """Return what a board lacks for a target, with the command that fixes it."""
    there = found.machine
    package = engine(target.runtime).package
    if target.arch not in ("", there.arch) or target.cpu not in ("", there.cpu):
        wanted = " ".join(filter(None, [target.arch, target.cpu]))
        return f"asks for {wanted}, but {target.address} is {there.arch} {there.cpu}; choose another address"
    if tuple(map(int, there.python.split(".")[:2])) < PYTHON_LEAST:
        least = ".".join(map(str, PYTHON_LEAST))
        return f"{target.address} has Python {there.python}; install {least} or later in {found.home}/venv"
    pinned = f"{package}=={target.version}" if target.version else package
    if source := getattr(engine(target.runtime), "built_from", ""):
        pinned = f"{package}.whl"  # its file, by whatever name
    venv = shlex.quote(f"{found.home}/venv")
    install = shlex.join(["pip", "install", *companions(package), pinned])
    fix = f"ssh {target.address} {shlex.quote(f'python3 -m venv {venv} && {venv}/bin/{install}')}"
    if not there.numpy:
        return f"the Python of {target.address} has no numpy: {fix}"
    if found.version is None or target.version not in ("", found.version):
        whence = f", whose wheel is made from {source}" if source else ""
        return f"the Python of {target.address} has {package} {found.version or 'not'} installed{whence}: {fix}"
    return None


def describe(address: str, package: str) -> Board:
    """Ask a board for its description, with the version of a package; a `UserError` where it cannot be asked."""
    with ssh_connection.asking(address, package) as (found, _):
        return found


@cache
def _first_description(address: str, package: str) -> Board | None:
    with suppress(UserError):
        return describe(address, package)
    return None


def _replay_command(target: Target, device: str, bundle: str, run: str) -> str:
    """Return the command for the device side, below a shell, whose exit code tells a signal from a lost connection."""
    count = target.threads or "$(nproc)"
    threads = " ".join(f"{library}_NUM_THREADS={count}" for library in ("OMP", "OPENBLAS", "MKL"))
    return (
        f'{ssh_connection.FIND_PYTHON}; cd "$c/trees/{device}" || exit; echo; {threads} PYTHONFAULTHANDLER=1 '
        f'"$p" -m backends.device.replay "$c/trees/{bundle}" "$c/runs/{run}"; exit $?'
    )


def _run(out: Path) -> str:
    """Name the board's folder for results that belong in a folder of this machine."""
    return hashlib.sha256(f"{socket.gethostname()} {out.resolve()}".encode()).hexdigest()[:32]


class _File(NamedTuple):
    path: Path
    sha256: str
    size: int


def _manifest(root: Path, *patterns: str) -> dict[str, _File]:
    """List the files of a folder by relative path."""
    paths = sorted(path for pattern in patterns or ["**/*"] for path in root.glob(pattern) if path.is_file())
    for path in paths:
        if not path.resolve().is_relative_to(root.resolve()):
            raise UserError(f"{path}: leads out of {root}, to {path.resolve()}; only files inside are sent")
    return {path.relative_to(root).as_posix(): _File(path, sha256_file(path), path.stat().st_size) for path in paths}


def _name(tree: Mapping[str, _File]) -> str:
    """Name a tree by the hash of its files' names and contents."""
    return hashlib.sha256(json.dumps({name: file.sha256 for name, file in tree.items()}).encode()).hexdigest()[:32]
