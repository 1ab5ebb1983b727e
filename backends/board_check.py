"""Which runtimes a board can run: what each lacks there, and whether it computes what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from backends.conformance import conform
from backends.device import runtimes
from backends.device.errors import UserError
from backends.device.names import modules
from backends.device.runtimes import engine
from backends.device.toolchains import ON_BOARDS
from backends.hosts import Target, ssh
from backends.ssh_connection import Board

COMPUTES = "logits equal a computation in numpy"
FOR_TESTS = "dummy"
HAS_NO_NETWORK = "installed, and not tried: no network compiled for its chip is shipped; see patchbench board compare"


class Checked(NamedTuple):
    """A target on a board, how the board describes itself, and why the target cannot run; empty where it can."""

    target: Target
    board: Board
    fault: str


def check_board(address: str, tell: Callable[[str], None]) -> Iterator[Checked]:
    """Try each runtime on a board with a tiny network; a board that cannot be asked is a `UserError`."""
    for name in sorted(set(modules(runtimes.__path__)) - {FOR_TESTS}):
        target = Target(f"board-{name}", name, host="ssh", address=address)
        tell(name)
        board = ssh.describe(address, engine(name).package)
        yield Checked(target, board, ssh.lacks(target, board) or _fault(target))


def _fault(target: Target) -> str:
    if target.runtime in ON_BOARDS.values():
        return HAS_NO_NETWORK
    try:
        return next(verdict.fault for verdict in conform(target, [COMPUTES]))
    except UserError as error:
        return str(error)
