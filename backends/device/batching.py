"""Images through a runtime, some at a time: each answer is checked, and how far it is gets told."""

from __future__ import annotations

import time
from typing import Any, Protocol

from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.runtimes import Runtime


class Send(Protocol):
    """Writes one event."""

    def __call__(self, event: str, **facts: Any) -> None:
        """Writes ``{"event": event, **facts}`` as a line."""


class Progress:
    """Sends how many images are done, no more often than every so many seconds."""

    def __init__(self, send: Send, seconds: float, **facts: Any) -> None:
        self._send, self._seconds, self._facts = send, seconds, facts
        self._done, self._sent = 0, time.perf_counter()

    def __call__(self, more: int) -> None:
        """So many more are done."""
        self._done += more
        if time.perf_counter() - self._sent > self._seconds:
            self._send("progress", done=self._done, **self._facts)
            self._sent = time.perf_counter()


def run_all(runtime: Runtime, x: NDArray[Any], batch: int, raws: NDArray[Any], where: str, progress: Progress) -> None:
    """Runs inputs `batch` at a time into ``raws`` ``(len(x), outputs)``; an answer of another kind is a `UserError`."""
    for i in range(0, len(x), batch):
        some = x[i : i + batch]
        raw, wanted = runtime.run(some), (len(some), raws.shape[1])
        if raw.shape != wanted or raw.dtype != raws.dtype:
            expected = f"{raws.dtype} {wanted}"
            raise UserError(f"{where}: expected outputs {expected}, got {raw.dtype} {raw.shape}")
        raws[i : i + wanted[0]] = raw
        progress(wanted[0])
