"""What a run shows while it works: a bar for each thing under way, and a line for each thing done."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

Progress = Callable[[int, int, str], None]  # steps done, steps in all (0: unknown), what is being done
EVERY = 60.0  # seconds between two lines on one piece of work, where no bar can be shown


class Display:
    """A terminal's live bars; without one, lines: what is done, and every `EVERY` seconds how far work has come.

    Several threads may show their work.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("[dim]{task.fields[word]}"),
        )
        self._progress = bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._lock, self._under_way = threading.Lock(), 0

    @contextmanager
    def doing(self, verb: str, what: str) -> Iterator[Progress]:
        """Shows one piece of work: a bar that the block moves by `Progress`, then a line with the seconds it took."""
        begun, progress, what = time.monotonic(), self._progress, escape(what)
        self._count(1)
        task = progress.add_task(f"{verb} {what}", total=None, word="")
        told = begun

        def tick(done: int, of: int, word: str) -> None:
            nonlocal told
            progress.update(task, completed=done, total=of or None, word=word)
            now = time.monotonic()
            if not self.console.is_terminal and now - told >= EVERY and 0 < done < of:
                told = now
                left = math.ceil((now - begun) / done * (of - done) / 60)
                about = " · ".join(filter(None, [f"about {left} min left", escape(word)]))
                self.console.print(f"[dim]… {verb} {what}: {done} of {of}, {about}", highlight=False)

        try:
            yield tick
        finally:
            progress.remove_task(task)
            self._count(-1)
        self._done(verb, what, begun)

    @contextmanager
    def preparing(self, verb: str, what: str) -> Iterator[Callable[[str], None]]:
        """Shows work that usually has nothing to do: what the block tells, and a line only if it told something."""
        begun, told = time.monotonic(), False
        self._count(1)
        task = self._progress.add_task(f"{verb} {escape(what)}", total=None, word="")

        def tell(word: str) -> None:
            nonlocal told
            told = True
            self._progress.update(task, word=escape(word))

        try:
            yield tell
        finally:
            self._progress.remove_task(task)
            self._count(-1)
        if told:
            self._done(verb, escape(what), begun)

    def _done(self, verb: str, what: str, begun: float) -> None:
        self.console.print(f"[green]✓[/] {verb} [bold]{what}[/] [dim]{time.monotonic() - begun:.1f} s", highlight=False)

    def _count(self, change: int) -> None:
        """The live part is there while anything is under way."""
        with self._lock:
            self._under_way += change
            if change > 0 and self._under_way == 1:
                self._progress.start()
            elif not self._under_way:
                self._progress.stop()
