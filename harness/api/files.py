"""Model files: what they hold, and what a device has to know of them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from backends.device.artifact import Artifact, Layout, Pixels, Preproc, sha256_file
from backends.device.errors import UserError
from exporters.files import describe
from exporters.files.description import Description
from exporters.files.image_input import guess_layout, guess_preproc, image_axes, image_layout, require_free_batch
from exporters.files.input_range import misfit
from exporters.files.onnx import data_files
from exporters.sidecar import description_beside
from harness.extras import require

READ_WITH = {".onnx": ("onnx", "onnxruntime"), ".tflite": ("ai_edge_litert",)}


def inspect(file: str | Path) -> Description:
    """Read what a model file computes: operators, dtypes, scales, and what is in float.

    Args:
        file: An ``.onnx``, ``.tflite`` or ``.pte`` file, or a ``.bmodel``, ``.cvimodel``, ``.rknn``, ``.kmodel`` or
            ``.espdl`` exported here; any other, or a damaged one, is a `UserError`.
    """
    path = Path(file)
    for module in READ_WITH.get(path.suffix, ()):
        require(module)
    return describe(path)


def described(file: Path, images: Pixels, preproc: Preproc | None = None) -> Artifact:
    """Return what a device has to know of a file; images of another size than it takes are a `UserError`.

    The ``.json`` that `export` wrote beside it counts, whose preprocessing a given one may not contradict. Without one,
    `preproc` counts, in the layout of the file's input where its shape tells; failing both it is guessed from the
    range of that input.
    """
    known = description_of(file, preproc) or _read(file, images, preproc)
    if file.suffix == ".onnx" and (beside := data_files(file)):
        raise UserError(f"{file}: keeps its weights in {beside[0].name}: save it as one file, as onnx.save does")
    if known.input_size != images.shape[1:3]:
        takes, got = ("x".join(map(str, size)) for size in (known.input_size, images.shape[1:3]))
        raise UserError(f"{file}: takes images of {takes} pixels, got {got}; resize them first")
    return known


def description_of(file: Path, preproc: Preproc | None) -> Artifact | None:
    """Return what the ``.json`` beside a file says, if there is one; preprocessing that contradicts it is an error."""
    if preproc is not None and not isinstance(preproc, Preproc):
        raise UserError(f"preproc: expected a patchbench.Preproc, got a {type(preproc).__name__}")
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    known = description_beside(file)
    if known and preproc not in (None, known.preproc):
        raise UserError(f"{file}: the description beside it says {known.preproc}, got {preproc}: leave preproc out")
    return known


def warn_of_misfit(file: Path, found: Description, preproc: Preproc, stacklevel: int) -> None:
    """Warn of preprocessing that sends other values than a file's input can hold, at the caller so many calls up."""
    if doubt := misfit(found, preproc):
        warnings.warn(f"{file}: {doubt}", stacklevel=stacklevel + 1)


def layout_of(found: Description, preproc: Preproc | None) -> Layout:
    """Return the layout of a file's image: that of its shape, else the one in a given preprocessing."""
    return image_layout(found, preproc.layout if preproc and not guess_layout(found) else None)


def _read(file: Path, images: Pixels, preproc: Preproc | None) -> Artifact:
    found = inspect(file)
    if len(found.inputs) != 1 or len(found.outputs) != 1:
        raise UserError(f"{file}: expected one input and one output, got {len(found.inputs)} and {len(found.outputs)}")
    require_free_batch(found)
    layout = layout_of(found, preproc)
    height, width = (
        own if own > 0 else given for own, given in zip(image_axes(found, layout), images.shape[1:3], strict=True)
    )
    outputs = (found.outputs[0].shape or (1,))[-1]
    prepared = replace(preproc, layout=layout) if preproc else guess_preproc(found, layout)
    warn_of_misfit(file, found, prepared, 4)
    return Artifact(
        name=file.stem,
        victim="",
        format=found.format,
        precision=found.precision("w8a8" if found.is_quantized else "fp32"),
        file=file.name,
        sha256=sha256_file(file),
        input_size=(height, width),
        classes=max(1, outputs),
        preproc=prepared,
    )
