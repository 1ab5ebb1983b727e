"""Ask a target for the answers to cases of one artifact, and tell how far it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

from backends.answers import Outcome
from backends.device.protocol import MachineFacts
from backends.events import Answered, CaseFailed, Event, Loaded, Progress
from backends.hosts import machine_facts, replay
from harness.plan.cells import ReplayStep
from harness.run.lanes import Share
from harness.run.stages import Work


class Ran(TypedDict):
    """What a device reported: ``info`` of its runtime, and its machine.

    Of a fleet also the address of the ``board`` that answered, and why boards were set ``aside`` before, by address.
    """

    info: dict[str, str]
    machine: MachineFacts
    board: NotRequired[str]
    aside: NotRequired[dict[str, str]]


Keep = Callable[[ReplayStep, Answered, Ran], None]


def ask(
    work: Work, todo: Sequence[ReplayStep], root: Path, share: Share, keep: Keep, tell: Callable[[int, int, str], None]
) -> Outcome:
    """Replay cases of a bundle on one target; call ``keep`` with each answer, whose file is removed afterwards.

    ``tell`` hears how many cases are finished, how many images of the one that runs, and its name. What it raises ends
    the device. A case that fails has its error in ``work``.
    """
    target = todo[0].target
    by_name = {step.case.name: step for step in todo}
    ran: Ran = {"info": {}, "machine": {}}
    finished = 0

    def hear(event: Event | CaseFailed) -> None:
        nonlocal finished
        share.go_on()
        if isinstance(event, Loaded):
            ran["info"] = event.info
            ran["machine"] = machine_facts(target, event)
        elif isinstance(event, Progress) and event.case:
            tell(finished, event.done, event.case)
        elif isinstance(event, Answered):
            finished += 1
            keep(by_name[event.case], event, ran)
        elif isinstance(event, CaseFailed):
            work.errors[by_name[event.case].key] = event.message

    with tempfile.TemporaryDirectory(dir=work.store.scratch) as out:
        return replay(target, root, Path(out), cases=list(by_name), on_event=hear)
