"""Run targets side by side, as far as this machine's cores allow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context

from backends.device.machine import usable_cores

MOST_AT_ONCE = 16


class Stopped(Exception):
    """Another job failed, or the user stopped the run."""


class Share:
    """Cores of this machine, taken and given back; a job that wants more than exist waits until it is alone."""

    def __init__(self, cores: int | None = None) -> None:
        self.cores = self._free = cores or usable_cores()
        self._changed, self._stopping = threading.Condition(), False

    @contextmanager
    def taking(self, cores: int) -> Iterator[None]:
        """Hold a number of cores for the block, once they are free."""
        cores = min(cores, self.cores)
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._free >= cores)
            self.go_on()
            self._free -= cores
        try:
            yield
        finally:
            with self._changed:
                self._free += cores
                self._changed.notify_all()

    def go_on(self) -> None:
        """Raise `Stopped` if the run is stopping."""
        if self._stopping:
            raise Stopped

    def stop(self) -> None:
        """Stop every job that waits for cores or calls `go_on`."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()


def side_by_side(lanes: Sequence[Callable[[], None]], share: Share) -> None:
    """Run lanes side by side, each of which takes its cores from the share; the first failure stops the others.

    Each lane has the context variables of the caller.
    """
    if not lanes:
        return
    with ThreadPoolExecutor(min(len(lanes), MOST_AT_ONCE)) as pool:
        futures = [pool.submit(copy_context().run, lane) for lane in lanes]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() and not future.exception() for future in futures):
                share.stop()
    failures = [error for future in futures if (error := future.exception())]
    for error in sorted(failures, key=lambda error: isinstance(error, Stopped)):
        raise error
