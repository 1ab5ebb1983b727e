"""Commands for whole runs: ``run``, ``study``, ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backends.device.errors import UserError
from harness.cli.options import (
    AcceptLicence,
    DataDir,
    Device,
    Limit,
    Quiet,
    RunArgument,
    RunDir,
    Settings,
    StoreUrl,
    SuiteFile,
    examples,
)
from harness.console import console

PANEL = "Run a suite"
FAILED_CELLS = 1
app = typer.Typer()


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "patchbench run demo",
        "patchbench run cifar10 --data ~/data --targets 'litert*'",
        "patchbench run demo --dry-run",
        "patchbench run demo --limit 100 --set attack.gap.options.steps=20 --out out/quick",
        "patchbench run demo --cluster local:4",
        "patchbench run demo --store s3://bucket/patchbench",
    ),
)
def run(
    suite: SuiteFile,
    data: DataDir = None,
    out: RunDir = None,
    targets: Annotated[
        list[str] | None,
        typer.Option("--targets", metavar="PATTERN", help="Only targets whose name matches; repeatable."),
    ] = None,
    settings: Settings = None,
    limit: Limit = None,
    device: Device = "cpu",
    frozen: Annotated[
        Path | None,
        typer.Option(metavar="BASELINE", help="Replay this baseline's patches; craft only where the weights changed."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, how long it takes, and what it can tell.")
    ] = False,
    label: Annotated[str, typer.Option(metavar="TEXT", help="What `view` and `history` call this run.")] = "",
    cluster: Annotated[
        str,
        typer.Option(
            metavar="WORD",
            help="Dask workers that do the work: the address of a scheduler, `local:N`, `slurm:FILE`, `ssh:FILE`, or "
            "`kubernetes:FILE`.",
        ),
    ] = "",
    store: StoreUrl = "",
    accept_licence: AcceptLicence = None,
    quiet: Quiet = False,
) -> None:
    """Run a suite end to end: train, export, craft, replay, and report.

    Open `report.html` in the run directory first. Running again redoes only what changed, and an interrupted run
    resumes where it stopped.

    Exit codes: 0, every cell ran; 1, some cells failed and are reported as errors; 2, the run could not be completed,
    and one line says why; 3, a fault of patchbench; 130 and 143, interrupted and terminated.
    """
    from harness.config import Overrides

    overrides = Overrides(tuple(settings or ()), limit)
    patterns = tuple(targets or ["*"])
    if dry_run:
        from harness.cli.dry_run import dry_run as tell

        tell(
            suite, data, out, overrides=overrides, targets=patterns, device=device, frozen=frozen, store=store,
            console=console(),
        )  # fmt: skip
        return
    from harness.run.run import run_suite

    all_ok = run_suite(
        suite,
        data,
        out,
        overrides=overrides,
        targets=patterns,
        device=device,
        frozen=frozen,
        label=label,
        cluster=cluster,
        store=store,
        quiet=quiet,
        console=console(),
    )
    if not all_ok:
        raise typer.Exit(FAILED_CELLS)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "patchbench study study-digits",
        "patchbench study study-cifar10 --data ~/data --only transfer",
    ),
)
def study(
    suite: SuiteFile,
    data: DataDir = None,
    out: RunDir = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ANALYSIS",
            help="Only this analysis: bitwidth, transfer, features, strength, gradients, places, defences, or "
            "saturation; repeatable.",
        ),
    ] = None,
    settings: Settings = None,
    limit: Limit = None,
    device: Device = "cpu",
    store: StoreUrl = "",
    accept_licence: AcceptLicence = None,
    quiet: Quiet = False,
) -> None:
    """Run a suite, then analyse how patches fare across bit widths, networks, and real kernels, and why.

    Writes `study.html` to the run directory, and each analysis as CSV and SVG to its `study` folder. Running again
    redoes only what changed. Exit codes are those of `run`.
    """
    from harness.config import Overrides
    from harness.study.study import run_study

    overrides = Overrides(tuple(settings or ()), limit)
    all_ok = run_study(
        suite, data, out, overrides=overrides, only=only or [], device=device, quiet=quiet, store=store,
        console=console(),
    )  # fmt: skip
    if not all_ok:
        raise typer.Exit(FAILED_CELLS)


@app.command(
    rich_help_panel=PANEL, epilog=examples("patchbench report out/demo", "patchbench report out/demo --share shared")
)
def report(
    run_dir: RunArgument,
    share: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write a report to hand on instead: without images, paths, and names of files."
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --share: the baseline that the run was judged by.")
    ] = None,
) -> None:
    """Rebuild `cells.csv`, `summary.json`, and `report.html` of a finished run from its records.

    With `--share` the run stays as it is: DIR gets a report, `cells.csv`, and `manifest.json`, the hashes of all that
    they rest on. `patchbench verify` checks them.
    """
    from harness.finished.sharing import share as share_run
    from harness.run.run import write_results

    if share:
        share_run(run_dir, share, baseline)
        console().print(f"{share}: report.html, cells.csv, manifest.json", soft_wrap=True)
        return
    if baseline:
        raise UserError("--baseline: expected with --share")
    console().print(f"report: {write_results(run_dir)}", soft_wrap=True)
