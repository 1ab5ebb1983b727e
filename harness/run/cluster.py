"""A run on a cluster: Dask's scheduler gives the nodes of the graph to workers, this process watches and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from backends.device.errors import UserError
from harness.run import perform, worker
from harness.run.crew import Crew
from harness.run.deployments import Deployment, opened
from harness.run.graph import Node, graph, latencies
from harness.run.replays import Batch
from harness.run.stages import Work
from harness.run.tasks import known_times, tasks
from harness.run.waiting import Waiting
from harness.run.worker import Done, Job

if TYPE_CHECKING:
    from distributed import Client, Future

TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0  # between two looks at the list of workers
QUEUE_SECONDS = 3600.0  # for the first worker to come: a batch system has a queue
LOST_SECONDS = 60.0  # for a scheduler or a worker to come back
AGAIN = "finished work is kept: run again to go on"
LOST = f"the scheduler has lost the run; {AGAIN}"


def carry_out(work: Work, job: Job, deployment: Deployment, word: str) -> None:
    """Do all that a plan needs on the workers of a cluster; what is timed comes last, with nothing else running."""
    nodes = graph(work.plan, work.device)
    if not any(_missing(work, several) for several in (nodes, latencies(work.plan))):
        return
    with opened(deployment, word) as client, _announced(work, job):
        crew = Crew(client, job, work.plan, work.display)
        expected = _expected(work)
        with work.display.preparing("wait", f"for the workers of {word}"):
            crew.gather(deployment.expected, QUEUE_SECONDS)
        for several in (nodes, latencies(work.plan)):
            _Watch(work, job, client, crew, expected).over(_missing(work, several))
    work.store.clear()  # of workers that died


@contextmanager
def _announced(work: Work, job: Job) -> Iterator[None]:
    """Leave a file where every worker has to see it: in the store that they share."""
    file = work.store.scratch / job.token
    file.touch()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _expected(work: Work) -> dict[tuple[str, str], float]:
    """Return what each result that is missing is expected to take, in seconds; infinite where no earlier run tells."""
    known = known_times(work.store.root.parent)
    missing = [task for task in tasks(work.plan) if not work.store.has(task.stage, task.key)]
    seconds = {(task.stage, task.key): known.estimate(task) for task in missing}
    return {result: math.inf if one is None else one for result, one in seconds.items()}


def priority(node: Node, expected: Mapping[tuple[str, str], float]) -> float:
    """Return a node's urgency; of equal ones the longest comes first, so that none is left alone at the end."""
    seconds = sum(expected.get(result, 0.0) for result in node.results)
    return node.urgency + 1 - 1 / (2 + seconds)


def _missing(work: Work, nodes: dict[str, Node]) -> dict[str, Node]:
    """Return what is still to do; a bundle, or the check of a twin, only where something that is to do waits for it."""
    missing = {name: node for name, node in nodes.items() if not perform.is_done(work, node)}
    wanted = {before for node in missing.values() for before in node.after}
    return {name: node for name, node in missing.items() if node.stage not in ("bundle", "twin") or name in wanted}


class _Watch:
    """Hands nodes to the scheduler, and hears of each as it is done."""

    def __init__(
        self, work: Work, job: Job, client: Client, crew: Crew, expected: Mapping[tuple[str, str], float]
    ) -> None:
        from distributed import as_completed

        self._work, self._job, self._client, self._crew = work, job, client, crew
        self._urgency = partial(priority, expected=expected)
        self._waiting = Waiting(self._urgency)
        self._futures: dict[str, Future] = {}  # of what the scheduler has
        self._pending: dict[str, Node] = {}  # all that is to do
        self._parts: dict[str, set[str]] = {}  # of a replay, those that are still to come
        self._took: dict[str, float] = {}  # seconds of a replay in parts, so far
        # with results: to ask for one that died with its worker would wait until others do it again, and look at none
        self._finished = as_completed([], loop=client.loop, with_results=True, raise_errors=False)
        self._looked = self._heard = self._met = time.monotonic()

    def over(self, nodes: dict[str, Node]) -> None:
        """Do nodes, which are in order; a user's mistake in one ends all."""
        if not nodes:
            return
        with self._work.display.doing("share", f"{len(nodes)} steps among {self._crew.size} workers") as tick:
            try:
                if self._client.status == "running":
                    self._crew.look()  # so that what a lost worker did alone is another's
                for node in nodes.values():
                    if why := self._crew.unmet(node):
                        self._fail(node, why)
                    else:
                        self._pending[node.name] = node
                self._waiting.add(self._pending)
                while self._pending:
                    for name, node in self._waiting.take(self._crew.reserve):
                        self._hand(name, node)
                    for future, done in self._next():
                        self._hear(future, done)
                        tick(len(nodes) - len(self._pending), len(nodes), "")
            finally:
                self._end()

    def _hand(self, name: str, node: Node) -> None:
        self._futures[name] = self._client.submit(
            worker.do, self._job, name, self._crew.cores, key=f"{name}-{self._job.token}", pure=False,
            priority=self._urgency(node), resources=self._crew.resources(node),
        )  # fmt: skip
        self._finished.add(self._futures[name])

    def _next(self) -> list[tuple[Future, Done]]:
        """Wait until something has finished, or it is time to look at the workers; return what has, and how."""
        while True:
            now = time.monotonic()
            if self._client.status == "running":
                self._heard = now
                finished: list[tuple[Future, Done]] = self._finished.next_batch(block=False)
                if now - self._looked > LOOK_SECONDS:
                    self._crew.look()
                    self._looked = time.monotonic()
                    self._check_met()
                    return finished
                if finished:
                    return finished
            elif now - self._heard > LOST_SECONDS:
                raise UserError(f"the scheduler has been gone for {LOST_SECONDS:g} s; {AGAIN}")
            with self._finished.thread_condition:
                if not self._finished.has_ready():
                    self._finished.thread_condition.wait(TICK_SECONDS)

    def _check_met(self) -> None:
        """Give workers time to come back; what then still has none that can do it is a `UserError`."""
        if any(future.cancelled() for future in self._futures.values()):
            raise UserError(LOST)
        unmet = next((why for node in self._pending.values() if (why := self._crew.unmet(node))), "")
        if not unmet:
            self._met = self._looked
        elif self._looked - self._met > LOST_SECONDS:
            raise UserError(f"for {LOST_SECONDS:g} s {unmet}; {AGAIN}")

    def _hear(self, future: Future, done: Done) -> None:
        name = str(future.key).removesuffix(f"-{self._job.token}")
        node = self._pending.pop(name)
        del self._futures[name]
        self._crew.free(name)
        self._waiting.done(name)
        if not isinstance(done, Done):
            self._raise(future, node)
        if done.refused:
            raise UserError(done.refused)
        self._work.errors.update(done.errors)
        for stage, key in node.results:
            self._work.store.offer(stage, key)
        if name.startswith("part:"):
            self._hear_part(name, node, done.seconds)
        elif done.parts:
            self._split(node, done.parts)
            self._took[node.name] = done.seconds
        else:
            self._work.display.finished(node.verb, node.what, done.seconds)

    def _raise(self, future: Future, node: Node) -> NoReturn:
        """Raise what came instead of a result."""
        from distributed import KilledWorker

        error = future.exception() if future.status == "error" else UserError(LOST)
        if isinstance(error, KilledWorker):
            died = f"{error.allowed_failures + 1} workers died while they did it, the last {error.last_worker.address}"
            raise UserError(f"{node.verb} {node.what}: {died}; {AGAIN}")
        raise error

    def _split(self, node: Node, of: int) -> None:
        names = [f"part:{number}:{of}:{node.name}" for number in range(1, of + 1)]
        self._parts[node.name] = set(names)
        for name in names:
            self._pending[name] = node
            self._waiting.add_ready(name, node)

    def _hear_part(self, name: str, node: Node, seconds: float) -> None:
        _, _, of, whole = name.split(":", 3)
        self._parts[whole].remove(name)
        self._took[whole] += seconds
        if not self._parts[whole] and isinstance(node.of, Batch):
            perform.join_parts(self._work, node.of, int(of))
            self._work.display.finished(node.verb, f"{node.what} in {of} parts", self._took[whole])

    def _fail(self, node: Node, why: str) -> None:
        """Give replays and timings that nobody can do their error; without anything else there is no run."""
        if node.stage not in ("replay", "latency"):
            raise UserError(f"{node.verb} {node.what}: {why}")
        self._work.errors.update({key: why for _, key in node.results})

    def _end(self) -> None:
        """Take back what is not done: workers stop at their next tick, and leave nothing half written."""
        if self._futures:
            self._client.cancel(list(self._futures.values()), force=True)
        self._futures.clear()
