"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from backends import licences
from harness.shipped import shipped_suites, suite_file


def suite_names(incomplete: str) -> list[str]:
    """Return the names that a shell offers for a suite; where there are none, it offers files."""
    return [name for name in shipped_suites() if name.startswith(incomplete)]


def run_directories(incomplete: str) -> list[str]:
    """Return the finished runs below ``out`` that a shell offers."""
    finished = sorted(str(file.parent) for file in Path("out").glob("*/run.json"))
    return [name for name in finished if name.startswith(incomplete)]


SuiteFile = Annotated[
    Path,
    typer.Argument(
        metavar="SUITE",
        parser=suite_file,
        autocompletion=suite_names,
        help="Suite file (TOML), or the name of one that ships: see `patchbench suites`.",
    ),
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", autocompletion=run_directories, help="Run directory, such as out/demo.")
]
ModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A .onnx, .tflite or .pte file, or a .bmodel, .cvimodel, .rknn, .kmodel or .espdl exported here.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", envvar="PATCHBENCH_DATA", help="Folder with the images and weights that suites name."
    ),
]
RunDir = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run directory [default: out/SUITE].")]
StoreUrl = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="PATCHBENCH_STORE",
        help="A store that runs share: take from it what others made, and add what is new; `s3://bucket/prefix`, "
        "`gs://bucket/prefix`, `file:///folder`, or any other URL of fsspec.",
    ),
]
Into = Annotated[Path, typer.Option("--into", "-o", metavar="DIR", help="Folder to write to.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress, only warnings and results.")]
Device = Annotated[str, typer.Option(help="What torch crafts patches on: cpu, cuda, or cuda:N.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a key of the suite, such as `data.evaluate=50` or `attack.0.options.steps=10`; repeatable.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Evaluate on N images at most.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="PATTERN", help="Only names that match, such as `'*tflite*'`; repeatable."),
]
AcceptLicence = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-licence",
        metavar="NAME",
        envvar=licences.VARIABLE,
        callback=lambda names: licences.accept(names or ()),
        help="Accept the licence of a runtime's package, so that it is installed: qualcomm, rockchip; repeatable.",
    ),
]


def examples(*commands: str) -> str:
    """Return the epilogue of a command's help: one list entry for each example."""
    return "Examples:\n\n" + "\n\n".join(f"- `{command}`" for command in commands)
