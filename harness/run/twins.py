"""How far a twin agrees with the runtime whose kernels it follows, on the integers before any final softmax."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from backends.device.artifact import Artifact, Pixels, Preproc
from backends.device.bundle import paste
from backends.device.errors import UserError
from backends.device.runtimes import engine, prepare, real
from exporters.files import describe
from exporters.files.tflite_cut import cut
from harness.config import Suite, read_suite
from harness.data import datasets as data
from harness.results.agreement import steps_of
from patches import placement
from patches.patch import Patch

if TYPE_CHECKING:
    from patches.twins import Twin

BATCH_PIXELS = 50 * 32 * 32  # at a time: bigger tensors leave the cache, at less than half the speed


@dataclass(frozen=True)
class Agreement:
    """Twin and runtime over ``images``: shares of images (top-1) and of outputs (integers), and the largest difference.

    The class of an image is the lowest of those with the greatest integer, here and there.
    """

    images: int
    outputs: int
    top1: float
    equal: float
    within_one: float
    largest: int


def agreement(file: Path, kernels: str | None, preproc: Preproc | None, pixels: Pixels) -> tuple[str, Agreement]:
    """The kernels that were compared with, and how far a file's twin agrees with them on uint8 ``(n, h, w, 3)``."""
    import torch

    from patches.twins import twin

    made = twin(file, kernels, preproc)
    parts = []
    for batch in _batches(pixels):
        x = torch.from_numpy(batch.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
        parts.append(made.integers(x.contiguous(memory_format=torch.channels_last)).numpy())
    ours = np.concatenate(parts)
    theirs = _integers(made, pixels)
    apart = np.abs(ours - theirs)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    return made.kernels, Agreement(
        images=len(pixels), outputs=int(apart.size), top1=float(same.mean()), equal=float((apart == 0).mean()),
        within_one=float((apart <= 1).mean()), largest=int(apart.max()),
    )  # fmt: skip


def _batches(pixels: Pixels) -> list[Pixels]:
    size = max(4, BATCH_PIXELS // (pixels.shape[1] * pixels.shape[2]))
    return np.array_split(pixels, -(-len(pixels) // size))


def _integers(made: Twin, pixels: Pixels) -> NDArray[np.int64]:
    """The runtime's integers where the twin's end, in the file's order: int64 ``(n, outputs)``."""
    with tempfile.TemporaryDirectory() as folder:
        file, options = made.path, {}
        if made.path.suffix == ".tflite":
            file, options = Path(folder) / "cut.tflite", {"kernels": made.kernels}
            cut(made.path, made.output, file)
        runtime = engine("litert" if options else "onnxruntime")()
        runtime.load(file, options, 1)
        inputs = (prepare(runtime.input, made.preproc(batch), file) for batch in _batches(pixels))
        raw = np.concatenate([runtime.run(x) for x in inputs])
    integers = None if raw.dtype == np.float32 else raw
    steps = steps_of(real(runtime.output, raw), integers, made.quant.scale)
    if steps is None:
        raise UserError(f"{made.path}: ends in reals that are no whole numbers of a scale, a softmax perhaps")
    return steps + made.quant.zero_point if integers is None else steps


def report_twin(
    file: Path,
    suite_file: Path | None,
    data_dir: Path | None,
    kernels: Sequence[str],
    images: int | None,
    patch_file: Path | None,
    console: Console,
) -> None:
    """Prints a table of how far a file's twin agrees with each set of kernels, over images at the size of its input.

    They are a suite's evaluation images, or without a suite a hundred pieces of scikit-learn's two photographs.
    How pixels are prepared is read from the file's description beside it (what `export` wrote), or from the suite's
    ``[[artifact]]`` of this file, and guessed from the file's input otherwise.
    """
    from patches.twins import KERNELS

    suite = read_suite(suite_file) if suite_file else None
    pixels, source = _images(file, suite, data_dir, patch_file)
    pixels, preproc = pixels[:images], _preproc(file, suite)
    title = f"{file.name}: its twin beside the runtime itself, on {source}"
    columns = ("kernels", "images", "same top-1", "same integers", "within one step", "largest difference, steps")
    table = Table(*columns, title=title, title_justify="left")
    for name in kernels or KERNELS.get(file.suffix, ("",)):
        ran, found = agreement(file, name or None, preproc, pixels)
        shares = (f"{100 * share:.3f} %" for share in (found.top1, found.equal, found.within_one))
        table.add_row(_named(ran), str(found.images), *shares, str(found.largest))
    console.print(table)
    console.print(
        "integers before any final softmax; the top-1 is the greatest integer's class, of several the first",
        style="dim",
    )


def _named(kernels: str) -> str:
    if kernels == "onnxruntime":
        return f"onnxruntime {version('onnxruntime')}"
    return f"{kernels}, LiteRT {version('ai-edge-litert')}"


def _images(file: Path, suite: Suite | None, data_dir: Path | None, patch_file: Path | None) -> tuple[Pixels, str]:
    """Images at the size of a file's input, with a patch at random places or without; and what they are."""
    shape = describe(file).inputs[0].shape or ()
    height, width = size = (shape[1], shape[2]) if file.suffix == ".tflite" else (shape[2], shape[3])
    if suite is None:
        pixels, source = _pieces(size), f"pieces of photographs, {height}x{width}"
        ids = [str(i) for i in range(len(pixels))]
    else:
        whole = data.load(suite.data, size, data_dir, Path("out") / suite.name / "store")
        chosen = data.split(whole, suite.data)["evaluate"]
        pixels, ids, source = chosen.pixels, list(chosen.ids), f"images of {suite.data.name}, {height}x{width}"
    if patch_file is None:
        return pixels, source
    return paste(pixels, *placement.stamps_for(Patch.read(patch_file), "random", ids, size)), f"{source}, patched"


def _pieces(size: tuple[int, int], n: int = 100) -> Pixels:
    """Squares of scikit-learn's two photographs, 60 to 400 pixels wide, from a seed: uint8 ``(n, *size, 3)``."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    photographs, random, found = load_sample_images().images, np.random.default_rng(0), []
    for i in range(n):
        whole, side = photographs[i % 2], int(random.integers(60, 400))
        top, left = (int(random.integers(room - side + 1)) for room in whole.shape[:2])
        piece = Image.fromarray(whole[top : top + side, left : left + side])
        found.append(np.array(piece.resize(size[::-1], Image.Resampling.BILINEAR)))
    return np.stack(found)


def _preproc(file: Path, suite: Suite | None) -> Preproc | None:
    if (beside := file.with_suffix(".json")).is_file():
        return Artifact.read(beside).preproc
    for table in suite.artifact if suite else ():
        if Path(table.file).name == file.name:
            layout = table.layout or ("nhwc" if file.suffix == ".tflite" else "nchw")
            return Preproc(layout, table.divisor, table.mean, table.std, table.channel_order)
    return None
