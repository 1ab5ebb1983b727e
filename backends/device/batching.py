"""Run a runtime batch by batch, check each output, and report progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.runtimes import Runtime


class Send(Protocol):
    """Send one event."""

    def __call__(self, event: str, **facts: Any) -> None:
        """Write ``{"event": event, **facts}`` as a line; see `backends.events`."""


class Progress:
    """Sends the number of images done, at most once in so many seconds."""

    def __init__(self, send: Send, seconds: float, **facts: Any) -> None:
        self._send = send
        self._seconds = seconds
        self._facts = facts
        self._done = 0
        self._sent = time.perf_counter()

    def __call__(self, more: int) -> None:
        """Count `more` images as done."""
        self._done += more
        if time.perf_counter() - self._sent > self._seconds:
            self._send("progress", done=self._done, **self._facts)
            self._sent = time.perf_counter()


def run_all(
    runtime: Runtime, x: NDArray[Any], batch: int, raws: NDArray[Any], where: str, progress: Callable[[int], None]
) -> None:
    """Run `x` batch by batch into ``raws`` ``(len(x), outputs)``; another shape or dtype is a `UserError`."""
    for i in range(0, len(x), batch):
        some = x[i : i + batch]
        raw = runtime.run(some)
        wanted = (len(some), raws.shape[1])
        if raw.shape != wanted or raw.dtype != raws.dtype:
            raise UserError(f"{where}: expected outputs {raws.dtype} {wanted}, got {raw.dtype} {raw.shape}")
        raws[i : i + len(some)] = raw
        progress(len(some))
