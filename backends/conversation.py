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
from typing import NamedTuple, cast

from backends.device.protocol import Event


class Ending(NamedTuple):
    """Why a conversation failed, empty if it did not; and the exit code of a process that ended by itself."""

    why: str = ""
    code: int | None = None


TAIL_LINES = 20
LAST_SECONDS = 5.0  # for a process to exit after its last event


class Conversation:
    """Sends lines to a device process and receives its events. Always `close` it.

    `process` leads a process group of its own and has pipes for standard input, output and error. If it sends nothing
    for `time_limit` seconds after a request, it counts as hung.
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
        self._partial = b""
        self._last = time.monotonic()
        self._events: deque[Event] = deque()
        self._message: str | None = None  # of its last event: empty, or an error
        self._over = False
        self._hung = False
        self._ending: Ending | None = None
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._listener = threading.Thread(target=self._tail.extend, args=(process.stderr,), daemon=True)
        self._listener.start()

    def say(self, what: Mapping[str, object]) -> None:
        """Send a line. If that fails, `hear` returns None, and `close` the reason."""
        rest = memoryview(json.dumps(dict(what)).encode() + b"\n")
        self._last = time.monotonic()
        with suppress(BrokenPipeError):
            while rest and not self._over and self._is_ready(self._writable):
                rest = rest[os.write(self._stdin, rest) :]
                self._last = time.monotonic()

    def hear(self) -> Event | None:
        """Return the next event; None where none is left: the device has ended, crashed or hangs."""
        while not (self._events or self._over or self._hung):
            if self._is_ready(self._readable):
                self._take(os.read(self._stdout, 1 << 16))
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
                if self._over:
                    _wait(process)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
                self._listener.join(LAST_SECONDS)
        if self._message is not None:
            return Ending(self._message)
        why = f"hang: no event for {self._limit:g} s" if self._hung else _explained(code)
        lines = [why, *(line.decode(errors="replace").rstrip() for line in self._tail)]
        return Ending("\n".join(lines), None if self._hung else code)

    def _is_ready(self, end: select.poll) -> bool:
        """Wait for one end of a pipe; False after the time limit."""
        self._hung = not end.poll(max(0.0, self._last + self._limit - time.monotonic()) * 1000)
        return not self._hung

    def _take(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # a line that is not JSON comes from elsewhere, such as a login's greeting
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event and self._message is None:
                    self._last = time.monotonic()
                    if event["event"] in ("end", "error"):
                        self._message = str(event.get("message", ""))
                    else:
                        self._events.append(cast(Event, event))
        self._over = not data or self._message is not None


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
