"""The boards of a fleet: each takes replays as it gets free; one that fails is set aside, and others do its work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from backends.device.bundle import Bundle
from backends.device.reading import read_json
from backends.events import Answered
from backends.hosts import Target, availability, identity
from harness.plan.cells import ReplayStep
from harness.results.entries import BoardEntry
from harness.run.asking import Ran, ask
from harness.run.lanes import Share, side_by_side
from harness.run.stages import Work
from harness.run.tasks import verb

Keep = Callable[[int, ReplayStep, Answered, Ran], None]  # an answer of so many images


class Cases(NamedTuple):
    """Cases of one artifact, and their bundle."""

    steps: Sequence[ReplayStep]
    root: Path


class Queue:
    """What the boards of a fleet have left to replay; ``aside`` tells why some get no more, by address."""

    def __init__(self, several: Iterable[Cases], boards: Sequence[Target]) -> None:
        self._left, self._boards, self._lock = deque(several), boards, Lock()
        self.aside: dict[str, str] = {}

    @property
    def boards(self) -> list[Target]:
        """The boards that are not set aside."""
        return [board for board in self._boards if board.address not in self.aside]

    @property
    def steps(self) -> list[ReplayStep]:
        """The replays that are left."""
        return [step for cases in self._left for step in cases.steps]

    def take(self) -> Cases | None:
        """Take cases of one artifact, at most a board's share of all that is left; None where nothing is.

        Guided self-scheduling (Polychronopoulos and Kuck, 1987): a file is loaded seldom, and boards end together.
        """
        with self._lock:
            if not self._left:
                return None
            most = -(-len(self.steps) // max(len(self.boards), 1))
            steps, root = self._left.popleft()
            if steps[most:]:
                self._left.appendleft(Cases(steps[most:], root))
            return Cases(steps[:most], root)

    def set_aside(self, board: Target, why: str, back: Cases | None = None) -> None:
        """Give a board no more work, and what it could not do to the others."""
        with self._lock:
            self.aside[board.address] = why.partition("\n")[0]
            if back:
                self._left.appendleft(back)


def spread(work: Work, several: Iterable[tuple[Sequence[ReplayStep], Path]], share: Share, keep: Keep) -> None:
    """Replay cases of some artifacts on a fleet; what no board is left for has that as its error."""
    queue = _queue(work, [Cases(*one) for one in several])
    while queue.steps and queue.boards:
        side_by_side([partial(_on_board, work, board, queue, share, keep) for board in queue.boards], share)
    why = "; ".join(f"{address}: {reason}" for address, reason in queue.aside.items())
    work.errors.update({step.key: f"no board is left: {why}" for step in queue.steps})


def one_board(target: Target) -> Target:
    """Return the board that is timed or queried, as a target: the first that can run; of a single one, itself."""
    first, *others = target.boards
    return next((board for board in target.boards if not availability(board)), first) if others else first


def answered_by(work: Work, step: ReplayStep) -> Target:
    """Return the board that a stored answer is from, as a target."""
    if len(step.target.boards) == 1:
        return step.target
    address = read_json(work.store.path("replay", step.key) / "ran.json")["board"]
    return next(board for board in step.target.boards if board.address == address)


def named(target: Target, board: Target) -> dict[str, str]:
    """Return the address of the board that did something, as results have it; of a single board they have none."""
    return {"board": board.address} if len(target.boards) > 1 else {}


def boards(work: Work, target: Target) -> tuple[BoardEntry, ...]:
    """Return what each board of a fleet did in all runs that left the results; nothing for a single board."""
    if len(target.boards) == 1:
        return ()
    answered = {board.address: 0 for board in target.boards}
    aside: dict[str, str] = {}
    for step in work.plan.replays:
        if step.target.name == target.name and work.store.has("replay", step.key):
            ran = read_json(work.store.path("replay", step.key) / "ran.json")
            answered[ran["board"]] += 1
            aside |= ran["aside"]
    return tuple(
        BoardEntry.model_validate(
            {"address": address, "replays": n} | ({"aside": aside[address]} if address in aside else {})
        )
        for address, n in answered.items()
    )


def _queue(work: Work, several: Sequence[Cases]) -> Queue:
    """Return a queue for the boards that can run and are of one kind."""
    fleet = several[0].steps[0].target
    queue = Queue(several, fleet.boards)
    for board in fleet.boards:
        if why := availability(board) or _unlike(board, fleet):
            _set_aside(work, queue, board, why)
    return queue


def _unlike(board: Target, fleet: Target) -> str:
    """Return in what a board differs from the one that the fleet's results are stored under; empty if in nothing."""
    wanted, found = identity(fleet), identity(board)
    for name, value in wanted.items():
        if found.get(name) != value:
            return f"is of another kind than the fleet: {name} {found.get(name, 'unknown')}, expected {value}"
    return ""


def _on_board(work: Work, board: Target, queue: Queue, share: Share, keep: Keep) -> None:
    """Replay on one board what it takes of the queue, until a fault of its own ends that."""
    while board in queue.boards and (cases := queue.take()):
        share.go_on()
        _replay(work, board, queue, cases, share, keep)


def _replay(work: Work, board: Target, queue: Queue, cases: Cases, share: Share, keep: Keep) -> None:
    """Replay cases of one artifact on a board; what fails by its fault goes back to the queue."""
    first, n, aside = cases.steps[0], Bundle.read(cases.root).n, dict(queue.aside)
    here = [replace(step, target=board) for step in cases.steps]
    what = f"{first.pair}, {board.address}, {len(here)} cases"
    with work.display.doing(verb(first), what) as tick:

        def kept(step: ReplayStep, event: Answered, ran: Ran) -> None:
            keep(n, step, event, {**ran, "board": board.address, "aside": aside})

        def tell(finished: int, done: int, case: str) -> None:
            tick(finished * n + done, len(here) * n, case)

        outcome = ask(work, here, cases.root, share, kept, tell)
    if failed := [step for step in cases.steps if step.case.name in outcome.by_device]:
        why = [work.errors.pop(step.key) for step in failed]
        _set_aside(work, queue, board, why[0], Cases(failed, cases.root))


def _set_aside(work: Work, queue: Queue, board: Target, why: str, back: Cases | None = None) -> None:
    queue.set_aside(board, why, back)
    work.display.warn(f"board {board.address} is set aside: {queue.aside[board.address]}")
