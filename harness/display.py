"""Show progress: a bar for each running task and for the whole run, and a line for each finished task."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich import progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

Progress = Callable[[int, int, str], None]  # steps done, steps in total (0: unknown), what is happening
BAR_WIDTH = 16
EVERY = 60.0  # seconds between two lines about one task, where no bar can be shown


@dataclass
class Whole:
    """A run's steps by kind, and how long those of each kind took: the rest is expected to take as long.

    ``before`` are the seconds of a step in earlier runs, for the kinds that are still to come for the first time.
    """

    left: dict[str, int]
    before: Mapping[str, float] = field(default_factory=dict)
    took: dict[str, list[float]] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """How many steps are finished."""
        return sum(map(len, self.took.values()))

    @property
    def of(self) -> int:
        """How many steps there are."""
        return self.done + sum(self.left.values())

    def finish(self, kind: str, seconds: float) -> bool:
        """Count a finished step; return whether it is one of the run's."""
        if not self.left.get(kind):
            return False
        self.left[kind] -= 1
        self.took.setdefault(kind, []).append(seconds)
        return True

    def remaining(self) -> str:
        """Return about how long the rest takes; "over", where nothing is known of a kind of step that is to come."""
        means = dict(self.before) | {kind: sum(took) / len(took) for kind, took in self.took.items()}
        seconds = sum(n * means.get(kind, 0.0) for kind, n in self.left.items())
        is_known = all(kind in means for kind, n in self.left.items() if n)
        return f"{'about' if is_known else 'over'} {in_words(seconds)} left" if seconds else ""


@dataclass
class _Task:
    verb: str
    what: str
    begun: float
    done: int = 0
    of: int = 0
    word: str = ""

    def line(self, now: float) -> str:
        """Say how far the task is."""
        seconds = now - self.begun
        if 0 < self.done < self.of:
            left = in_words(seconds / self.done * (self.of - self.done))
            about = f"{self.done} of {self.of}, about {left} left"
        else:
            about = f"{in_words(seconds)} so far"
        return " · ".join(filter(None, [f"… {self.verb} {self.what}: {about}", self.word]))


class Display:
    """Live bars on a terminal; elsewhere a line per finished task, and one about each other every `EVERY` seconds.

    A quiet one shows warnings alone. Threads may share it.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console = console
        self._quiet = quiet
        columns = (
            bars.SpinnerColumn(),
            _What(table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            bars.BarColumn(BAR_WIDTH),
            _Extent(table_column=Column(no_wrap=True)),
        )
        self._has_bars = console.is_terminal and not quiet
        self._progress = bars.Progress(
            *columns, console=console, transient=True, expand=True, disable=not self._has_bars
        )
        self._lock = threading.Lock()
        self._running = 0
        self._whole: Whole | None = None
        self._whole_bar = bars.TaskID(0)

    def expect(self, steps: Mapping[str, int], seconds: Mapping[str, float]) -> None:
        """Announce a whole run: how many steps of each verb `doing` is going to see, and what one took before."""
        self._whole = Whole(dict(steps), seconds)
        self._whole_bar = self._progress.add_task(
            "the whole run", total=self._whole.of, word="", left=self._whole.remaining()
        )

    @contextmanager
    def doing(self, verb: str, what: str) -> Iterator[Progress]:
        """Show a task as `watching` does, then a line with the seconds it took."""
        begun = time.monotonic()
        with self.watching(verb, what) as tick:
            yield tick
        self.finished(verb, what, time.monotonic() - begun)

    @contextmanager
    def watching(self, verb: str, what: str) -> Iterator[Progress]:
        """Show a task while it lasts: a bar that the block moves with `Progress`."""
        state = _Task(verb, what, time.monotonic())
        with self._bar(verb, what) as bar, self._lines(state):

            def tick(done: int, of: int, word: str) -> None:
                state.done = done
                state.of = of
                state.word = word
                self._progress.update(bar, completed=done, total=of or None, word=word)

            yield tick

    @contextmanager
    def preparing(self, verb: str, what: str) -> Iterator[Callable[[str], None]]:
        """Show a task that is usually done already: the block's messages, and a line only if there was one."""
        state = _Task(verb, what, time.monotonic())
        with self._bar(verb, what) as bar:

            def report(word: str) -> None:
                state.word = word
                self._progress.update(bar, word=word)

            yield report
        if state.word:
            self.finished(verb, what, time.monotonic() - state.begun)

    def finished(self, verb: str, what: str, seconds: float) -> None:
        """Print the line of a task that is finished, here or elsewhere."""
        took = f"{seconds:.1f} s"
        with self._lock:
            if self._whole and self._whole.finish(verb, seconds):
                left = self._whole.remaining()
                if not self._has_bars:
                    took += f" · {', '.join(filter(None, [f'{self._whole.done} of {self._whole.of}', left]))}"
                self._progress.update(self._whole_bar, completed=self._whole.done, left=left)
        if not self._quiet:
            line = Text.assemble(("✓", "green"), f" {verb} ", (what, "bold"), " ", (took, "dim"))
            self.console.print(line)

    def say(self, line: str) -> None:
        """Print a line about what is going on."""
        if not self._quiet:
            self.console.print(Text(line, "dim"))

    def warn(self, line: str) -> None:
        """Print a line that must not be missed."""
        self.console.print(Text(line, "yellow"), soft_wrap=True)

    @contextmanager
    def _bar(self, verb: str, what: str) -> Iterator[bars.TaskID]:
        self._count(1)
        bar = self._progress.add_task(f"{verb} {what}", total=None, word="")
        try:
            yield bar
        finally:
            self._progress.remove_task(bar)
            self._count(-1)

    @contextmanager
    def _lines(self, task: _Task) -> Iterator[None]:
        """Print how far a task is from time to time, where no bar shows it."""
        ended = threading.Event()

        def tell() -> None:
            while not ended.wait(EVERY):
                self.say(task.line(time.monotonic()))

        if not self._has_bars:
            threading.Thread(target=tell, daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _count(self, change: int) -> None:
        """Show the live bars while any task runs."""
        with self._lock:
            self._running += change
            if change > 0 and self._running == 1:
                self._progress.start()
            elif not self._running:
                self._progress.stop()


def in_words(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2 h 5 min``; rounded up."""
    if seconds <= 90:
        return f"{math.ceil(seconds)} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class _What(bars.ProgressColumn):
    """The task, and what is happening; names are no markup."""

    def render(self, task: bars.Task) -> Text:
        return Text.assemble(task.description, " ", (task.fields["word"], "dim"))


class _Extent(bars.ProgressColumn):
    """How much of how much and the time left, where that is known; else the time so far."""

    def render(self, task: bars.Task) -> Text:
        if task.total is None:
            return Text(in_words(task.elapsed or 0), "progress.elapsed")
        left = task.fields.get("left")
        if left is None and task.time_remaining:
            left = f"{in_words(task.time_remaining)} left"
        return Text(", ".join(filter(None, [f"{int(task.completed)}/{int(task.total)}", left])), "progress.download")
