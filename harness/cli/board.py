"""Commands for boards: ``board check``, ``board compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.cli.options import AcceptLicence, DataDir, Limit, Settings, examples, suite_names
from harness.console import console
from harness.shipped import suite_file

if TYPE_CHECKING:
    from backends.board_check import Checked
    from backends.ssh_connection import Board
    from harness.run.on_board import Compared

FULL_SPEED = "performance"  # the governor that keeps the highest frequency
group = typer.Typer(
    help="Look at a board before a suite runs there, and hold a target against it.",
    epilog=examples("patchbench board check pi@board", "patchbench board compare litert pi@board"),
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


@group.command(
    epilog=examples(
        "patchbench board compare litert pi@board",
        "patchbench board compare hexagon root@phone --suite npus --data ~/data --accept-licence qualcomm",
    )
)
def compare(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A target of the suite.")],
    address: Address,
    suite: Annotated[
        Path | None,
        typer.Option(
            metavar="SUITE",
            parser=suite_file,
            autocompletion=suite_names,
            help="Whose cases are replayed on both [default: demo].",
        ),
    ] = None,
    runtime: Annotated[
        str, typer.Option(metavar="NAME", help="The board's runtime [default: the chip's own, or the target's].")
    ] = "",
    data: DataDir = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run directory [default: out/SUITE-TARGET-board].")
    ] = None,
    settings: Settings = None,
    limit: Limit = None,
    accept_licence: AcceptLicence = None,
) -> None:
    """Replay the same cases on a target and on a board, and say how far their answers are apart.

    For who has the device that a simulator or an emulator stands for. What `patchbench run SUITE` left in its store is
    not done again. Says which answers are another class, which output integers differ, and what success is on both; the
    run directory gets the report of both.

    Exit code 1 where cells failed.
    """
    from harness.config import Overrides
    from harness.report.terminal import failures
    from harness.run import on_board

    screen = console()
    changes = Overrides(tuple(settings or ()), limit)
    found = on_board.compare(
        suite or suite_file("demo"),
        data,
        target,
        address,
        runtime=runtime,
        overrides=changes,
        out=out,
        console=screen,
    )
    print_compared(found, screen)
    for failure in failures(found.errors):
        screen.print(failure, soft_wrap=True)
    screen.print("report:", Text(str(found.report), "bold"), soft_wrap=True)
    if found.errors:
        raise typer.Exit(1)


def print_compared(found: Compared, out: Console) -> None:
    """Print how alike the answers of a target and of a board are, success on both, and whether all are equal."""
    from harness.report.pages import points
    from harness.report.wording import percent

    if not found.agreement:
        out.print("nothing was compared", style="red")
        return
    alike = Table("file", "images", "n", "another class", "values that differ", "at most", header_style="bold")
    for entry in found.agreement:
        apart = (percent(entry.predictions_differ, 2), percent(entry.values_differ, 2))
        most = f"{entry.largest:g} {entry.unit}{'' if entry.largest == 1 else 's'}"
        alike.add_row(*map(Text, (entry.artifact, entry.images, str(entry.n), *apart, most)))
    out.print(alike)
    rates = Table("file", "attack", *found.names, "points", "95 %", "n", "p", header_style="bold")
    for pair in found.success:
        interval = f"{points(pair.success.low)} to {points(pair.success.high)}"
        cells = (*map(percent, pair.rates), points(pair.success.value), interval, str(pair.n), f"{pair.p:.2g}")
        rates.add_row(*map(Text, (pair.artifacts[0], pair.attack, *cells)))
    if found.success:
        out.print(rates)
    target, board = found.names
    verdict = Text("equal", "green") if found.equal else Text("not equal", "red")
    out.print(Text.assemble(f"the answers of {board} and {target} are ", verdict), soft_wrap=True)


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
