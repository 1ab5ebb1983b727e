"""The command line: one verb for a whole run, and one for each stage, from files to files."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from backends.device.errors import UserError
from harness.cli.options import Analyses, DataDir, Device, Frozen, Into, Only, RunDir, SuiteFile, Targets

ABOUT = """Does an adversarial patch that works in the lab work on the device?

Patches are made on a surrogate, the network is exported for real, the patch is replayed on the real integer runtime,
and its success is counted.

**Start with** `patchbench run benchmarks/suites/demo.toml`."""
app = typer.Typer(
    name="patchbench",
    help=ABOUT,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
STOPPED = 130  # the exit code that typer makes of Ctrl-C


@app.command(epilog="Examples: `patchbench run benchmarks/suites/demo.toml` · "
             "`patchbench run benchmarks/suites/cifar10.toml --data ~/data --targets 'litert*'`")  # fmt: skip
def run(
    suite: SuiteFile,
    data: DataDir = None,
    out: RunDir = None,
    targets: Targets = None,
    device: Device = "cpu",
    frozen: Frozen = None,
) -> None:
    """Carries out a suite: train or fetch, export, craft, replay, count, report. A second run does only what is new.

    Exit code 1: some cells failed, and are errors in the results; 2: the run could not be carried out.
    """
    from harness.run.run import carry_out

    chosen = tuple(targets or ["*"])
    if not carry_out(suite, data, out, targets=chosen, device=device, frozen=frozen, console=_console()):
        raise typer.Exit(1)


@app.command(epilog="Examples: `patchbench study benchmarks/suites/study-digits.toml` · "
             "`patchbench study benchmarks/suites/study-cifar10.toml --data ~/data --only transfer`")  # fmt: skip
def study(
    suite: SuiteFile,
    data: DataDir = None,
    out: RunDir = None,
    only: Analyses = None,
    device: Device = "cpu",
) -> None:
    """Carries out a suite, then the study of it: how patches fare across bitwidths, networks and real kernels, and why.

    OUT/study.html is the page, OUT/study/ has each analysis as CSV and SVG. A second call does only what is new. Exit
    codes are those of `run`.
    """
    from harness.study.study import run_study

    if not run_study(suite, data, out, only=only or [], device=device, console=_console()):
        raise typer.Exit(1)


@app.command(epilog="Example: `patchbench report out/demo`")
def report(run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]) -> None:
    """Writes a run's cells.csv, summary.json and report.html again, from its records."""
    from harness.run.run import write_results

    _console().print(f"report: {write_results(run_dir)}")


@app.command(epilog="Example: `patchbench train benchmarks/suites/demo.toml --into weights/`")
def train(suite: SuiteFile, into: Into, data: DataDir = None, only: Only = None) -> None:
    """Trains a suite's victims, or fetches their weights: DIR/VICTIM.pt, a state dict."""
    from harness.cli import verbs

    verbs.stage(suite, data, "victims", only or ["*"], into, _console())


@app.command(epilog="Example: `patchbench export benchmarks/suites/demo.toml --only '*tflite*' --into models/`")
def export(suite: SuiteFile, into: Into, data: DataDir = None, only: Only = None) -> None:
    """Exports a suite's victims: DIR/ARTIFACT.onnx or .tflite, and what it is, DIR/ARTIFACT.json."""
    from harness.cli import verbs

    verbs.stage(suite, data, "artifacts", only or ["*"], into, _console())


@app.command(epilog="Example: `patchbench craft benchmarks/suites/demo.toml --only 'gap*c3*' --into patches/`")
def craft(suite: SuiteFile, into: Into, data: DataDir = None, only: Only = None, device: Device = "cpu") -> None:
    """Makes a suite's patches and controls: DIR/PATCH.npz, and DIR/PATCH.png to look at.

    An attack that asks a target (surrogate `device:ARTIFACT:TARGET`) has it look at `queries` images, 10000 unless its
    options say otherwise: seconds here, five minutes and more on an emulated CPU. What was answered is kept.
    """
    from harness.cli import verbs

    verbs.stage(suite, data, "patches", only or ["*"], into, _console(), device)


@app.command(
    epilog="Example: `patchbench bundle benchmarks/suites/demo.toml --artifact models/resnet8-onnx-s8s8-minmax.json "
    "--patch patches/noise-s0-10px.npz --into bundle/`"
)
def bundle(
    suite: SuiteFile,
    artifact: Annotated[Path, typer.Option(metavar="FILE", help="What `export` wrote: the .json beside the model.")],
    into: Into,
    patch: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="What `craft` wrote (.npz); may be repeated.")
    ] = None,
    placement: Annotated[str, typer.Option(help="random, center, top-left ..., or ROW,COLUMN.")] = "random",
    placement_seed: Annotated[int, typer.Option(help="Another seed gives other random places.")] = 0,
    data: DataDir = None,
) -> None:
    """Packs an artifact, a suite's evaluation images and patches into a directory that a device can replay."""
    from harness.cli import verbs

    verbs.bundle(suite, data, artifact, patch or [], placement, placement_seed, into, _console())


@app.command(epilog="Examples: `patchbench replay bundle/ --runtime litert --option kernels=builtin --into answers/` · "
             "`patchbench replay bundle/ --runtime litert --host docker --arch aarch64 --into answers/`")  # fmt: skip
def replay(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What `bundle` wrote.")],
    runtime: Annotated[str, typer.Option(help="onnxruntime, litert, tflite_runtime, ..., or an installed package's.")],
    into: Into,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="The runtime's option; may be repeated.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 1,
    time_limit: Annotated[float, typer.Option(help="Seconds without a sign of life that count as a hang.")] = 300.0,
    version: Annotated[str, typer.Option(help="Of the runtime's package; else the one that is pinned.")] = "",
    host: Annotated[str, typer.Option(help="Where it runs: local, docker, or another of backends/hosts/.")] = "local",
    arch: Annotated[str, typer.Option(help="As `uname -m` says it: x86_64, aarch64, ...; else this machine's.")] = "",
    cpu: Annotated[str, typer.Option(help="A model that the host knows.")] = "",
    image: Annotated[str, typer.Option(help="A container's image of your own.")] = "",
    address: Annotated[str, typer.Option(help="A machine, as ssh takes it.")] = "",
) -> None:
    """Replays a bundle on a runtime: DIR/CASE.npz (logits, integers), and what really ran, DIR/device.json."""
    from backends.hosts import Target
    from harness.cli import verbs

    target = Target(
        runtime, runtime, version, host, verbs.parse_options(option or []), threads, batch, time_limit,
        arch=arch, cpu=cpu, image=image, address=address,
    )  # fmt: skip
    verbs.replay_bundle(bundle, target, into, _console())


@app.command(epilog="Example: `patchbench targets benchmarks/suites/demo.toml`")
def targets(suite: SuiteFile) -> None:
    """Lists a suite's targets: whether each can run here and, if not, the one command that mends it."""
    from harness.cli import verbs
    from harness.config import read_suite

    verbs.targets(read_suite(suite), _console())


@app.command(epilog="Example: `patchbench inspect out/demo/artifacts/resnet8-tflite-s8s8-minmax.tflite`")
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx or .tflite file, ours or anyone's.")],
) -> None:
    """Prints a model file's operators, their dtypes, scales and zero points, and what computes in float."""
    from harness.cli import verbs

    verbs.inspect(file, _console())


@app.command(epilog="Example: `patchbench baseline out/demo -o baselines/demo.json`")
def baseline(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    into: Annotated[Path, typer.Option("--into", "-o", metavar="FILE", help="The baseline, for a repository.")],
) -> None:
    """Freezes a run into one small file: cells, each image's outcome, patches and hashes; what `gate` compares with."""
    from harness.results.baseline import freeze

    frozen = freeze(run_dir, into)
    if failed := len(frozen.facts.get("errors", ())):
        _console().print(f"[red]{failed} cases of this run failed[/]: a gate can compare nothing with them")
    cells, images = frozen.outcomes.preds.shape
    _console().print(f"{into}: {cells} cells of {images} images, {into.stat().st_size / 1000:.0f} kB", soft_wrap=True)


@app.command(
    epilog="Examples: `patchbench gate baselines/demo.json out/demo --markdown comment.md` · "
    "`patchbench gate out/demo --rules release.toml`"
)
def gate(
    paths: Annotated[
        list[Path], typer.Argument(metavar="[BASELINE] RUN", help="A baseline, or a run; and the run to judge.")
    ],
    rules: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Margins and limits as TOML; unless given, 2 points at 99 %.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="A comment for a pull request.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="A test report for CI.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Everything, for a program.")] = None,
) -> None:
    """Judges a run against a baseline and limits. Exit code 0: no worse; 1: worse; 2: cannot be compared."""
    from harness.gate import render
    from harness.gate.judge import judge
    from harness.gate.rules import read as read_rules
    from harness.results.baseline import read
    from harness.store import write_text

    if len(paths) > 2:
        raise UserError(f"expected a baseline and a run, or a run alone, got {len(paths)} paths")
    verdict = judge(read(paths[0]) if len(paths) == 2 else None, read(paths[-1]), read_rules(rules))
    for part in render.terminal(verdict):
        _console().print(part)
    for file, text in ((markdown, render.markdown), (junit, render.junit), (json, render.as_json)):
        if file:
            write_text(file, text(verdict))
    raise typer.Exit(verdict.code)


@app.command(epilog="Example: `patchbench history baselines/*.json out/demo --svg history.svg`")
def history(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS", help="Runs and baselines, the oldest first.")],
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="A figure of the rates over the runs.")] = None,
) -> None:
    """Follows the first run's cells through the others, and names the run in which each changed first."""
    from harness.gate import history as over
    from harness.results.baseline import read
    from harness.store import write_text

    if len(runs) < 2:
        raise UserError("expected two runs or more, the oldest first")
    known = [read(path) for path in runs]
    found = over.tracks(known)
    _console().print(over.terminal(known, found))
    if svg:
        write_text(svg, over.figure(known, found))


@app.command(epilog="Examples: `patchbench twin vendor.tflite`; on a suite's images: `... --suite SUITE --data ~/data`")
def twin(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An INT8 .onnx or .tflite file, ours or anyone's.")],
    suite: Annotated[Path | None, typer.Option(help="Whose evaluation images; photographs else.")] = None,
    data: DataDir = None,
    kernels: Annotated[
        list[str] | None, typer.Option(help="xnnpack, builtin or reference; onnxruntime. All that run it unless given.")
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="So many images; all unless given.")] = None,
    patch: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Pastes what `craft` wrote (.npz), at random places.")
    ] = None,
) -> None:
    """Rebuilds an INT8 file as a differentiable network and reports how far it agrees with the runtime's kernels."""
    from harness.run.twins import report_twin

    report_twin(file, suite, data, tuple(kernels or ()), images, patch, _console())


def _console() -> Console:
    """The terminal; where there is none, wide enough for the tables."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def main() -> None:
    """Runs the command line; what a user can mend is one message without a traceback, with exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # threads that spin while they wait make torch seven times slower wherever anything else wants the cores
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except OSError as error:
        short_write = error.errno is None and "requested and" in str(error)  # numpy's word for a full disk
        if not short_write and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        what = f"No space left on device ({error})" if short_write else str(error)
        Console(stderr=True).print(
            f"[bold red]error:[/] {escape(what)}. What was finished is kept; make room and run again.", soft_wrap=True
        )
        sys.exit(2)
    except SystemExit as end:
        if end.code == STOPPED:
            Console(stderr=True).print("stopped; what was finished is kept: the same command goes on from here")
        raise
