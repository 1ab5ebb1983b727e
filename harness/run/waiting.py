"""What waits for a cluster's workers: given out by urgency, as they get free.

A scheduler that has all at once shares it out before anybody knows how long it takes: a worker that got what is short
does it first, and what is long is left to one of them at the end.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from harness.run.graph import Node

Reserve = Callable[[str, Node], bool]


class Waiting:
    """Nodes in the order of their priority, each once those before it are done."""

    def __init__(self, priority: Callable[[Node], float]) -> None:
        self._priority = priority
        self._nodes: dict[str, Node] = {}  # that are not ready
        self._before: dict[str, set[str]] = {}
        self._after: dict[str, list[str]] = defaultdict(list)
        # by what they need, so that those which wait for one board do not hide others
        self._ready: dict[frozenset[tuple[str, float]], list[tuple[float, int, str, Node]]] = defaultdict(list)
        self._number = count()

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
        ready = self._ready[frozenset(node.needs.items())]
        heapq.heappush(ready, (-self._priority(node), next(self._number), name, node))

    def take(self, reserve: Reserve) -> Iterator[tuple[str, Node]]:
        """Yield what is ready, the most urgent first, once `reserve` has kept for it what it needs."""
        able = {needs for needs, ready in self._ready.items() if ready}
        while able:
            needs = min(able, key=lambda one: self._ready[one][0])
            _, _, name, node = self._ready[needs][0]
            if reserve(name, node):
                heapq.heappop(self._ready[needs])
                yield name, node
                if self._ready[needs]:
                    continue
            able.remove(needs)

    def done(self, name: str) -> None:
        """Make ready what came after a node and nothing else."""
        for other in self._after.pop(name, ()):
            self._before[other].remove(name)
            if not self._before[other]:
                del self._before[other]
                self.add_ready(other, self._nodes.pop(other))
