"""The command line: one verb for a whole run, and one for each stage, from files to files."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness.schema import UserError

app = typer.Typer(
    name="patchbench", no_args_is_help=True, rich_markup_mode="markdown", pretty_exceptions_enable=False, add_completion=False,
    help="Does an adversarial patch that works in the lab work on the device?\n\n"
    "Patches are made on a surrogate, the network is exported for real, the patch is replayed on the real integer runtime "
    "and its success counted.\n\n**Start with** `patchbench run benchmarks/suites/demo.toml`.",
)  # fmt: skip
SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite, as TOML; see benchmarks/suites/.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", envvar="PATCHBENCH_DATA", help="Folder of the images and weights that suites name."),
]
RunDir = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run directory; out/NAME-OF-SUITE unless given.")
]
Only = Annotated[list[str] | None, typer.Option("--only", metavar="PATTERN", help="Only those whose name matches, e.g. '*tflite*'.")]


@app.command(epilog="Examples: `patchbench run benchmarks/suites/demo.toml` · "
             "`patchbench run benchmarks/suites/cifar10.toml --data ~/data --targets 'litert*'`")  # fmt: skip
def run(
    suite: SuiteFile,
    data: DataDir = None,
    out: RunDir = None,
    targets: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Only targets whose name matches.")] = None,
    device: Annotated[str, typer.Option(help="Where patches are made: cpu or cuda.")] = "cpu",
) -> None:
    """Carries out a suite: train or fetch, export, craft, replay, count, report. A second run does only what is new."""
    from harness.run import carry_out

    carry_out(suite, data, out, targets=tuple(targets or ["*"]), device=device, console=Console())


@app.command(epilog="Example: `patchbench report out/demo`")
def report(run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]) -> None:
    """Writes a run's cells.csv, summary.json and report.html again, from its records."""
    from harness.run import write_results

    Console().print(f"report: {write_results(run_dir)}")


@app.command(epilog="Example: `patchbench train benchmarks/suites/demo.toml -o weights/`")
def train(suite: SuiteFile, into: Annotated[Path, typer.Option("-o", "--into", metavar="DIR")], data: DataDir = None, only: Only = None) -> None:
    """Trains a suite's victims, or fetches their weights: DIR/VICTIM.pt and what it is, DIR/VICTIM.json."""
    _stage(suite, data, into, only, "victims")


@app.command(epilog="Example: `patchbench export benchmarks/suites/demo.toml --only '*tflite*' -o models/`")
def export(suite: SuiteFile, into: Annotated[Path, typer.Option("-o", "--into", metavar="DIR")], data: DataDir = None, only: Only = None) -> None:
    """Exports a suite's victims: DIR/ARTIFACT.onnx or .tflite, and what it is, DIR/ARTIFACT.json."""
    _stage(suite, data, into, only, "artifacts")


@app.command(epilog="Example: `patchbench craft benchmarks/suites/demo.toml --only 'gap*c3*' -o patches/`")
def craft(suite: SuiteFile, into: Annotated[Path, typer.Option("-o", "--into", metavar="DIR")], data: DataDir = None, only: Only = None) -> None:
    """Makes a suite's patches and controls: DIR/PATCH.npz, and DIR/PATCH.png to look at."""
    _stage(suite, data, into, only, "patches")


@app.command(epilog="Example: `patchbench bundle benchmarks/suites/demo.toml --artifact models/resnet8-onnx-s8s8-minmax.json "
             "--patch patches/noise-s0-8px.npz -o bundle/`")  # fmt: skip
def bundle(
    suite: SuiteFile,
    artifact: Annotated[Path, typer.Option(metavar="FILE", help="What `export` wrote: the .json beside the model.")],
    into: Annotated[Path, typer.Option("-o", "--into", metavar="DIR", help="The bundle's folder; must not exist.")],
    patch: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="What `craft` wrote (.npz); may be repeated.")] = None,
    placement: Annotated[str, typer.Option(help="random, center, top-left ..., or ROW,COLUMN.")] = "random",
    placement_seed: int = 0,
    data: DataDir = None,
) -> None:
    """Packs an artifact, a suite's evaluation images and patches into a directory that a device can replay."""
    from harness.stages import bundle_files

    made = bundle_files(suite, data, artifact, patch or [], placement, placement_seed, into)
    Console().print(f"bundle: {into} ({len(made.cases)} cases of {made.n} images)")


@app.command(epilog="Example: `patchbench replay bundle/ --runtime litert --option kernels=builtin -o answers/`")
def replay(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE")],
    runtime: Annotated[str, typer.Option(help="onnxruntime, litert, reference, or one of an installed package.")],
    into: Annotated[Path, typer.Option("-o", "--into", metavar="DIR", help="Where CASE.npz (logits, integers) go.")],
    option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the runtime; may be repeated.")] = None,
    threads: int = 1,
    batch: int = 1,
    time_limit: Annotated[float, typer.Option(help="Seconds without a sign of life that count as a hang.")] = 300.0,
) -> None:
    """Replays a bundle on a runtime: logits per case, and what really ran (device.json)."""
    from harness.stages import replay_files

    pairs = dict(o.partition("=")[::2] for o in option or [])
    if failed := replay_files(bundle, runtime, pairs, threads, batch, time_limit, into, Console()):
        raise UserError("\n".join(f"{case}: {why}" for case, why in failed.items()))


@app.command(epilog="Example: `patchbench targets benchmarks/suites/demo.toml`")
def targets(suite: SuiteFile) -> None:
    """Lists a suite's targets: whether each can run here and, if not, the one command that mends it."""
    from rich.table import Table

    from backends.hosts import Target, availability
    from harness.config import read_suite

    table = Table("target", "runtime", "host", "options", "threads", "can run here", title=str(suite), title_justify="left")
    for entry in read_suite(suite).target:
        target = Target(**entry.model_dump())
        why_not = availability(target)
        options = " ".join(f"{k}={v}" for k, v in target.options.items())
        verdict = f"[red]no:[/] {why_not}" if why_not else "[green]yes[/]"
        table.add_row(target.name, target.runtime, target.host, options, str(target.threads), verdict)
    Console().print(table)


@app.command(epilog="Example: `patchbench inspect out/demo/artifacts/resnet8-tflite-s8s8-minmax.tflite`")
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An .onnx or .tflite file, ours or anyone's.")],
    require_integer: Annotated[bool, typer.Option(help="Fail if a compute operator is left in float.")] = False,
) -> None:
    """Prints a model file's operators, their dtypes, scales and zero points, and what is left in float."""
    from harness.report.inspection import show

    show(file, Console(), require_integer)


def _stage(suite: Path, data: Path | None, into: Path, only: list[str] | None, stage: str) -> None:
    from harness.stages import stage_files

    for path in stage_files(suite, data, stage, tuple(only or ["*"]), into, Console()):
        Console().print(str(path), soft_wrap=True)


def main() -> None:
    """Runs the command line; what a user can mend is one message without a traceback, with exit code 2."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {error}", soft_wrap=True, highlight=False, markup=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {error}. What was finished is kept; make room and run again.")
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; what was finished is kept: the same command goes on from here")
        sys.exit(130)


if __name__ == "__main__":
    main()
