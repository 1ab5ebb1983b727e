"""The description of a model file: the one that lies beside it, or one read from the file itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from backends.device.artifact import Artifact, Pixels, Preproc, sha256_file
from backends.device.errors import UserError
from exporters.files import describe
from exporters.files.description import Description
from exporters.files.image_input import CHANNEL_AXIS, guess_layout, guess_preproc, image_layout


def described(file: Path, images: Pixels, preproc: Preproc | None = None) -> Artifact:
    """Return what a device has to know of a file; images of another size than it takes are a `UserError`.

    The ``.json`` that `export` wrote beside it counts, whose preprocessing a given one may not contradict. Without one,
    `preproc` counts, in the layout of the file's input where its shape tells; failing both it is guessed from the
    range of that input.
    """
    found = describe(file)
    beside = file.with_suffix(".json")
    if beside.is_file():
        known = Artifact.read(beside)
        if known.sha256 != sha256_file(file):
            raise UserError(f"{beside}: describes another file than {file.name}: export again, or remove it")
        if preproc not in (None, known.preproc):
            raise UserError(f"{file}: {beside.name} says {known.preproc}, got {preproc}: leave preproc out")
    else:
        known = _read(found, images, preproc)
    _check_size(file, found, known.preproc, images)
    return known


def _read(found: Description, images: Pixels, preproc: Preproc | None) -> Artifact:
    file = found.path
    if len(found.outputs) != 1:
        raise UserError(f"{file}: expected one output, the classes' scores, got {len(found.outputs)}")
    layout = guess_layout(found) or image_layout(found, preproc.layout if preproc else None)
    outputs = (found.outputs[0].shape or (1,))[-1]
    return Artifact(
        name=file.stem,
        victim="",
        format=found.format,
        precision="w8a8" if any(t.scale for operator in found.operators for t in operator.outputs) else "fp32",
        file=f"model{file.suffix}",
        sha256=sha256_file(file),
        input_size=images.shape[1:3],
        classes=max(1, outputs),
        preproc=replace(preproc, layout=layout) if preproc else guess_preproc(found, layout),
    )


def _check_size(file: Path, found: Description, preproc: Preproc, images: Pixels) -> None:
    sizes = [
        size for axis, size in enumerate(found.inputs[0].shape or ()) if axis not in (0, CHANNEL_AXIS[preproc.layout])
    ]
    if any(size not in (-1, given) for size, given in zip(sizes, images.shape[1:3], strict=False)):
        takes, got = ("x".join(map(str, size)) for size in (sizes, images.shape[1:3]))
        raise UserError(f"{file}: takes images of {takes} pixels, got {got}; resize them first")
