"""The host that is another machine, a board, reached by the user's own ``ssh`` and its configuration.

A board needs Python 3.11, numpy and the runtime, in ``~/.cache/patchbench/venv`` or else for its ``python3``; the rest
is sent there, once, and kept by hash in that same folder.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import backends
from backends.device import board, machine
from backends.device.artifact import sha256_file
from backends.device.errors import UserError
from backends.device.runtimes import engine

if TYPE_CHECKING:
    from backends.hosts import Target, Tell

OPTIONS = {
    "BatchMode": "yes",  # no question that nobody answers
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",  # a dead connection is noticed after three of these
    "ServerAliveCountMax": "3",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",
}
LOST = 255  # ssh's exit code for what is its own fault, and not the command's
NO_COMMAND = 127
PATIENCE_SECONDS = 60.0  # for a board that answered before, to come back
PYTHON_LEAST = (3, 11)
HOME = '"${XDG_CACHE_HOME:-$HOME/.cache}/patchbench"'
FIND_PYTHON = f'c={HOME}; p="$c/venv/bin/python"; [ -x "$p" ] || p=python3'
ROOT = Path(backends.__file__).resolve().parents[1]
SESSION = uuid4().hex  # of this process; an unreachable board is like no other, and like none of another session

_reached: set[str] = set()


class Lost(UserError):
    """The way to a board broke, or was never there."""


class Board(NamedTuple):
    """What a board says of itself; ``version`` is that of the runtime's package, None where it has none."""

    home: str
    machine: Mapping[str, Any]
    version: str | None


def start(target: Target, bundle: Path, out: Path) -> subprocess.Popen[bytes]:
    """Sends what the board has not got yet, and starts the device side there; a board that cannot is a `UserError`."""
    trees = {"device": _manifest(ROOT, "backends/__init__.py", "backends/device/**/*.py"), "bundle": _manifest(bundle)}
    names = {what: _name(tree) for what, tree in trees.items()}
    files = {file.sha256: file.path for tree in trees.values() for file in tree.values()}
    sent = {names[what]: {name: file[1:] for name, file in tree.items()} for what, tree in trees.items()}

    def send() -> None:
        with _asking(target.address, engine(target.runtime).package) as (found, talk):
            if reason := _lacks(target, found):
                raise UserError(reason)
            talk.say({"trees": sent, "kill": _run(out)})
            for sha256 in talk.hear()["missing"]:
                talk.send(files[sha256])
            talk.hear()

    _patiently(target.address, send)
    return subprocess.Popen(
        _ssh(target.address, _replay_command(target, names["device"], names["bundle"], _run(out))),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def prepare(target: Target, tell: Tell) -> None:
    """Sees that the board can run the target; the files go there with the first replay."""
    tell(f"asking {target.address}")
    if reason := availability(target):
        raise UserError(reason)


def fetch(target: Target, out: Path, name: str) -> None:
    """Brings a result here, and removes it there."""
    out.mkdir(parents=True, exist_ok=True)
    beside = out / f".{name}.part"

    def get() -> None:
        with _asking(target.address, engine(target.runtime).package) as (_, talk):
            talk.say({"give": f"runs/{_run(out)}/{name}"})
            talk.receive(beside, talk.hear()["bytes"])
            beside.replace(out / name)
            with suppress(BrokenPipeError):
                talk.say({"done": True})

    try:
        _patiently(target.address, get)
    finally:
        beside.unlink(missing_ok=True)


def is_lost(code: int | None) -> bool:
    """Whether ssh ended by itself."""
    return code == LOST


def cores(target: Target) -> int:
    """None of this machine."""
    return 0


def is_emulated(target: Target) -> bool:
    """A board is what it is."""
    return False


def identity(target: Target) -> dict[str, Any]:
    """The target's own words and what the board says of itself, asked once a session; one that is silent is new."""
    wanted = {
        "runtime": target.runtime,
        "options": dict(target.options),
        "threads": target.threads,
        "batch": target.batch,
        "host": target.host,
    }
    found = _first_description(target.address, engine(target.runtime).package)
    if found is None:
        return wanted | {"unreachable": SESSION}
    features = " ".join([*found.machine["features"], *found.machine["detected"]])
    facts = {key: found.machine[key] for key in ("arch", "cpu", "python", "numpy")}
    return wanted | facts | {"version": found.version, "features": hashlib.sha256(features.encode()).hexdigest()[:16]}


def availability(target: Target) -> str | None:
    """None where the target can run; else why not, and the one command that mends it."""
    try:
        with _asking(target.address, engine(target.runtime).package) as (found, _):
            return _lacks(target, found)
    except UserError as error:
        return str(error)


def _lacks(target: Target, found: Board) -> str | None:
    """What a board would need for a target."""
    there, package = found.machine, engine(target.runtime).package
    if target.arch not in ("", there["arch"]) or target.cpu not in ("", there["cpu"]):
        wanted = " ".join(filter(None, [target.arch, target.cpu]))
        return f"asks for {wanted}, {target.address} is {there['arch']} {there['cpu']}; name another address"
    if tuple(map(int, there["python"].split(".")[:2])) < PYTHON_LEAST:
        least = ".".join(map(str, PYTHON_LEAST))
        return f"{target.address} has Python {there['python']}; give it {least} or later in {found.home}/venv"
    pinned = f"{package}=={target.version}" if target.version else package
    venv = shlex.quote(f"{found.home}/venv")
    mend = f"ssh {target.address} {shlex.quote(f'python3 -m venv {venv} && {venv}/bin/pip install numpy {pinned}')}"
    if not there["numpy"]:
        return f"the Python of {target.address} has no numpy: {mend}"
    if found.version is None or target.version not in ("", found.version):
        return f"the Python of {target.address} has {package} {found.version or 'not'} installed: {mend}"
    return None


@cache
def _first_description(address: str, package: str) -> Board | None:
    with suppress(UserError), _asking(address, package) as (found, _):
        return found
    return None


class _Talk(NamedTuple):
    """A conversation with `backends.device.board`."""

    address: str
    into: IO[bytes]
    outof: IO[bytes]

    def say(self, what: Mapping[str, Any]) -> None:
        self.into.write(json.dumps(what).encode() + b"\n")
        self.into.flush()

    def hear(self) -> dict[str, Any]:
        """The next answer; lines of something else, say a login's greeting, are passed over."""
        self.into.flush()
        for line in self.outof:
            with suppress(ValueError, TypeError, KeyError):
                found: dict[str, Any] = json.loads(line)["board"]
                if "error" in found:
                    raise UserError(f"{self.address}: {found['error']}")
                return found
        raise BrokenPipeError

    def send(self, path: Path) -> None:
        with path.open("rb") as stream:
            while piece := stream.read(board.PIECE):
                self.into.write(piece)

    def receive(self, path: Path, size: int) -> None:
        with path.open("wb") as stream:
            while size:
                piece = self.outof.read(min(size, board.PIECE))
                if not piece:
                    raise BrokenPipeError
                size -= stream.write(piece)


@contextmanager
def _asking(address: str, package: str) -> Iterator[tuple[Board, _Talk]]:
    """A conversation with a board, begun by its description; a broken one is `Lost`, one it refuses a `UserError`."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (machine, board)]
    sizes = ", ".join(str(len(source)) for source in sources)
    script = (
        f"import sys\nfor n in {sizes}: exec(sys.stdin.buffer.read(n))\n"
        f"answer({package!r}, describe()._asdict(), installed({package!r}))"
    )
    command = f'{FIND_PYTHON}; exec "$p" -c {shlex.quote(script)}'
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(_ssh(address, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdin is not None
        assert process.stdout is not None
        talk = _Talk(address, process.stdin, process.stdout)
        try:
            for source in sources:
                process.stdin.write(source)
            process.stdin.flush()
            yield Board(**talk.hear()), talk
            process.stdin.close()
            process.wait()
        except BrokenPipeError:
            process.stdout.close()
            code = process.wait()
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()[-2000:]
            raise _explained(address, code, said) from None
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
    _reached.add(address)


def _patiently(address: str, attempt: Callable[[], None]) -> None:
    """Does it again while the way is lost to a board that answered before."""
    until = time.monotonic() + (PATIENCE_SECONDS if address in _reached else 0.0)
    while True:
        try:
            return attempt()
        except Lost:
            if time.monotonic() >= until:
                raise
            time.sleep(1.0)


def _explained(address: str, code: int, said: str) -> UserError:
    if code == LOST:
        return Lost(f"{said}; `ssh {address} true` must work without a question")
    if code == NO_COMMAND:
        return UserError(f"{address} has no python3: ssh {address} sudo apt-get install --yes python3 python3-venv")
    return UserError(f"{address}: expected an answer in JSON, the command ended with exit code {code}\n{said}".strip())


def _ssh(address: str, script: str) -> list[str]:
    """The command line that runs a shell's script there, whatever the login's own shell is."""
    if not address:
        raise UserError("host ssh wants an address, as `ssh` takes it: user@machine, or a name in its configuration")
    options = [part for key, value in OPTIONS.items() for part in ("-o", f"{key}={value}")]
    return ["ssh", *options, "--", address, f"exec sh -c {shlex.quote(script)}"]


def _replay_command(target: Target, device: str, bundle: str, run: str) -> str:
    """Runs the device side below a shell, which tells a process ended by a signal from a lost connection."""
    count = target.threads or "$(nproc)"
    threads = " ".join(f"{library}_NUM_THREADS={count}" for library in ("OMP", "OPENBLAS", "MKL"))
    return (
        f'{FIND_PYTHON}; cd "$c/trees/{device}" || exit; echo; {threads} PYTHONFAULTHANDLER=1 '
        f'"$p" -m backends.device.replay "$c/trees/{bundle}" "$c/runs/{run}"; exit $?'
    )


def _run(out: Path) -> str:
    """A name for the results that belong in a folder of this machine."""
    return hashlib.sha256(f"{socket.gethostname()} {out.resolve()}".encode()).hexdigest()[:32]


class _File(NamedTuple):
    path: Path
    sha256: str
    size: int


def _manifest(root: Path, *patterns: str) -> dict[str, _File]:
    """The files of a folder, by their names in it."""
    paths = sorted(path for pattern in patterns or ["**/*"] for path in root.glob(pattern) if path.is_file())
    return {path.relative_to(root).as_posix(): _File(path, sha256_file(path), path.stat().st_size) for path in paths}


def _name(tree: Mapping[str, _File]) -> str:
    """A tree's name: the hash of the names and contents of its files."""
    return hashlib.sha256(json.dumps({name: file.sha256 for name, file in tree.items()}).encode()).hexdigest()[:32]
