"""What verbs of the command line have in common: their arguments and options."""

from pathlib import Path
from typing import Annotated

import typer

SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite, as TOML; see benchmarks/suites/.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", envvar="PATCHBENCH_DATA", help="Folder of the images and weights that suites name."
    ),
]
RunDir = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run directory; out/NAME-OF-SUITE unless given.")
]
Into = Annotated[Path, typer.Option("--into", "-o", metavar="DIR", help="The folder for what this makes.")]
Device = Annotated[str, typer.Option(help="Where patches are made: cpu or cuda.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="PATTERN", help="Only those whose name matches: `'*tflite*'`.")
]
Targets = Annotated[
    list[str] | None, typer.Option("--targets", metavar="PATTERN", help="Only targets whose name matches.")
]
Frozen = Annotated[
    Path | None,
    typer.Option("--frozen", metavar="BASELINE", help="Replay its patches; craft only where the weights are others."),
]
Analyses = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="ANALYSIS",
        help="One analysis alone; may be repeated: bitwidth, transfer, features, strength, gradients, places, "
        "defences, saturation.",
    ),
]
