"""Commands for boards: ``board check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from harness.cli.options import examples
from harness.console import console

if TYPE_CHECKING:
    from backends.board_check import Checked
    from backends.ssh_connection import Board

FULL_SPEED = "performance"  # the governor that keeps the highest frequency
group = typer.Typer(
    help="Look at a board before a suite runs there.",
    epilog=examples("patchbench board check pi@board"),
    no_args_is_help=True,
)
app = typer.Typer()
app.add_typer(group, name="board", rich_help_panel="Inspect")

Address = Annotated[
    str, typer.Argument(metavar="ADDRESS", help="As for ssh: user@machine, or a name from ~/.ssh/config.")
]


@group.command(epilog=examples("patchbench board check pi@board"))
def check(address: Address) -> None:
    """Say what a board is, how fast its CPU runs, and which targets it can be, with the command for what it lacks.

    Every runtime that is installed there runs a tiny network, whose outputs are compared with a computation in numpy.
    Exit code 1 where none can run.
    """
    from backends.board_check import check_board

    out = console()
    with out.status(f"asking {address}") as status:
        found = list(check_board(address, lambda runtime: status.update(f"{address}: {runtime}")))
    print_board(address, found[-1].board, out)
    print_runtimes(found, out)
    if all(one.fault for one in found):
        raise typer.Exit(1)


def print_board(address: str, board: Board, out: Console) -> None:
    """Print what a board is, and how fast its CPU runs."""
    there = board.machine
    memory = f"{there.memory_bytes / 1e9:.1f} GB"
    out.print(f"{address}: {there.arch}, {there.cpu}, {there.cores} cores, {memory}", highlight=False)
    out.print(f"{there.kernel}, Python {there.python}, numpy {there.numpy or 'missing'}", highlight=False)
    speed = board.speed
    words = [f"{speed.mhz:.0f} MHz" if speed.mhz else "", f"of {speed.most_mhz:.0f}" if speed.most_mhz else ""]
    words += [f"governor {' '.join(speed.governors)}" if speed.governors else ""]
    words += [f"{speed.celsius:.0f} °C" if speed.celsius is not None else ""]
    words += [f"throttled {speed.throttlings} times since it was started" if speed.throttlings else ""]
    said = ", ".join(filter(None, words))
    out.print(f"CPU: {said or 'its kernel tells no frequency, governor or temperature'}", highlight=False)
    if speed.is_slowed:
        out.print("throttled now: cool the board, or check its power supply, before you time anything", style="red")
    if set(speed.governors) - {FULL_SPEED}:
        out.print(
            "latencies vary with this governor: echo performance | sudo tee "
            "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
            style="yellow",
            highlight=False,
            soft_wrap=True,
        )


def print_runtimes(found: list[Checked], out: Console) -> None:
    """Print which runtimes can run and what the others lack; then the targets, as a suite takes them."""
    width = max(len(_named(one)) for one in found)
    for one in found:
        verdict = Text("yes", "green") if not one.fault else Text.assemble(("no", "red"), f": {one.fault}")
        out.print(Text.assemble(f"{_named(one):{width}}  ", verdict), soft_wrap=True)  # commands are to be copied
    for one in found:
        if not one.fault:
            target = one.target
            print(f'\n[[target]]\nname = "{target.name}"\nruntime = "{target.runtime}"')
            print(f'host = "{target.host}"\naddress = "{target.address}"')


def _named(one: Checked) -> str:
    return f"{one.target.runtime} {one.board.version or ''}".rstrip()
