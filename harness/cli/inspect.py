"""Commands that look without running a suite: ``targets`` and ``inspect``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from backends.device.files import replacing
from harness.cli.options import AcceptLicence, ModelFile, examples, suite_names
from harness.console import console
from harness.shipped import suite_file

if TYPE_CHECKING:
    from exporters.files.description import Description, Tensor
    from harness.config import Suite

PANEL = "Inspect"
app = typer.Typer()

Inside = Annotated[
    Path | None,
    typer.Option(
        metavar="COPY", help="Write a copy of a .tflite file with all weights inside the flatbuffer, for any runtime."
    ),
]


@app.command(rich_help_panel=PANEL, epilog=examples("patchbench targets", "patchbench targets demo"))
def targets(
    suite: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SUITE]", parser=suite_file, autocompletion=suite_names, help="Whose targets [default: any]."
        ),
    ] = None,
    accept_licence: AcceptLicence = None,
) -> None:
    """List a suite's targets, whether each can run here, and how to fix those that cannot.

    Without a suite it lists the runtimes that a target can have: which files they take, how true they are to a device,
    and whether they can run here. One in an environment of its own is installed when it first runs.
    """
    from harness.config import read_suite

    if suite is None:
        print_runtimes(console())
    else:
        print_targets(read_suite(suite), console())


@app.command(
    rich_help_panel=PANEL,
    epilog=examples(
        "patchbench inspect out/demo/artifacts/cnn-tflite-s8s8-minmax.tflite",
        "patchbench inspect vendor.tflite --inside inside.tflite",
    ),
)
def inspect(file: ModelFile, inside: Inside = None) -> None:
    """List a model file's operators with their dtypes, scales, and zero points; float operators are flagged."""
    print_file(file, console())
    if inside is not None:
        from exporters.files import tflite_buffers

        content = tflite_buffers.inside(file)
        with replacing(inside) as draft:
            draft.write_bytes(content)


def print_targets(suite: Suite, out: Console) -> None:
    """Print a table of a suite's targets; of those that cannot run here, the reason and the fix."""
    from backends.hosts import availability, fidelity_of

    table = Table("target", "runtime", "host", "fidelity", "options", "threads", "can run here")
    for entry in suite.target:
        target = entry.target()
        reason = availability(target)
        options = " ".join(f"{name}={value}" for name, value in target.options.items())
        runtime = _words(target.runtime, target.version)
        host = _words(target.host, target.arch, target.cpu, target.image, *(board.address for board in target.boards))
        table.add_row(target.name, runtime, host, fidelity_of(target), options, str(target.threads), _verdict(reason))
    out.print(table)


def print_runtimes(out: Console) -> None:
    """Print a table of the runtimes: the files that each takes, its fidelity here, and whether it can run."""
    import platform

    from backends.board_check import FOR_TESTS
    from backends.device import runtimes
    from backends.device.names import modules
    from backends.fidelity import fidelity
    from backends.hosts import Target, availability

    table = Table("runtime", "takes", "package", "fidelity", "can run here")
    for name in sorted(set(modules(runtimes.__path__)) - {FOR_TESTS}):
        engine = runtimes.engine(name)
        takes = " ".join(f".{form}" for form in engine.formats)
        truth = fidelity(name, "local", platform.machine())
        table.add_row(name, takes, engine.package, truth, _verdict(availability(Target(name, name))))
    out.print(table)


def _verdict(reason: str | None) -> Text:
    return Text.assemble(("no", "red"), f": {reason}") if reason else Text("yes", "green")


def print_file(file: Path, out: Console) -> None:
    """Print a model file's operators, its inputs and outputs, and how many operators compute in float."""
    from exporters.files import describe, float_mend

    description = describe(file)
    columns = ("#", "operator", "dtype", "scale", "zero point", "shape", "weights, bias")
    table = Table(*columns, title=str(file), title_justify="left")
    table.add_column("output", no_wrap=True, overflow="ellipsis", max_width=32)
    for operator in description.operators:
        name = Text(operator.name, "red" if operator.in_float and description.is_quantized else "")
        constants = [tensor for tensor in operator.inputs if tensor.values is not None and tensor.scale]
        weights = "\n".join(map(_quantization, constants))
        for tensor in operator.outputs:
            quantization = (tensor.integers or tensor.dtype, _range(tensor.scale), _range(tensor.zero_point))
            table.add_row(str(operator.index), name, *quantization, _shape(tensor), weights, tensor.name)
    out.print(table)
    for role, tensors in (("input", description.inputs), ("output", description.outputs)):
        for tensor in tensors:
            out.print(f"{role} {tensor.name}: {_shape(tensor)} {_quantization(tensor)}", highlight=False)
    _print_counts(description, out)
    if description.is_quantized and description.in_float:
        out.print(f"suites take it only as they allow. {float_mend(description)}", soft_wrap=True)
    if description.outside:
        out.print(
            f"constants outside the flatbuffer: {description.outside}; OpenVINO and TFLite Micro do not read them, "
            "--inside COPY writes a file that all runtimes read",
            highlight=False,
            style="yellow",
        )


def _print_counts(description: Description, out: Console) -> None:
    counts = description.counts
    out.print("executed: " + ", ".join(f"{n} {name}" for name, n in counts.items()), highlight=False)
    if description.is_quantized and description.in_float:
        out.print(Text.assemble(("partly integer", "red"), f": integer but for {description.but_for}"))
    elif description.in_float:
        out.print(Text.assemble(("computes in float", "red"), f": {description.but_for}"))
    else:
        out.print(Text("integer throughout", "green"))
    if any(name.endswith("(int4 weights)") for name in counts):
        out.print("int4 weights: kernels unpack them, then multiply as in int8", highlight=False)


def _words(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _shape(tensor: Tensor) -> str:
    if tensor.shape is None:
        return "?"
    return "x".join("n" if size < 0 else str(size) for size in tensor.shape)


def _quantization(tensor: Tensor) -> str:
    dtype = tensor.integers or tensor.dtype
    if not tensor.scale:
        return dtype
    zero_point = _range(tensor.zero_point)
    text = f"{dtype} scale {_range(tensor.scale)}"
    return text if zero_point == "0" else f"{text} zero point {zero_point}"


def _range(values: Sequence[float]) -> str:
    """Format values as one number, or as ``low…high (count)``."""
    if not values:
        return ""
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.3g}…{high:.3g} ({len(values)})"
