"""A conversation with the device side that a host started; a crash or a hang is reported in words."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, NamedTuple

from backends.device.errors import UserError
from backends.events import EVENT_BYTES, End, Event, Failed, Progress, printable, read_event


class Ending(NamedTuple):
    """Why a conversation failed, empty if it did not; and the exit code of a process that ended by itself.

    ``by_device`` is true where the fault is the device's own, whatever it was asked: nobody answers, or nonsense.
    """

    why: str = ""
    code: int | None = None
    by_device: bool = False


TAIL_LINES = 20
TAIL_BYTES = 4096  # of each
PIECE = 1 << 16
TAIL_SECONDS = 1.0  # for the last lines to arrive; a process that the ended one left behind may hold them up for ever
LAST_SECONDS = 5.0  # for a process to exit after its last event


class Tail:
    """The last lines of a process's standard error, read by a thread: it is never held up, and never kept whole."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._lines: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reader.start()

    def lines(self) -> list[str]:
        """Return the last lines, in characters that a terminal may show; the process has ended."""
        self._reader.join(TAIL_SECONDS)
        return [printable(line.decode(errors="replace").rstrip()) for line in list(self._lines)]

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(TAIL_BYTES):
                self._lines.append(line)


class Conversation:
    """Sends lines to a device process and receives its events. Always `close` it.

    `process` leads a process group of its own and has pipes for standard input, output and error. If it does not take
    a line, or sends no event that tells anything new, for `time_limit` seconds, it counts as hung.
    """

    def __init__(self, process: subprocess.Popen[bytes], time_limit: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._limit = time_limit
        self._stdin = process.stdin.fileno()
        self._stdout = process.stdout.fileno()
        self._writable = select.poll()
        self._writable.register(self._stdin, select.POLLOUT)
        self._readable = select.poll()
        self._readable.register(self._stdout, select.POLLIN)
        os.set_blocking(self._stdin, False)
        self._partial = bytearray()
        self._events: deque[Event] = deque()
        self._done: dict[str, int] = {}  # the progress of each case
        self._message: str | None = None  # of its last event: empty, or an error
        self._fault = ""  # a hang, or what is no event
        self._is_nonsense = False
        self._over = False
        self._ending: Ending | None = None
        assert process.stderr is not None
        self._tail = Tail(process.stderr)

    def say(self, what: Mapping[str, object]) -> None:
        """Send a line. If that fails, `hear` returns None, and `close` the reason."""
        rest = memoryview(json.dumps(dict(what)).encode() + b"\n")
        self._done.clear()
        until = time.monotonic() + self._limit
        with suppress(BrokenPipeError):
            while rest and not self._over and self._is_ready(self._writable, until):
                rest = rest[os.write(self._stdin, rest) :]

    def hear(self, longest: int = EVENT_BYTES) -> Event | None:
        """Return the next event; None where none is left: the device has ended, crashed, hangs, or sent none.

        A line of more than `longest` bytes is no event.
        """
        until = time.monotonic() + self._limit
        while not (self._events or self._over) and self._is_ready(self._readable, until):
            self._take(os.read(self._stdout, PIECE), longest)
            if time.monotonic() > until and not (self._events or self._over):
                self._hang()
        return self._events.popleft() if self._events else None

    def close(self) -> Ending:
        """End its process group and return how it ended; a crash comes with the last lines of standard error.

        Calling it again returns the same.
        """
        if self._ending is None:
            self._ending = self._end()
        self._over = True
        return self._ending

    def _end(self) -> Ending:
        with self._process as process:
            try:
                if self._over and not self._fault:
                    _wait(process)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
                tail = self._tail.lines()
        if self._message is not None:
            return Ending(self._message)
        why = "\n".join([self._fault or _explained(code), *tail])
        return Ending(why, None if self._fault else code, self._is_nonsense)

    def _is_ready(self, end: select.poll, until: float) -> bool:
        """Wait for one end of a pipe; after the time limit it hangs."""
        if not end.poll(max(0.0, until - time.monotonic()) * 1000):
            self._hang()
        return not self._over

    def _hang(self) -> None:
        self._fault = f"hang: no event for {self._limit:g} s"
        self._over = True

    def _take(self, data: bytes, longest: int) -> None:
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = bytes(self._partial) + lines[0]
            self._partial.clear()
        self._partial += rest
        try:
            for line in lines:
                if self._message is None:
                    self._accept(line, longest)
            _check_length(self._partial, longest)
        except UserError as error:
            self._fault, self._is_nonsense = str(error), True
        self._over = not data or self._message is not None or bool(self._fault)

    def _accept(self, line: bytes, longest: int) -> None:
        _check_length(line, longest)
        event = read_event(line)
        if isinstance(event, Failed):
            self._message = event.message
        elif isinstance(event, End):
            self._message = ""
        elif isinstance(event, Progress) and event.done <= self._done.get(event.case, -1):
            pass  # without progress it counts as silence
        elif event is not None:
            if isinstance(event, Progress):
                self._done[event.case] = event.done
            self._events.append(event)


def _check_length(line: bytes | bytearray, longest: int) -> None:
    if len(line) > longest:
        raise UserError(f"malformed event: a line of more than {longest:,} bytes")


def _explained(code: int) -> str:
    number = -code if code < 0 else code - 128  # 128 + n is how shells and containers report signal n
    if number in set(signal.Signals):
        return f"crash: {signal.Signals(number).name}"
    return f"crash: exit code {code} before the end"


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Give a process time to end, but leave it a zombie, so that no other process takes its group's number."""
    until = time.monotonic() + LAST_SECONDS
    while time.monotonic() < until:
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.01)
