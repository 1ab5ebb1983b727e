"""What waits for workers, and in what order they get it."""

import heapq
from collections import Counter
from itertools import compress, product

from hypothesis import given
from hypothesis import strategies as st

from harness.plan.cells import LatencyStep
from harness.run.graph import Node
from harness.run.waiting import Waiting

NEEDS = st.sampled_from([{"cores": 1.0}, {"cores": 2.0}, {"cores": 1.0, "qemu": 1.0}, {"board:a": 1.0}])
ROOM = {"cores": 4.0, "qemu": 2.0, "board:a": 1.0}


def node(name: str, after: frozenset[str] = frozenset(), needs: dict[str, float] | None = None) -> Node:
    return Node(name, "do", name, LatencyStep.__new__(LatencyStep), (), after, needs or {"cores": 1.0})


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Node]:
    made: dict[str, Node] = {}
    for number in range(draw(st.integers(1, 30))):
        after = draw(st.frozensets(st.sampled_from(sorted(made)), max_size=3)) if made else frozenset[str]()
        made[str(number)] = node(str(number), after | {"done before"}, draw(NEEDS))
    return made


class Room:
    """Places of one worker with what ROOM says."""

    def __init__(self, has: dict[str, float]) -> None:
        self.has, self.takes = has, dict[str, Node]()

    def fits(self, node: Node) -> bool:
        taken = Counter[str]()
        for other in self.takes.values():
            taken.update(other.needs)
        return all(taken[need] + n <= self.has.get(need, 0.0) for need, n in node.needs.items())

    def reserve(self, name: str, node: Node) -> bool:
        if not self.fits(node):
            return False
        self.takes[name] = node
        return True


@given(nodes=graphs(), data=st.data())
def test_all_come_after_what_they_wait_for_the_most_urgent_that_fit_first(
    nodes: dict[str, Node], data: st.DataObject
) -> None:
    urgency = {name: data.draw(st.integers(0, 3)) for name in nodes}
    waiting = Waiting(lambda one: urgency[one.name])
    waiting.add(nodes)
    done: set[str] = set()
    room = Room(ROOM)
    while len(done) < len(nodes):
        ready = {name for name, one in nodes.items() if one.after & nodes.keys() <= done} - done - room.takes.keys()
        fit = {name for name in ready if room.fits(nodes[name])}
        for name, one in waiting.take(room.reserve):
            assert one is nodes[name]
            assert name in fit
            assert urgency[name] == max(urgency[one] for one in fit)
            ready.remove(name)
            fit = {name for name in ready if room.fits(nodes[name])}
        assert not fit
        ended = data.draw(st.sampled_from(sorted(room.takes)))
        del room.takes[ended]
        waiting.done(ended)
        done.add(ended)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(1, 3))
def test_workers_that_get_the_longest_first_end_almost_together(lasts: list[int], workers: int) -> None:
    """Within the bound of Graham (1969): 4/3 - 1/3m of the best that m workers can do."""
    waiting = Waiting(lambda one: float(lasts[int(one.name)]))
    waiting.add({str(number): node(str(number)) for number in range(len(lasts))})
    room = Room({"cores": float(workers)})
    now, ends = 0, list[tuple[int, str]]()
    for _ in lasts:
        for name, _ in waiting.take(room.reserve):
            heapq.heappush(ends, (now + lasts[int(name)], name))
        now, name = heapq.heappop(ends)
        del room.takes[name]
        waiting.done(name)
    shared = product(range(workers), repeat=len(lasts))
    best = min(max(sum(compress(lasts, [one == who for who in whose])) for one in range(workers)) for whose in shared)
    assert now <= best * (4 / 3 - 1 / (3 * workers)) + 1e-9


def test_what_nobody_offers_waits_and_holds_nothing_up() -> None:
    waiting = Waiting(lambda one: 0.0)
    waiting.add({"board": node("board", needs={"board:b": 1.0}), "other": node("other")})
    assert [name for name, _ in waiting.take(Room(ROOM).reserve)] == ["other"]
    assert [name for name, _ in waiting.take(Room(ROOM | {"board:b": 1.0}).reserve)] == ["board"]
