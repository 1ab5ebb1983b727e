"""A third party's runtime that does what its option ``fault`` says, in the run of its option ``at``."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.device.machine import describe
from backends.device.runtimes import Option, dummy

NO_HASH = "0" * 64
CASE = {"event": "case", "case": "none", "file": "none.npz", "file_sha256": NO_HASH, "pixels_sha256": NO_HASH}
CASE |= {"seconds": 1.0, "cpu_seconds": 1.0, "anonymous_bytes": None}
LOADED = {"event": "loaded", "info": {"version": "9"}, "machine": describe()._asdict(), "packages": []}
LOADED |= {"load_seconds": 1.0, "first_run_seconds": 1.0, "outputs": dummy.OUTPUTS, "bundle_sha256": NO_HASH}


def events() -> int:
    """Find the stream of the events, which only the replay should write to."""
    for fd in range(3, 100):
        try:
            is_writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            if is_writable and not stat.S_ISREG(os.fstat(fd).st_mode):
                return fd
        except OSError:
            continue
    raise SystemExit("no stream of events was found")


def say(*lines: object) -> None:
    """Write lines among the events, as JSON unless they are bytes."""
    stream = events()
    for line in lines:
        whole = line if isinstance(line, bytes) else json.dumps(line).encode()
        rest = memoryview(whole + b"\n")
        while rest:
            rest = rest[os.write(stream, rest) :]


def forever(piece: bytes) -> None:
    """Write the same again and again."""
    stream = events()
    while True:
        os.write(stream, piece)


def fork_and_hang() -> None:
    """Leave a child that holds all streams, and end."""
    if os.fork():
        os._exit(0)
    time.sleep(600)


def fork_and_go_on() -> None:
    """Leave a child that holds all streams, and go on."""
    if not os.fork():
        time.sleep(600)
        os._exit(0)


def close_all() -> None:
    """Close every stream, and hang."""
    os.closerange(0, 100)
    time.sleep(600)


def interrupt() -> None:
    """Pretend that a user pressed Ctrl-C."""
    raise KeyboardInterrupt


def fail() -> None:
    """Raise an exception."""
    raise RuntimeError("kernel panic")


DOES: dict[str, Callable[[], object]] = {
    "SIGSEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "abort": os.abort,
    "exception": fail,
    "exit 0 at once": lambda: os._exit(0),
    "sys.exit(0)": lambda: sys.exit(0),
    "KeyboardInterrupt": interrupt,
    "hang": lambda: time.sleep(600),
    "native hang": lambda: ctypes.PyDLL(None).sleep(600),
    "SIGSTOP": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "forked, parent gone": fork_and_hang,
    "forked, goes on": fork_and_go_on,
    "closed streams": close_all,
    "words on stdout": lambda: print('{"event": "end"}', flush=True),
    "unknown case": lambda: say(CASE | {"case": "other"}),
    "unknown event": lambda: say({"event": "party", "case": "none"}),
    "case without keys": lambda: say({"event": "case"}),
    "progress without keys": lambda: say({"event": "progress"}),
    "event that is a list": lambda: say({"event": ["case"], "case": "none"}),
    "loaded of other types": lambda: say({"event": "loaded", "info": [1], "machine": "mine"}),
    "loaded twice": lambda: say(LOADED),
    "numbers that are none": lambda: say(b'{"event": "progress", "case": "none", "done": 1e999, "of": NaN}'),
    "integer of 10000 digits": lambda: say(b'{"event": "progress", "case": "none", "done": ' + b"9" * 10000 + b"}"),
    "nested 100000 deep": lambda: say(b'{"event": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "not UTF-8": lambda: say(b'{"event": "progress", "case": "\xff\xfe"}'),
    "file elsewhere": lambda: say(CASE | {"file": "../../../../etc/passwd"}),
    "file that is missing": lambda: say(CASE | {"file": "missing.npz"}),
    "other pixels": lambda: say(CASE),
    "error of another type": lambda: say({"event": "error", "message": [1, {"a": 2}]}),
    "early end": lambda: say({"event": "end"}),
    "endless line": lambda: forever(b"x" * (1 << 20)),
    "endless lines": lambda: forever(b"x" * 79 + b"\n"),
    "endless progress": lambda: forever(b'{"event": "progress", "case": "none", "done": 1, "of": 40}\n'),
    "not a number": lambda: None,  # the rest is done to the answers
    "infinity": lambda: None,
    "wrong shape": lambda: None,
    "wrong number of images": lambda: None,
    "wrong dtype": lambda: None,
    "no answer": lambda: None,
    "writes into its input": lambda: None,
}


class Engine(dummy.Engine):
    """The runtime that returns its input, until its fault."""

    def load(self, path: Path, options: Mapping[str, Option], threads: int) -> None:
        """Take the fault."""
        super().load(path, {}, threads)
        self._evil = str(options["fault"])
        self._when = int(options.get("at", 5))

    def run(self, x: NDArray[Any]) -> NDArray[Any]:
        """Answer, or do what the fault is."""
        answer = super().run(x)
        if self._count != self._when:
            return answer
        DOES[self._evil]()
        if self._evil == "writes into its input":
            x[:] = 0
        changed: dict[str, object] = {
            "not a number": answer * np.nan,
            "infinity": answer + np.inf,
            "wrong shape": answer[:, :3],
            "wrong number of images": np.repeat(answer, 2, axis=0),
            "wrong dtype": answer.astype(np.float64),
            "no answer": None,
        }
        return changed.get(self._evil, answer)  # type: ignore[return-value]
