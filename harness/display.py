"""Show progress: a bar for each running task, and a line for each finished one."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console
from rich.text import Text

Progress = Callable[[int, int, str], None]  # steps done, steps in total (0: unknown), what is happening
EVERY = 60.0  # seconds between two lines about one task, where no bar can be shown


class Display:
    """Live bars on a terminal; elsewhere a line per finished task, and the progress of others every `EVERY` seconds.

    Threads may share it.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[word]}", style="dim", markup=False),
        )
        self._progress = bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._lock = threading.Lock()
        self._running = 0

    @contextmanager
    def doing(self, verb: str, what: str) -> Iterator[Progress]:
        """Show a task: a bar that the block moves with `Progress`, then a line with the seconds it took."""
        begun = printed = time.monotonic()
        progress = self._progress
        self._count(1)
        task = progress.add_task(f"{verb} {what}", total=None, word="")

        def tick(done: int, of: int, word: str) -> None:
            nonlocal printed
            progress.update(task, completed=done, total=of or None, word=word)
            now = time.monotonic()
            if not self.console.is_terminal and now - printed >= EVERY and 0 < done < of:
                printed = now
                left = math.ceil((now - begun) / done * (of - done) / 60)
                about = " · ".join(filter(None, [f"about {left} min left", word]))
                self.console.print(Text(f"… {verb} {what}: {done} of {of}, {about}", "dim"))

        try:
            yield tick
        finally:
            progress.remove_task(task)
            self._count(-1)
        self._done(verb, what, begun)

    @contextmanager
    def preparing(self, verb: str, what: str) -> Iterator[Callable[[str], None]]:
        """Show a task that is usually done already: the block's messages, and a line only if there was one."""
        begun = time.monotonic()
        reported = False
        self._count(1)
        task = self._progress.add_task(f"{verb} {what}", total=None, word="")

        def report(word: str) -> None:
            nonlocal reported
            reported = True
            self._progress.update(task, word=word)

        try:
            yield report
        finally:
            self._progress.remove_task(task)
            self._count(-1)
        if reported:
            self._done(verb, what, begun)

    def warn(self, line: str) -> None:
        """Print a line that must not be missed."""
        self.console.print(Text(line, "yellow"), soft_wrap=True)

    def _done(self, verb: str, what: str, begun: float) -> None:
        took = f"{time.monotonic() - begun:.1f} s"
        self.console.print(Text.assemble(("✓", "green"), f" {verb} ", (what, "bold"), " ", (took, "dim")))

    def _count(self, change: int) -> None:
        """Show the live bars while any task runs."""
        with self._lock:
            self._running += change
            if change > 0 and self._running == 1:
                self._progress.start()
            elif not self._running:
                self._progress.stop()
