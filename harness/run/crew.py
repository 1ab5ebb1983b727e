"""The workers of a cluster: each is asked what it is before it is given anything, and those that differ are refused."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from backends.device.errors import UserError
from harness.display import Display
from harness.plan.plan import Plan
from harness.run import worker
from harness.run.graph import Node
from harness.run.worker import Job, Welcome

if TYPE_CHECKING:
    from distributed import Client

HOSTS = ("docker", "qemu")
TOGETHER_SECONDS = 60.0  # for the other workers to come, once the first is there
PAUSE_SECONDS = 0.2
SHOWN = 80


async def offer(resources: dict[str, float], dask_worker: Any) -> None:
    """Tell the scheduler what a worker has; runs on the worker."""
    await dask_worker.set_resources(**resources)


class Member(NamedTuple):
    """A worker that takes part: its machine, what it offers, and what it could, were no other worker to."""

    machine: str
    offers: dict[str, float]
    alone: frozenset[str]


class Crew:
    """The workers that take part; newcomers are taken in whenever it `look`s."""

    def __init__(self, client: Client, job: Job, plan: Plan, display: Display) -> None:
        self._client, self._job, self._plan, self._display = client, job, plan, display
        self._facts = worker.facts(job, plan)
        self._members: dict[str, Member] = {}  # by address
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
            self.look()
            if self._refused and not self.size and len(self._refused) >= expected:
                raise UserError("no worker can take part: " + "; ".join(self._refused.values()))
            if self.size and not before:
                until = time.monotonic() + TOGETHER_SECONDS
            if time.monotonic() > until:
                break
            time.sleep(PAUSE_SECONDS)
        if not self.size:
            raise UserError(f"no worker came within {seconds:g} s")

    def look(self) -> None:
        """Take in workers that are new, and forget those that are gone."""
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        for gone in self._members.keys() - known.keys():
            del self._members[gone]
        new = [address for address in known if address not in self._members and address not in self._refused]
        if new:
            said = self._client.run(worker.welcome, self._job, workers=new, on_error="return")
            for address, welcome in said.items():
                self._take_in(address, known[address], welcome)
        self._share_out()

    def unmet(self, node: Node) -> str:
        """Return why no worker can do a node's work; empty where one can."""
        if any(all(member.offers.get(need) for need in node.needs) for member in self._members.values()):
            return ""
        target = getattr(node.of, "target", None)
        reason = self._lacks.get(target.name, "") if target else ""
        return reason or f"no worker has {' and '.join(node.needs)}"

    def resources(self, node: Node) -> dict[str, float]:
        """Return what a node takes of a worker; what wants more cores than one has takes all of them."""
        most = max((member.offers["cores"] for member in self._members.values()), default=1.0)
        return {need: min(n, most) if need == "cores" else n for need, n in node.needs.items()}

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
        """Give what one worker alone may offer to the first that can: a board, and timing on a machine.

        So when that worker is gone, another has it.
        """
        for address, member in list(self._members.items()):
            others = self._members.values()
            taken = {need for one in others for need in one.offers if need != "quiet" or one.machine == member.machine}
            if more := member.alone - taken:
                self._tell(address, member._replace(offers=member.offers | dict.fromkeys(more, 1.0)))

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
        for name, here in self._facts.items():
            if (found := there.get(name, "none")) != here:
                return f"{name}: {found:.{SHOWN}} there, {here:.{SHOWN}} here"
        return ""

    def _member(self, cores: int, welcome: Welcome) -> Member:
        """Return what a worker is: a board is one worker's, and one worker of a machine times there."""
        lacks = dict(welcome.lacks)
        offers = {"cores": float(cores), "gpu": float(welcome.gpus)}
        alone = {"quiet"}
        for target in self._plan.targets:
            if not lacks.get(target.name):
                if target.host in HOSTS:
                    offers[target.host] = float(cores)
                elif target.host == "ssh":
                    alone |= {f"board:{board.address}" for board in target.boards}
        return Member(welcome.machine, offers, frozenset(alone))
