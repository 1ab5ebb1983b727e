"""The connection to a board: the user's own ``ssh``, and an exchange with `backends.device.file_exchange` there."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple, cast

from backends.device import file_exchange, machine
from backends.device.errors import UserError
from backends.device.file_exchange import Message
from backends.device.protocol import MachineFacts

OPTIONS = {
    "BatchMode": "yes",  # nobody is there to answer a question
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",  # a dead connection is noticed after three of these
    "ServerAliveCountMax": "3",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",
}
LOST = 255  # ssh's exit code when ssh itself failed, not the command
NO_COMMAND = 127
PATIENCE_SECONDS = 60.0  # how long to wait for a board that answered before
HOME = '"${XDG_CACHE_HOME:-$HOME/.cache}/patchbench"'
FIND_PYTHON = f'c={HOME}; p="$c/venv/bin/python"; [ -x "$p" ] || p=python3'

_reached: set[str] = set()


class Lost(UserError):
    """The connection to a board broke, or could not be made."""


class Board(NamedTuple):
    """A board's description of itself; ``version`` is that of the runtime's package, None where it has none."""

    home: str
    machine: MachineFacts
    version: str | None


class Talk(NamedTuple):
    """An exchange with `backends.device.file_exchange`."""

    address: str
    into: IO[bytes]
    outof: IO[bytes]

    def say(self, what: Message) -> None:
        """Send a message."""
        self.into.write(json.dumps(what).encode() + b"\n")
        self.into.flush()

    def hear(self) -> Message:
        """Return the next message; skip other lines, such as a login's greeting."""
        self.into.flush()
        for line in self.outof:
            with suppress(ValueError, TypeError, KeyError):
                found: Message = json.loads(line)["board"]
                if "error" in found:
                    raise UserError(f"{self.address}: {found['error']}")
                return found
        raise BrokenPipeError

    def send(self, path: Path) -> None:
        """Send a file's bytes."""
        with path.open("rb") as stream:
            while piece := stream.read(file_exchange.PIECE):
                self.into.write(piece)

    def receive(self, path: Path, size: int) -> None:
        """Receive `size` bytes into a file."""
        with path.open("wb") as stream:
            while size:
                piece = self.outof.read(min(size, file_exchange.PIECE))
                if not piece:
                    raise BrokenPipeError
                size -= stream.write(piece)


@contextmanager
def asking(address: str, package: str) -> Iterator[tuple[Board, Talk]]:
    """Connect to a board and yield its description; a broken connection is `Lost`, a refusal a `UserError`."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (machine, file_exchange)]
    sizes = ", ".join(str(len(source)) for source in sources)
    script = (
        f"import sys\nfor n in {sizes}: exec(sys.stdin.buffer.read(n))\n"
        f"answer(describe()._asdict(), installed({package!r}))"
    )
    started = command(address, f'{FIND_PYTHON}; exec "$p" -c {shlex.quote(script)}')
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdin is not None
        assert process.stdout is not None
        talk = Talk(address, process.stdin, process.stdout)
        try:
            for source in sources:
                process.stdin.write(source)
            process.stdin.flush()
            about = talk.hear()
            yield Board(about["home"], cast(MachineFacts, about["machine"]), about["version"]), talk
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


def patiently(address: str, attempt: Callable[[], None]) -> None:
    """Repeat an attempt while the connection is lost to a board that answered before."""
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
        return UserError(f"{address} has no python3: run ssh {address} sudo apt-get install --yes python3 python3-venv")
    return UserError(f"{address}: expected an answer in JSON, got exit code {code}\n{said}".strip())


def command(address: str, script: str) -> list[str]:
    """Return the command line that runs a shell script on the board, whatever the login's own shell is."""
    if not address:
        raise UserError("host ssh needs an address as `ssh` takes it: user@machine, or a name from its configuration")
    options = [part for key, value in OPTIONS.items() for part in ("-o", f"{key}={value}")]
    return ["ssh", *options, "--", address, f"exec sh -c {shlex.quote(script)}"]
