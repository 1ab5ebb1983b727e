"""Speaks with a device side that a host started, and watches over it: a crash or a hang becomes a sentence."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import IO, Any, NamedTuple

Event = dict[str, Any]


class Ending(NamedTuple):
    """Why a conversation did not end well, empty if it did; and the exit code of a process that ended by itself."""

    why: str = ""
    code: int | None = None


TAIL_LINES = 20
LAST_SECONDS = 5.0  # for a process that said its last word, to be gone by itself


def converse(
    process: subprocess.Popen[bytes], request: Mapping[str, Any], time_limit: float, hear: Callable[[Event], None]
) -> Ending:
    """Sends a request, lets `hear` have every event, and says how it ended.

    `process` leads a process group of its own and has pipes for standard input, output and error. Without an event for
    `time_limit` seconds it counts as hung. Whatever happens, an exception or a key included, the group is gone
    afterwards. What went wrong carries the last lines of standard error.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    tail: deque[bytes] = deque(maxlen=TAIL_LINES)
    listener = threading.Thread(target=tail.extend, args=(process.stderr,), daemon=True)
    listener.start()
    said, hung = None, False
    with process:
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(dict(request)).encode() + b"\n")
                process.stdin.flush()
            for event in _events(process.stdout, time_limit):
                if event["event"] in ("end", "error"):
                    said = str(event.get("message", ""))
                    break
                hear(event)
            _wait(process)
        except TimeoutError:
            hung = True
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            listener.join(LAST_SECONDS)
    if said is not None:
        return Ending(said)
    if hung:
        why = f"hang: no sign of life for {time_limit:g} s"
    else:
        number = -code if code < 0 else code - 128  # the latter is a shell's, or a container's, word for a signal
        named = number in set(signal.Signals)
        why = f"crash: {signal.Signals(number).name}" if named else f"crash: exit code {code} before the end"
    lines = [why, *(line.decode(errors="replace").rstrip() for line in tail)]
    return Ending("\n".join(lines), None if hung else code)


def _events(stream: IO[bytes], time_limit: float) -> Iterator[Event]:
    """The events of a device, until it closes its output; `TimeoutError` when it is silent for too long."""
    partial, last = b"", time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, last + time_limit - time.monotonic())):
                raise TimeoutError
            data = os.read(stream.fileno(), 1 << 16)
            if not data:
                return
            *lines, partial = (partial + data).split(b"\n")
            for line in lines:
                with suppress(ValueError):  # what is no JSON came from something else, say a login's greeting
                    event = json.loads(line)
                    if isinstance(event, dict) and "event" in event:
                        yield event
                        last = time.monotonic()


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Gives a process time to end, and leaves it a zombie: its process group cannot be taken by another yet."""
    until = time.monotonic() + LAST_SECONDS
    while time.monotonic() < until:
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.01)
