"""A user's own model file: check it against the user's description, and copy it beside that description."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from backends.device.artifact import Artifact, sha256_file
from backends.device.errors import UserError
from exporters.files import describe, require_integer
from exporters.files.description import Description
from exporters.files.image_input import image_axes, image_layout, require_free_batch
from exporters.files.onnx import data_files, write_whole


def check(file: Path, artifact: Artifact, allow_float: Collection[str] = ()) -> Description:
    """Return what a file holds; a wrong precision, an input of another size or too few outputs is a `UserError`.

    The operators that `allow_float` names may compute in float.
    """
    found = describe(file) if artifact.precision == "fp32" else require_integer(file, allow_float)
    if artifact.precision == "fp32" and found.is_quantized:
        raise UserError(f'{file}: described as fp32, but its tensors have integer scales; try precision = "w8a8"')
    if len(found.inputs) != 1 or len(found.outputs) != 1:
        raise UserError(f"{file}: expected one input and one output, got {len(found.inputs)} and {len(found.outputs)}")
    require_free_batch(found)
    layout = image_layout(found, artifact.preproc.layout)
    size = [
        side if side > 0 else wanted
        for side, wanted in zip(image_axes(found, layout), artifact.input_size, strict=True)
    ]
    if size != list(artifact.input_size):
        takes, says = ("x".join(map(str, sides)) for sides in (size, artifact.input_size))
        raise UserError(f"{file}: takes images of {takes}, the suite says {says}: set input_size = {size}")
    outputs = found.outputs[0].shape
    least = artifact.classes + artifact.class_offset
    if outputs and 0 <= outputs[-1] < least:
        raise UserError(f"{file}: has {outputs[-1]} outputs, expected at least {least}; see classes and class_offset")
    return found


def bring(file: Path, artifact: Artifact, folder: Path, allow_float: Collection[str] = ()) -> Description:
    """Copy a file that passes `check` to ``folder/artifact.file``, write ``folder/NAME.json``, return what it holds.

    The copy is one file, also where an ONNX file keeps its weights beside it.
    """
    found = check(file, artifact, allow_float)
    artifact = replace(artifact, precision=found.precision(artifact.precision))
    copy = folder / artifact.file
    if file.suffix == ".onnx" and data_files(file):
        write_whole(file, copy)
        artifact = replace(artifact, sha256=sha256_file(copy))
    else:
        shutil.copyfile(file, copy)
    artifact.save(folder / f"{artifact.name}.json")
    return found
