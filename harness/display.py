"""What a run shows while it works: a bar with the time left, and a line for each thing done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

Tick = Callable[[int, int, str], None]  # done, of, a word on how it goes


class Display:
    """A terminal's live bar; where there is no terminal, the lines alone."""

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def doing(self, verb: str, what: str) -> Iterator[Tick]:
        """Shows one piece of work: a bar that the block moves by `Tick`, then a line with the seconds it took."""
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[word]}"),
        )  # fmt: skip
        begun = time.monotonic()
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(f"{verb} {what}", total=None, word="")
            yield lambda done, of, word: progress.update(task, completed=done, total=of, word=word)
        self.console.print(f"[green]✓[/] {verb} [bold]{what}[/] [dim]{time.monotonic() - begun:.1f} s", highlight=False)
