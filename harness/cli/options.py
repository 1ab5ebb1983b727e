"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE", help="Suite file (TOML); see benchmarks/suites/.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory.")]
ModelFile = Annotated[Path, typer.Argument(metavar="FILE", help="Any .onnx or .tflite file.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", envvar="PATCHBENCH_DATA", help="Folder with the images and weights that suites name."
    ),
]
RunDir = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run directory [default: out/SUITE].")]
Into = Annotated[Path, typer.Option("--into", "-o", metavar="DIR", help="Folder to write to.")]
Device = Annotated[str, typer.Option(help="Device that crafts the patches: cpu, cuda, or cuda:N.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="PATTERN", help="Only names that match, such as `'*tflite*'`; repeatable."),
]


def examples(*commands: str) -> str:
    """Return the epilogue of a command's help: one list entry for each example."""
    return "Examples:\n\n" + "\n\n".join(f"- `{command}`" for command in commands)
