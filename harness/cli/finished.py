"""Commands for finished runs: ``compare``, ``view``, ``verify``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from backends.device.errors import UserError
from harness.cli.options import examples
from harness.console import console

PANEL = "Compare runs"
DIFFERENT = 1
app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench compare out/before out/after -o compare.html"))
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Run directories; the first is before.")],
    into: Annotated[Path, typer.Option("--into", "-o", metavar="FILE", help="Page to write.")] = Path("compare.html"),
) -> None:
    """Compare runs, each with the first: which settings differ, and which rates changed, image by image.

    Unlike `gate` it judges nothing: runs may differ in anything, and what has no partner is named.
    """
    from harness.finished.comparison import compare_runs, page, terminal
    from harness.store import write_text

    if len(runs) < 2:
        raise UserError(f"expected two or more run directories, got {len(runs)}")
    compared = compare_runs(runs)
    write_text(into, page(compared))
    out = console()
    for part in terminal(compared):
        out.print(part)
    out.print(f"page: {into}", soft_wrap=True)


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench view", "patchbench view out --port 8080"))
def view(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder with run directories.")] = Path("out"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine [default: any free one].")] = 0,
) -> None:
    """Show all runs below a folder in this machine's browser: headlines, worst cells, reports, and their history.

    Only this machine can open the page, and only with the address that is printed. Ctrl-C ends it, with exit code 130.
    """
    from harness.finished.listing import below
    from harness.finished.server import Server

    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; run the suite first")
    server = Server(folder, port)
    console().print(f"{len(below(folder))} runs below {folder}, until Ctrl-C: {server.url}", soft_wrap=True)
    sys.stdout.flush()
    server.serve_forever()


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench verify shared", "patchbench verify shared out/demo"))
def verify(
    folder: Annotated[Path, typer.Argument(metavar="SHARED", help="Folder that `report --share` wrote.")],
    run_dir: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="The run that it was made of.")] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The baseline that the run was judged by.")
    ] = None,
) -> None:
    """Check a shared report, and the run that it was made of, against the hashes in its manifest.

    Exit codes: 0, all as the manifest says; 1, something is not, and is named; 2, the manifest cannot be read. Its
    signature says who wrote it.
    """
    from harness.finished.sharing import differences

    out = console()
    found = list(differences(folder, run_dir, baseline))
    for line in found:
        out.print(line, soft_wrap=True, highlight=False)
    checked = " and ".join(str(path) for path in (folder, run_dir, baseline) if path)
    if found:
        out.print(f"{checked}: not what the manifest says", style="bold red", soft_wrap=True)
        raise typer.Exit(DIFFERENT)
    out.print(f"{checked}: as the manifest says", style="bold green", soft_wrap=True)
