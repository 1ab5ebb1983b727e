"""The connection to a board: the user's own ``ssh``, and an exchange with `backends.device.file_exchange` there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from backends.conversation import Tail
from backends.device import cpu_speed, file_exchange, machine
from backends.device.cpu_speed import CpuSpeed
from backends.device.errors import UserError
from backends.device.file_exchange import Message
from backends.events import Count, KnownMachine, Said, Sha256, Text, fault

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
LAST_SECONDS = 5.0  # for ssh to exit after the last message
SILENCE_SECONDS = 300.0  # for a message, or a piece of a file: a slow connection moves one in less
MESSAGE_BYTES = 1 << 22  # the hashes of some 60,000 files
MESSAGE = b'{"board": '
GREETING_LINES = 10_000
PATIENCE_SECONDS = 60.0  # how long to wait for a board that answered before
HOME = '"${XDG_CACHE_HOME:-$HOME/.cache}/patchbench"'
FIND_PYTHON = f'c={HOME}; p="$c/venv/bin/python"; [ -x "$p" ] || p=python3'

_reached: set[str] = set()


class Lost(UserError):
    """The connection to a board broke, or could not be made."""


class Board(Said):
    """A board's description of itself; ``version`` is that of the runtime's package, None where it has none."""

    home: Annotated[str, Field(pattern=r"^(/[^/\x00-\x1f\x7f]+)+$", max_length=4096)]
    machine: KnownMachine
    speed: CpuSpeed
    version: Annotated[Text, Field(max_length=100)] | None


class Missing(Said):
    """The files that a board lacks, by hash."""

    missing: list[Sha256]


class Ready(Said):
    """All files have arrived."""

    ready: Literal[True]


class Size(Said):
    """The size of the result that follows, in bytes."""

    bytes: Count


class Refusal(Said):
    """Why a board cannot do what was asked."""

    error: Text


M = TypeVar("M", Board, Missing, Ready, Size)


@dataclass
class Talk:
    """An exchange with `backends.device.file_exchange`; each message and each piece of a file has its time."""

    address: str
    process: subprocess.Popen[bytes]
    is_silent: bool = False

    def say(self, what: Message) -> None:
        """Send a message."""
        self.write(json.dumps(what).encode() + b"\n")

    def hear(self, kind: type[M]) -> M:
        """Return the next message; skip other lines, such as a login's greeting."""
        with self._in_time():
            content = next(self._messages(), None)
        if content is None:
            raise BrokenPipeError
        return self._read(content, kind)

    def raise_refusal(self) -> None:
        """Raise what a board said before it hung up, if it said why."""
        with self._in_time():
            for content in self._messages():
                with suppress(ValidationError):
                    raise UserError(f"{self.address}: {Refusal.model_validate_json(content).error}")

    def send(self, path: Path) -> None:
        """Send a file's bytes."""
        with path.open("rb") as stream:
            while piece := stream.read(file_exchange.PIECE):
                self.write(piece)

    def receive(self, path: Path, size: int) -> None:
        """Receive `size` bytes into a file."""
        with path.open("wb") as stream:
            while size:
                with self._in_time():
                    piece = self._outof.read(min(size, file_exchange.PIECE))
                if not piece:
                    raise BrokenPipeError
                size -= stream.write(piece)

    def write(self, data: bytes) -> None:
        """Send bytes."""
        assert self.process.stdin is not None
        with self._in_time():
            self.process.stdin.write(data)
            self.process.stdin.flush()

    @property
    def _outof(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def _messages(self) -> Iterator[bytes]:
        """Yield the JSON of each message until the end; other lines, which must be few, are skipped."""
        for _ in range(GREETING_LINES):
            line = self._outof.readline(MESSAGE_BYTES)
            if not line:
                return
            if line.startswith(MESSAGE + b"{"):
                yield line.strip().removeprefix(MESSAGE).removesuffix(b"}")
        raise UserError(f"{self.address}: expected a message, got {GREETING_LINES:,} other lines")

    def _read(self, content: bytes, kind: type[M]) -> M:
        try:
            found = TypeAdapter[M | Refusal](kind | Refusal).validate_json(content)
        except ValidationError as error:
            raise UserError(f"{self.address}: malformed message: {fault(error)}") from error
        if isinstance(found, Refusal):
            raise UserError(f"{self.address}: {found.error}")
        return found

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """End the connection where the board neither takes nor sends anything."""
        timer = threading.Timer(SILENCE_SECONDS, self._give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self.is_silent = True
        _kill(self.process)


@contextmanager
def asking(address: str, package: str) -> Iterator[tuple[Board, Talk]]:
    """Connect to a board and yield its description; a broken connection is `Lost`, a refusal a `UserError`."""
    sources = [Path(str(module.__file__)).read_bytes() for module in (machine, cpu_speed, file_exchange)]
    sizes = ", ".join(str(len(source)) for source in sources)
    script = (
        f"import sys\nfor n in {sizes}: exec(sys.stdin.buffer.read(n))\n"
        f"answer(describe()._asdict(), cpu_speed()._asdict(), installed({package!r}))"
    )
    started = command(address, f'{FIND_PYTHON}; exec "$p" -c {shlex.quote(script)}')
    process = subprocess.Popen(
        started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    tail = Tail(process.stderr)
    talk = Talk(address, process)
    try:
        for source in sources:
            talk.write(source)
        yield talk.hear(Board), talk
        process.stdin.close()
        _exit_code(process)
    except BrokenPipeError:
        if talk.is_silent:
            raise UserError(f"{address}: no answer for {SILENCE_SECONDS:g} s") from None
        talk.raise_refusal()
        process.stdout.close()
        code = _exit_code(process)
        said = "\n".join(tail.lines()).strip()[-2000:]
        raise _explained(address, code, said) from None
    finally:
        _kill(process)
        process.wait()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()
    _reached.add(address)


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    with suppress(subprocess.TimeoutExpired):
        return process.wait(LAST_SECONDS)
    _kill(process)
    return process.wait()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a connection and what it started, which may hold its pipes open."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


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
    if not shutil.which("ssh"):
        raise UserError("host ssh needs the program ssh: apt-get install openssh-client")
    options = [part for key, value in OPTIONS.items() for part in ("-o", f"{key}={value}")]
    return ["ssh", *options, "--", address, f"exec sh -c {shlex.quote(script)}"]
