"""What waits for a cluster's workers: given out by urgency, as they get free.

A scheduler that has all at once shares it out before anybody knows how long it takes: a worker that got what is short
does it first, and what is long is left to one of them at the end.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from harness.run.graph import Node

Needs = Mapping[str, float]


class Waiting:
    """Nodes in the order of their priority, each once those before it are done; `needs` says what one takes."""

    def __init__(self, priority: Callable[[Node], float], needs: Callable[[Node], Needs]) -> None:
        self._priority, self._needs = priority, needs
        self._before: dict[str, set[str]] = {}  # of each that is not ready
        self._nodes: dict[str, Node] = {}
        self._after: dict[str, list[str]] = defaultdict(list)
        # by what they need, so that those which wait for one board do not hide others
        self._ready: dict[frozenset[str], list[tuple[float, int, str, Node]]] = defaultdict(list)
        self._number = count()
        self._takes: dict[str, Needs] = {}
        self._taken: Counter[str] = Counter()

    def add(self, nodes: Mapping[str, Node]) -> None:
        """Add nodes by name; what they come after and is not among them is done."""
        for name, node in nodes.items():
            before = set(node.after & nodes.keys())
            if not before:
                self.add_ready(name, node)
                continue
            self._nodes[name], self._before[name] = node, before
            for one in before:
                self._after[one].append(name)

    def add_ready(self, name: str, node: Node) -> None:
        """Add one that comes after nothing, or what a node has left to do under a name of its own."""
        heapq.heappush(self._ready[frozenset(node.needs)], (-self._priority(node), next(self._number), name, node))

    def take(self, room: Needs) -> Iterator[tuple[str, Node]]:
        """Yield what is ready, the most urgent first, as long as there is room for what it needs."""
        while True:
            fitting = [
                ready for needs, ready in self._ready.items()
                if ready and all(self._taken[need] < room.get(need, 0.0) for need in needs)
            ]  # fmt: skip
            if not fitting:
                return
            _, _, name, node = heapq.heappop(min(fitting))
            self._takes[name] = self._needs(node)
            self._taken.update(self._takes[name])
            yield name, node

    def done(self, name: str) -> None:
        """Give back what it took; what came after it alone is ready."""
        self._taken.subtract(self._takes.pop(name))
        for other in self._after.pop(name, ()):
            self._before[other].remove(name)
            if not self._before[other]:
                del self._before[other]
                self.add_ready(other, self._nodes.pop(other))
