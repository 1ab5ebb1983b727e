"""Commands that compare runs: ``baseline``, ``gate``, ``history``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from backends.device.errors import UserError
from harness.cli.options import RunArgument, examples
from harness.console import console

PANEL = "Compare runs"
app = typer.Typer()


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench baseline out/demo -o baselines/demo.json"))
def baseline(
    run_dir: RunArgument,
    into: Annotated[Path, typer.Option("--into", "-o", metavar="FILE", help="Baseline file to write.")],
) -> None:
    """Freeze a run into one small file that `gate` compares later runs with.

    It holds the cells, the prediction on every image, the patches, and all hashes: commit it to your repository.
    """
    from harness.results.baseline import freeze

    frozen = freeze(run_dir, into)
    out = console()
    if failed := len(frozen.facts.errors):
        what = (f"{failed} cases of this run failed", "red")
        out.print(Text.assemble(what, "; a gate cannot compare anything with them"))
    cells, images = frozen.outcomes.preds.shape
    out.print(f"{into}: {cells} cells of {images} images, {into.stat().st_size / 1000:.0f} kB", soft_wrap=True)


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "patchbench gate baselines/demo.json out/demo --markdown comment.md",
        "patchbench gate out/demo --rules release.toml",
    ),
)
def gate(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="[BASELINE] RUN", help="A baseline (file or run directory), and the run to judge."),
    ],
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Margins and limits (TOML) [default: 2 points, 99 % confidence]."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the verdict as a pull-request comment.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdict as JUnit XML.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the verdict in full as JSON.")] = None,
    of: Annotated[
        str | None,
        typer.Option(metavar="PLAN|COMMIT", help="Refuse a run of another plan and commit; see its `run.json`."),
    ] = None,
) -> None:
    """Judge a run: is it worse than a baseline, and does it keep within limits?

    Without a baseline, the limits in `--rules` are judged alone.

    Exit codes: 0, no worse; 1, worse; 2, cannot compare. Further codes are those of `run`.
    """
    from harness.gate import render
    from harness.gate.judge import check_origin, judge
    from harness.gate.rules import read as read_rules
    from harness.results.baseline import read
    from harness.store import write_text

    if len(paths) > 2:
        raise UserError(f"expected [BASELINE] RUN, got {len(paths)} paths")
    base = read(paths[0]) if len(paths) == 2 else None
    run = read(paths[-1])
    if of:
        check_origin(run, of)
    verdict = judge(base, run, read_rules(rules))
    out = console()
    for part in render.terminal(verdict):
        out.print(part)
    for file, text in ((markdown, render.markdown), (junit, render.junit), (json, render.as_json)):
        if file:
            write_text(file, text(verdict))
    raise typer.Exit(verdict.code)


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench history baselines/*.json out/demo --svg history.svg"))
def history(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Runs and baselines, oldest first.")],
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the rates over the runs.")] = None,
) -> None:
    """Follow the first run's cells through later runs, and name the run in which each first changed."""
    from harness.gate import history as over
    from harness.results.baseline import read
    from harness.store import write_text

    if len(runs) < 2:
        raise UserError("expected two or more runs, oldest first")
    frozen = [read(path) for path in runs]
    tracks = over.tracks(frozen)
    console().print(over.terminal(frozen, tracks))
    if svg:
        write_text(svg, over.figure(frozen, tracks))
