"""Run a runtime batch by batch, check each output, and report progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from backends.device.errors import UserError
from backends.device.runtimes import Runtime

PAUSE = 0.05  # seconds between two calls of a progress


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
        self._due = time.perf_counter() + seconds

    def __call__(self, more: int) -> None:
        """Count `more` images as done."""
        self._done += more
        if time.perf_counter() > self._due:
            self._send("progress", done=self._done, **self._facts)
            self._due = time.perf_counter() + self._seconds


def run_all(
    runtime: Runtime, x: NDArray[Any], batch: int, raws: NDArray[Any], where: str, progress: Callable[[int], None]
) -> None:
    """Run `x` batch by batch into ``raws`` ``(len(x), outputs)``; another shape or dtype is a `UserError`.

    `progress` hears how many more images are done, twenty times a second: to call it for each one costs a fast network
    half a per cent of its throughput.
    """
    done, due = 0, time.perf_counter() + PAUSE
    for i in range(0, len(x), batch):
        raw = runtime.run(x[i : i + batch])
        wanted = raws[i : i + batch]
        if raw.shape != wanted.shape or raw.dtype != wanted.dtype:
            raise UserError(f"{where}: expected outputs {wanted.dtype} {wanted.shape}, got {raw.dtype} {raw.shape}")
        wanted[:] = raw
        done += len(raw)
        if time.perf_counter() > due:
            progress(done)
            done, due = 0, time.perf_counter() + PAUSE
    if done:
        progress(done)
