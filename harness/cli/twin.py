"""The command ``twin``: rebuild an INT8 file, and compare its arithmetic with that of the runtime's kernels."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from backends.device.artifact import Layout
from backends.device.errors import UserError
from harness.cli.options import DataDir, examples, suite_names
from harness.console import console
from harness.shipped import about_suite, suite_file

if TYPE_CHECKING:
    from backends.device.artifact import Pixels, Preproc
    from harness.config import Suite

PHOTOGRAPH_PIECES = 100
app = typer.Typer()


@app.command(
    rich_help_panel="Inspect",
    epilog=examples("patchbench twin vendor.tflite", "patchbench twin vendor.tflite --suite suite.toml --data ~/data"),
)
def twin(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any INT8 .onnx, .tflite or .pte file.")],
    suite: Annotated[
        Path | None,
        typer.Option(
            metavar="SUITE",
            parser=suite_file,
            autocompletion=suite_names,
            help="Use this suite's evaluation images [default: pieces of two photographs].",
        ),
    ] = None,
    data: DataDir = None,
    kernels: Annotated[
        list[str] | None,
        typer.Option(
            help="xnnpack, builtin, reference, tosa, onnxruntime or executorch; repeatable [default: all but tosa that "
            "run it]."
        ),
    ] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Number of images [default: all].")] = None,
    patch: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Paste this patch (.npz from `craft`) at random places.")
    ] = None,
    layout: Annotated[Layout | None, typer.Option(help="Layout of the file's input [default: from its shape].")] = None,
) -> None:
    """Rebuild an INT8 file as a differentiable network, and check its arithmetic against the runtime's kernels.

    Pixels are prepared as the file's description beside it says (`export` writes one), else as the suite's
    `[[artifact]]` table says; failing both, as the shape and the range of the file's input suggest.
    """
    from harness.config import read_suite
    from harness.display import Display
    from harness.run.arithmetic import compare_with_runtime
    from harness.run.trial import require_survived
    from patches.twins import KERNELS, kernels_of

    if not file.is_file():
        raise UserError(f"{file}: no such file")
    chosen = [kernels_of(file, name) for name in kernels or KERNELS.get(file.suffix, ("",))]
    require_survived(file, chosen)
    config = read_suite(suite) if suite else None
    preproc = _preproc(file, config, layout)
    pixels, source = _images(file, preproc.layout if preproc else layout, suite, data, patch)
    columns = ("kernels", "images", "same top-1", "same integers", "within one step", "largest difference, steps")
    table = Table(*columns, title=f"{file.name}: twin and runtime, on {source}", title_justify="left")
    out = console()
    display = Display(out)
    for name in chosen:
        with display.watching("compare", f"{file.name}, {name}") as progress:
            used, found = compare_with_runtime(file, name, preproc, pixels[:images], layout, progress)
        shares = (f"{100 * share:.3f} %" for share in (found.top1, found.equal, found.within_one))
        table.add_row(_kernels_and_version(used), str(found.images), *shares, str(found.largest))
    out.print(table)
    out.print("Integers are taken before any final softmax. Top-1 is the first of the largest integers.", style="dim")


def _kernels_and_version(kernels: str) -> str:
    if kernels in ("executorch", "onnxruntime"):
        return f"{kernels} {version(kernels)}"
    if kernels == "tosa":
        return "tosa, Arm's reference model"
    return f"{kernels}, LiteRT {version('ai-edge-litert')}"


def _images(
    file: Path, layout: Layout | None, named: Path | None, data_dir: Path | None, patch_file: Path | None
) -> tuple[Pixels, str]:
    """Return images of the file's input size, those of the suite `named` or of photographs, and their source in words.

    They are patched if a patch is given.
    """
    from backends.device.bundle import paste
    from exporters.files import describe
    from exporters.files.image_input import image_layout, image_size
    from harness.config import read_suite
    from harness.data import datasets
    from harness.run.run import data_folder
    from patches.patch import Patch
    from patches.placement import stamps_for

    description = describe(file)
    size = image_size(description, image_layout(description, layout))
    height, width = size
    if named is None:
        pixels = _photograph_pieces(size)
        ids = [str(i) for i in range(len(pixels))]
        source = f"pieces of photographs, {height}x{width}"
    else:
        suite = read_suite(named)
        folder = data_folder(suite, named, data_dir)
        with about_suite(named):
            every = datasets.load(suite.data, size, folder, Path("out") / suite.name / "store")
            chosen = datasets.split(every, suite.data)["evaluate"]
        pixels = chosen.pixels
        ids = list(chosen.ids)
        source = f"images of {suite.data.name}, {height}x{width}"
    if patch_file is None:
        return pixels, source
    return paste(pixels, *stamps_for(Patch.read(patch_file), "random", ids, size)), f"{source}, patched"


def _photograph_pieces(size: tuple[int, int]) -> Pixels:
    """Cut seeded squares, 60 to 400 pixels wide, from scikit-learn's two photographs: uint8 ``(n, *size, 3)``."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    random = np.random.default_rng(0)
    pieces = []
    for i in range(PHOTOGRAPH_PIECES):
        photograph = photographs[i % 2]
        side = int(random.integers(60, 400))
        top, left = (int(random.integers(room - side + 1)) for room in photograph.shape[:2])
        piece = Image.fromarray(photograph[top : top + side, left : left + side])
        pieces.append(np.array(piece.resize(size[::-1], Image.Resampling.BILINEAR)))
    return np.stack(pieces)


def _preproc(file: Path, suite: Suite | None, layout: Layout | None) -> Preproc | None:
    from backends.device.artifact import Preproc
    from exporters.files import describe
    from exporters.files.image_input import layout_or_default
    from exporters.sidecar import description_beside

    if described := description_beside(file):
        return replace(described.preproc, layout=layout or described.preproc.layout)
    for table in suite.artifact if suite else ():
        if Path(table.file).name == file.name:
            chosen = layout_or_default(describe(file), layout or table.layout)
            return Preproc(chosen, table.divisor, table.mean, table.std, table.channel_order)
    return None
