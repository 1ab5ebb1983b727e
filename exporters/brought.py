"""A user's own model file: check it against the user's description, and copy it beside that description."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from backends.device.artifact import Artifact, sha256_file
from backends.device.errors import UserError
from exporters.files import describe, require_integer
from exporters.files.description import Description
from exporters.files.image_input import require_free_batch
from exporters.files.onnx import data_files, write_whole


def bring(file: Path, artifact: Artifact, folder: Path) -> Description:
    """Copy a file to ``folder/artifact.file``, write ``folder/NAME.json``, and return what the file holds.

    The copy is one file, also where an ONNX file keeps its weights beside it.

    A wrong precision, an input of another size or too few outputs is a `UserError`.
    """
    found = describe(file) if artifact.precision == "fp32" else require_integer(file)
    if artifact.precision == "fp32" and any(t.scale for operator in found.operators for t in operator.outputs):
        raise UserError(f'{file}: described as fp32, but its tensors have integer scales; try precision = "w8a8"')
    if len(found.inputs) != 1 or len(found.outputs) != 1:
        raise UserError(f"{file}: expected one input and one output, got {len(found.inputs)} and {len(found.outputs)}")
    require_free_batch(found)
    height, width = artifact.input_size
    shape = found.inputs[0].shape
    wanted = (height, width, 3) if artifact.preproc.layout == "nhwc" else (3, height, width)
    given = tuple(shape or ())[1:]
    if len(given) != 3 or any(have not in (-1, want) for have, want in zip(given, wanted, strict=True)):
        raise UserError(f"{file}: takes inputs {shape}, expected {('n', *wanted)}; see input_size and layout")
    outputs = found.outputs[0].shape
    least = artifact.classes + artifact.class_offset
    if outputs and 0 <= outputs[-1] < least:
        raise UserError(f"{file}: has {outputs[-1]} outputs, expected at least {least}; see classes and class_offset")
    copy = folder / artifact.file
    if file.suffix == ".onnx" and data_files(file):
        write_whole(file, copy)
        artifact = replace(artifact, sha256=sha256_file(copy))
    else:
        shutil.copyfile(file, copy)
    artifact.save(folder / f"{artifact.name}.json")
    return found
