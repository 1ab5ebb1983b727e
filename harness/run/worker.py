"""What a cluster's worker runs: plain functions of plain data, which plan the suite there and do what nodes say.

A worker sees the suite, ``--data`` and the run directory under the same paths as the process that asks it.
"""

from __future__ import annotations

import platform
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backends.device.errors import UserError
from backends.hosts import availability, identity
from harness.config import read_suite
from harness.config.overrides import Overrides
from harness.console import console
from harness.display import Display, Progress
from harness.plan.plan import Plan, make
from harness.plan.steps import TORCH
from harness.results.baseline import patches_of
from harness.run import perform, shared_results, stages
from harness.run.graph import Node, graph, latencies
from harness.run.lanes import Share, Stopped
from harness.run.replays import Batch
from harness.store import CODE, PACKAGES, Store, code_digest, key, version_of

if TYPE_CHECKING:
    from dask.typing import Key
    from distributed import Worker

MANY = 1 << 20  # cores: on a cluster its scheduler shares them out


@dataclass(frozen=True)
class Job:
    """A run, as its workers need to know it; ``token`` tells it from all others, ``threads`` are torch's.

    Results that it shares with other runs (`SharedStore`) come from machines of one kind.
    """

    token: str
    suite: Path
    data_dir: Path | None
    store: Path
    overrides: Overrides
    targets: tuple[str, ...]
    frozen: Path | None
    device: str
    threads: int
    shares: bool

    @classmethod
    def of(
        cls, work: stages.Work, suite: Path, overrides: Overrides, targets: tuple[str, ...], frozen: Path | None
    ) -> Job:
        """Return the job of a run that is planned here."""
        return cls(
            token=uuid.uuid4().hex,
            suite=suite.resolve(),
            data_dir=work.plan.data_dir.resolve() if work.plan.data_dir else None,
            store=work.store.root.resolve(),
            overrides=overrides,
            targets=targets,
            frozen=frozen.resolve() if frozen else None,
            device=work.device,
            threads=_threads(work.plan),
            shares=work.store.shared is not None,
        )


class Welcome(NamedTuple):
    """What a worker says of itself: why it cannot take part, what decides its results, and what it can run.

    ``lacks`` has for each target why it cannot run there; empty where it can. ``boards`` are the addresses that can run
    some target. ``machine`` names what the worker runs on: the same for all containers there, whatever their addresses
    are.
    """

    fault: str = ""
    machine: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    lacks: tuple[tuple[str, str], ...] = ()
    boards: frozenset[str] = frozenset()
    gpus: int = 0


class Done(NamedTuple):
    """What came of a node: ``refused`` is a user's mistake, which ends the run; ``parts`` those of a long replay."""

    refused: str = ""
    errors: tuple[tuple[str, str], ...] = ()
    parts: int = 0
    seconds: float = 0.0


class _Wanted(Share):
    """Cores that the scheduler shares out; a task that it no longer waits for, since the run has ended, stops."""

    def go_on(self) -> None:
        """Raise `Stopped` if the scheduler has forgotten or cancelled the task that this thread works for."""
        worker, key = _TASK.get()
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing":
            raise Stopped


class _Watched(Display):
    """Shows warnings alone, in the worker's log; what ticks stops once it is no longer wanted."""

    def __init__(self, share: Share) -> None:
        super().__init__(console(file=sys.stderr), quiet=True)
        self._share = share

    @contextmanager
    def doing(self, verb: str, what: str) -> Iterator[Progress]:
        """Give a tick that raises `Stopped` if the run has ended."""
        with super().doing(verb, what) as tick:

            def tell(done: int, of: int, word: str) -> None:
                self._share.go_on()
                tick(done, of, word)

            yield tell


class _Here(NamedTuple):
    """A run on this worker."""

    work: stages.Work
    nodes: dict[str, Node]
    share: Share


_TASK: ContextVar[tuple[Worker, Key]] = ContextVar("task")  # also of the threads that a task starts
_PLANNING = threading.Lock()
_COMPUTING = threading.Lock()  # torch's seeds are the process's own: what computes with it takes turns


def welcome(job: Job) -> Welcome:
    """Plan a run here, and say what decides its results."""
    try:
        here = _here(job)
        if not (job.store / "unfinished" / job.token).is_file():
            return Welcome(f"does not see {job.store}: it needs the run directory under the same path")
    except UserError as error:
        return Welcome(f"cannot plan the run: {error}")
    plan = here.work.plan
    lacks = tuple((target.name, availability(target) or "") for target in plan.targets)
    boards = [board for target in plan.targets if target.host == "ssh" for board in target.boards]
    reached = frozenset(board.address for board in boards if not availability(board))
    return Welcome("", _machine(), tuple(facts(job, plan).items()), lacks, reached, _gpus(job.device))


def facts(job: Job, plan: Plan) -> dict[str, str]:
    """Return what decides results here: versions, code, images and files, and what each target is.

    What is of one target alone has a name that begins with `of_target`.
    """
    packages = sorted({name for several in PACKAGES.values() for name in several})
    found = {"Python": platform.python_version()} | {name: version_of(name) for name in packages}
    found["patchbench's code"] = code_digest(*sorted({path for several in CODE.values() for path in several}))[:12]
    found["images"] = " ".join(step.key for step in plan.data)
    found["networks"] = " ".join(step.key for step in plan.victims)
    found["files"] = " ".join(step.key for step in plan.artifacts)
    everywhere = [step.key for several in (plan.victims, plan.artifacts, plan.patches) for step in several]
    found["plan"] = key("report", suite=plan.suite, steps=everywhere + _steps_on(plan, TORCH))
    for target in plan.targets:
        steps = {"steps": key("report", steps=_steps_on(plan, target.name))}
        found |= {f"{of_target(target.name)}{name}": str(value) for name, value in (identity(target) | steps).items()}
    if job.shares:
        found |= {f"machine's {name}": value for name, value in shared_results.machine(plan, job.device).items()}
    return found


def of_target(name: str) -> str:
    """Return what the names of a target's facts begin with."""
    return f"target {name!r}, "


def _steps_on(plan: Plan, target: str) -> list[str]:
    return [step.key for several in (plan.replays, plan.latencies) for step in several if step.target.name == target]


def do(job: Job, name: str, most: int) -> Done:
    """Do the work of a node, by its name; of a part, ``part:NUMBER:OF:NAME``."""
    from distributed import get_worker

    begun = time.monotonic()
    worker = get_worker()
    _TASK.set((worker, worker.get_current_task()))
    here = _here(job)
    stage, _, rest = name.partition(":")
    try:
        if stage == "part":
            number, of, whole = rest.split(":", 2)
            node = here.nodes[whole]
            assert isinstance(node.of, Batch)
            perform.perform_part(here.work, node.of, int(number), int(of), here.share)
            return _done(here, node, begun)
        node = here.nodes[name]
        if _is_on_device(node):
            parts = perform.perform(here.work, node, here.share, most)
        else:
            with _COMPUTING:
                here.share.go_on()
                parts = perform.perform(here.work, node, here.share, most)
        return _done(here, node, begun, parts)
    except UserError as error:
        return Done(refused=str(error))


def _is_on_device(node: Node) -> bool:
    return node.stage in ("latency", "bundle") or (isinstance(node.of, Batch) and node.of.target.name != TORCH)


def _done(here: _Here, node: Node, begun: float, parts: int = 0) -> Done:
    errors = tuple(perform.failed(here.work, node).items())
    for failed, _ in errors:
        del here.work.errors[failed]
    return Done("", errors, parts, time.monotonic() - begun)


def _here(job: Job) -> _Here:
    with _PLANNING:
        return _planned(job)


@lru_cache(maxsize=2)
def _planned(job: Job) -> _Here:
    share = _Wanted(MANY)
    display = _Watched(share)
    store = Store(job.store, display.warn, clear=False)
    known = patches_of(job.frozen) if job.frozen else {}
    frozen = {name: (patch.sha256, weights) for name, (patch, weights) in known.items()}
    suite = read_suite(job.suite, job.overrides)
    plan = make(suite, job.data_dir, store.root, job.targets, frozen)
    work = stages.Work(plan, store, display, job.device, {name: patch for name, (patch, _) in known.items()})
    nodes = graph(plan, job.device) | latencies(plan)
    if plan.needs_torch:
        _set_threads(job.threads)
    return _Here(work, nodes, share)


def _machine() -> str:
    booted = Path("/proc/sys/kernel/random/boot_id")
    return booted.read_text().strip() if booted.is_file() else platform.node()


def _threads(plan: Plan) -> int:
    if not plan.needs_torch:
        return 1
    import torch

    return torch.get_num_threads()


def _set_threads(threads: int) -> None:
    """Compute with as many threads as the process that asks: sums in another order have other last bits."""
    import torch

    torch.set_num_threads(threads)


def _gpus(device: str) -> int:
    if device == "cpu":
        return 0
    import torch

    return torch.cuda.device_count()
