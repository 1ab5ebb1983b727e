"""The workers of a cluster: each is asked what it is before it is given anything, and those that differ are refused."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from backends.device.errors import UserError
from backends.hosts import identity
from harness.display import Display
from harness.plan.plan import Plan
from harness.run import worker
from harness.run.graph import QUIET, Node
from harness.run.worker import Job, Welcome

if TYPE_CHECKING:
    from distributed import Client

HOSTS = ("docker", "qemu")
TOGETHER_SECONDS = 60.0  # for the other workers to come, once the first is there
PAUSE_SECONDS = 0.2
SHOWN = 80
UNREACHED = "no board of it can be reached from where the command runs"


async def offer(resources: dict[str, float], dask_worker: Any) -> None:
    """Tell the scheduler what a worker has; runs on the worker.

    Steps that no worker could do are given out when a worker begins to run, not when it gets resources: so it pauses,
    and begins anew.
    """
    from distributed import Status

    await dask_worker.set_resources(**resources)
    if dask_worker.status == Status.running:
        dask_worker.status = Status.paused
        dask_worker.status = Status.running


class Member(NamedTuple):
    """A worker that takes part: its machine, what it offers, and the boards that it reaches."""

    machine: str
    offers: dict[str, float]
    boards: frozenset[str]


class Crew:
    """The workers that take part; newcomers are taken in whenever it `look`s."""

    def __init__(self, client: Client, job: Job, plan: Plan, display: Display) -> None:
        self._client, self._job, self._plan, self._display = client, job, plan, display
        self._facts = worker.facts(job, plan)
        self._unreached = {target.name for target in plan.targets if "unreachable" in identity(target)}
        self._fleets = _together(plan)
        self._members: dict[str, Member] = {}  # by address
        self._taken: dict[str, Counter[str]] = defaultdict(Counter)  # of what each offers
        self._reserved: dict[str, tuple[str, Mapping[str, float]]] = {}  # for a step, where, and what
        self._refused: dict[str, str] = {}
        self._lacks: dict[str, str] = {}  # by target, why it cannot run

    @property
    def size(self) -> int:
        """How many workers take part."""
        return len(self._members)

    @property
    def cores(self) -> int:
        """The cores of all workers together."""
        return int(sum(member.offers["cores"] for member in self._members.values()))

    def gather(self, expected: int, seconds: float) -> None:
        """Wait for all workers that are expected, once one is there a minute at most.

        That none comes in so many seconds, or that all are refused, is a `UserError`.
        """
        until = time.monotonic() + seconds
        while self.size < max(expected, 1):
            before = self.size
            self._meet()
            if self._refused and not self.size and len(self._refused) >= expected:
                raise UserError("no worker can take part: " + "; ".join(self._refused.values()))
            if self.size and not before:
                until = time.monotonic() + TOGETHER_SECONDS
            if time.monotonic() > until:
                break
            time.sleep(PAUSE_SECONDS)
        if not self.size:
            raise UserError(f"no worker came within {seconds:g} s")
        self._share_out()

    def look(self) -> None:
        """Take in workers that are new, and forget those that are gone."""
        self._meet()
        self._share_out()

    def _meet(self) -> None:
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        for gone in self._members.keys() - known.keys():
            del self._members[gone]
        new = [address for address in known if address not in self._members and address not in self._refused]
        if new:
            said = self._client.run(worker.welcome, self._job, workers=new, on_error="return")
            for address, welcome in said.items():
                self._take_in(address, known[address], welcome)

    def unmet(self, node: Node) -> str:
        """Return why no worker can do a node's work; empty where one can."""
        target = getattr(node.of, "target", None)
        if target and target.name in self._unreached:
            return UNREACHED
        if any(all(member.offers.get(need) for need in node.needs) for member in self._members.values()):
            return ""
        reason = self._lacks.get(target.name, "") if target else ""
        return reason or f"no worker has {' and '.join(node.needs)}"

    def resources(self, node: Node) -> dict[str, float]:
        """Return what a node takes of a worker; what wants more cores than one has takes all of them."""
        most = max((member.offers["cores"] for member in self._members.values()), default=1.0)
        return {need: min(n, most) if need == "cores" else n for need, n in node.needs.items()}

    def reserve(self, name: str, node: Node) -> bool:
        """Keep what a step needs, until `free`; return False where all that have it are busy.

        Which worker does the step is for the scheduler to say, which gives it to the one with least to do.
        """
        needs = self.resources(node)
        free = {
            address: member.offers["cores"] - self._taken[address]["cores"]
            for address, member in self._members.items()
            if all(member.offers.get(need, 0.0) - self._taken[address][need] >= n for need, n in needs.items())
        }
        if not free:
            return False
        chosen = max(free, key=lambda address: free[address])
        self._taken[chosen].update(needs)
        self._reserved[name] = chosen, needs
        return True

    def free(self, name: str) -> None:
        """Give back what was kept for a step."""
        address, needs = self._reserved.pop(name)
        self._taken[address].subtract(needs)

    def _take_in(self, address: str, facts: Mapping[str, Any], welcome: Welcome | Exception) -> None:
        if isinstance(welcome, OSError):
            return  # it died meanwhile
        if why := self._difference(welcome):
            self._refused[address] = f"worker {address} is not used: {why}"
            self._display.warn(self._refused[address])
            return
        assert isinstance(welcome, Welcome)
        self._lacks |= dict(welcome.lacks)
        self._tell(address, self._member(int(facts["nthreads"]), welcome))

    def _share_out(self) -> None:
        """Give what one worker alone may offer to one that can: timing on a machine, and boards.

        Boards of one fleet go to that worker which reaches most of them. When a worker is gone, another has its.
        """
        for machine in {member.machine for member in self._members.values()}:
            self._give(QUIET, [a for a, member in self._members.items() if member.machine == machine])
        for fleet in self._fleets:
            reached = {address: len(member.boards & fleet) for address, member in self._members.items()}
            able = sorted((address for address, boards in reached.items() if boards), key=lambda a: -reached[a])
            self._give({f"board:{board}": 1.0 for board in fleet}, able)

    def _give(self, what: Mapping[str, float], addresses: Sequence[str]) -> None:
        """Have the first of some workers offer something, unless one of them does."""
        if addresses and not any(self._members[address].offers.keys() & what for address in addresses):
            first = self._members[addresses[0]]
            self._tell(addresses[0], first._replace(offers={**first.offers, **what}))

    def _tell(self, address: str, member: Member) -> None:
        """Have a worker offer what it is to; one that died meanwhile is left out."""
        took = self._client.run(offer, member.offers, workers=[address], on_error="return")
        if took.get(address, OSError()) is None:
            self._members[address] = member

    def _difference(self, welcome: Welcome | Exception) -> str:
        """Return why a worker cannot take part: it has a fault, or something of it decides other results."""
        if isinstance(welcome, Exception):
            return f"{type(welcome).__name__}: {str(welcome).splitlines()[0]}" if str(welcome) else repr(welcome)
        if welcome.fault:
            return welcome.fault
        there = dict(welcome.facts)
        lacking = tuple(worker.of_target(target) for target, why in welcome.lacks if why or target in self._unreached)
        for name, here in self._facts.items():
            if not name.startswith(lacking) and (found := there.get(name, "none")) != here:
                return f"{name}: {found:.{SHOWN}} there, {here:.{SHOWN}} here"
        return ""

    def _member(self, cores: int, welcome: Welcome) -> Member:
        """Return what a worker is, and offers whatever others do."""
        lacks = dict(welcome.lacks)
        offers = {"cores": float(cores), "gpu": float(welcome.gpus)}
        for target in self._plan.targets:
            if not lacks.get(target.name) and target.host in HOSTS:
                offers[target.host] = float(cores)
        return Member(welcome.machine, offers, welcome.boards)


def _together(plan: Plan) -> list[frozenset[str]]:
    """Return the boards of a plan, those together that a fleet has in common with another."""
    several: list[frozenset[str]] = []
    for target in plan.targets:
        if target.host == "ssh":
            mine = frozenset(board.address for board in target.boards)
            joined = [one for one in several if one & mine]
            several = [one for one in several if not one & mine] + [mine.union(*joined)]
    return several
