"""Speaks with a device side that a host started, and watches over it: a crash or a hang becomes a sentence."""

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
from typing import Any, NamedTuple

Event = dict[str, Any]


class Ending(NamedTuple):
    """Why a conversation did not end well, empty if it did; and the exit code of a process that ended by itself."""

    why: str = ""
    code: int | None = None


TAIL_LINES = 20
LAST_SECONDS = 5.0  # for a process that said its last word, to be gone by itself


class Conversation:
    """With a device side: lines go out, events come in. Whatever happens, `close` it.

    `process` leads a process group of its own and has pipes for standard input, output and error. Where it shows no
    sign of life for `time_limit` seconds, though it was asked, it counts as hung.
    """

    def __init__(self, process: subprocess.Popen[bytes], time_limit: float) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._limit = process, time_limit
        self._into, self._outof = process.stdin.fileno(), process.stdout.fileno()
        self._takes, self._tells = select.poll(), select.poll()
        self._takes.register(self._into, select.POLLOUT)
        self._tells.register(self._outof, select.POLLIN)
        os.set_blocking(self._into, False)
        self._partial, self._last = b"", time.monotonic()
        self._heard: deque[Event] = deque()
        self._said: str | None = None  # its last word: empty, or an error
        self._over, self._hung = False, False
        self._ending: Ending | None = None
        self._tail: deque[bytes] = deque(maxlen=TAIL_LINES)
        self._listener = threading.Thread(target=self._tail.extend, args=(process.stderr,), daemon=True)
        self._listener.start()

    def say(self, what: Mapping[str, Any]) -> None:
        """Sends a line. Where it cannot be sent `hear` gives None, and `close` the reason."""
        rest, self._last = memoryview(json.dumps(dict(what)).encode() + b"\n"), time.monotonic()
        with suppress(BrokenPipeError):
            while rest and not self._over and self._is_ready(self._takes):
                rest, self._last = rest[os.write(self._into, rest) :], time.monotonic()

    def hear(self) -> Event | None:
        """The next event; None where there is no other: it said its last word, is gone, or hangs."""
        while not (self._heard or self._over or self._hung):
            if self._is_ready(self._tells):
                self._take(os.read(self._outof, 1 << 16))
        return self._heard.popleft() if self._heard else None

    def close(self) -> Ending:
        """Sees that its process group is gone, and says how it ended; a crash carries the last lines of its errors.

        Asked again, it says the same.
        """
        self._ending, self._over = self._ending or self._end(), True
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
        if self._said is not None:
            return Ending(self._said)
        why = f"hang: no sign of life for {self._limit:g} s" if self._hung else _explained(code)
        lines = [why, *(line.decode(errors="replace").rstrip() for line in self._tail)]
        return Ending("\n".join(lines), None if self._hung else code)

    def _is_ready(self, end: select.poll) -> bool:
        """Waits for one end of a pipe; False where the time is up."""
        self._hung = not end.poll(max(0.0, self._last + self._limit - time.monotonic()) * 1000)
        return not self._hung

    def _take(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            with suppress(ValueError):  # what is no JSON came from something else, say a login's greeting
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event and self._said is None:
                    self._last = time.monotonic()
                    if event["event"] in ("end", "error"):
                        self._said = str(event.get("message", ""))
                    else:
                        self._heard.append(event)
        self._over = not data or self._said is not None


def _explained(code: int) -> str:
    number = -code if code < 0 else code - 128  # the latter is a shell's, or a container's, word for a signal
    named = number in set(signal.Signals)
    return f"crash: {signal.Signals(number).name}" if named else f"crash: exit code {code} before the end"


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Gives a process time to end, and leaves it a zombie: its process group cannot be taken by another yet."""
    until = time.monotonic() + LAST_SECONDS
    while time.monotonic() < until:
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.01)
