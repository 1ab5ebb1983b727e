"""Work side by side: cores are never given twice, lanes keep their order, and a failure stops the others."""

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial

import pytest

from harness.run.lanes import Share, Stopped, side_by_side


class Watch:
    """Counts what runs at the same time."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.order = threading.Lock(), 0, 0, []

    def work(self, name: str, cores: int) -> None:
        with self.lock:
            self.now += cores
            self.most = max(self.most, self.now)
            self.order.append(name)
        time.sleep(0.02)
        with self.lock:
            self.now -= cores


def lane(share: Share, jobs: Sequence[tuple[int, Callable[[], object]]]) -> Callable[[], None]:
    """Work in order, each with its cores."""

    def run() -> None:
        for cores, work in jobs:
            with share.taking(cores):
                work()

    return run


def test_no_more_than_all_cores_are_busy_and_lanes_keep_their_order() -> None:
    watch, share = Watch(), Share(3)
    jobs = [[(1 + n % 3, partial(watch.work, f"{n}{i}", 1 + n % 3)) for i in range(4)] for n in range(6)]
    side_by_side([lane(share, several) for several in jobs], share)
    assert watch.most <= 3
    assert len(watch.order) == 24
    for n in range(6):
        mine = [name for name in watch.order if name.startswith(str(n))]
        assert mine == [f"{n}{i}" for i in range(4)]


def test_work_elsewhere_waits_for_nobody() -> None:
    begun, share = threading.Event(), Share(1)
    side_by_side(
        [lane(share, [(1, lambda: begun.wait(5) or pytest.fail("held up"))]), lane(share, [(0, begun.set)])], share
    )


def test_what_wants_more_cores_than_there_are_runs_alone() -> None:
    watch, share = Watch(), Share(2)
    big, small = (8, lambda: watch.work("big", 2)), (1, lambda: watch.work("small", 1))
    side_by_side([lane(share, [big]), lane(share, [small] * 3)], share)
    assert watch.most == 2


def test_a_failure_stops_those_that_wait_and_those_that_ask() -> None:
    share, did = Share(1), []

    def fail() -> None:
        raise OSError("no space")

    def long() -> None:
        for _ in range(500):
            share.go_on()
            time.sleep(0.01)
        did.append("to the end")

    started = time.monotonic()
    with pytest.raises(OSError, match="no space"):
        side_by_side([lane(share, [job]) for job in ((0, long), (0, fail), (1, long))], share)
    assert not did
    assert time.monotonic() - started < 3
    with pytest.raises(Stopped), share.taking(1):
        pass


def test_lanes_have_the_context_of_the_caller() -> None:
    word: ContextVar[str] = ContextVar("word")
    word.set("ours")
    seen: list[str] = []
    side_by_side([lambda: seen.append(word.get())] * 2, Share(1))
    assert seen == ["ours", "ours"]
