"""Work side by side: cores are never given twice, lanes keep their order, and a failure stops the others."""

import threading
import time

import pytest

from harness.run.lanes import Job, Share, Stopped, side_by_side


class Watch:
    """Counts what runs at the same time."""

    def __init__(self) -> None:
        self.lock, self.now, self.most, self.order = threading.Lock(), 0, 0, []

    def job(self, name: str, cores: int) -> Job:
        def run() -> None:
            with self.lock:
                self.now += cores
                self.most = max(self.most, self.now)
                self.order.append(name)
            time.sleep(0.02)
            with self.lock:
                self.now -= cores

        return Job(cores, run)


def test_no_more_than_all_cores_are_busy_and_lanes_keep_their_order() -> None:
    watch = Watch()
    lanes = [[watch.job(f"{lane}{i}", cores=1 + lane % 3) for i in range(4)] for lane in range(6)]
    side_by_side(lanes, Share(3))
    assert watch.most <= 3
    assert len(watch.order) == 24
    for lane in range(6):
        mine = [name for name in watch.order if name.startswith(str(lane))]
        assert mine == [f"{lane}{i}" for i in range(4)]


def test_work_elsewhere_waits_for_nobody() -> None:
    begun, share = threading.Event(), Share(1)
    side_by_side([[Job(1, lambda: begun.wait(5) or pytest.fail("held up"))], [Job(0, begun.set)]], share)


def test_what_wants_more_cores_than_there_are_runs_alone() -> None:
    watch = Watch()
    side_by_side([[Job(8, watch.job("big", 2).run)], [watch.job("small", 1)] * 3], Share(2))
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
        side_by_side([[Job(0, long)], [Job(0, fail)], [Job(1, long)]], share)
    assert not did
    assert time.monotonic() - started < 3
    with pytest.raises(Stopped), share.taking(1):
        pass
