"""Export a torch module, without a suite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from backends.device.artifact import ENDINGS, FORMATS, Artifact, Pixels, Preproc, QuantSpec
from backends.device.errors import UserError
from exporters.sidecar import require_own
from exporters.victim import Victim
from harness.api.arrays import check_images
from harness.extras import require

if TYPE_CHECKING:
    from torch import nn


def export(
    module: nn.Module,
    images: Pixels,
    quant_spec: QuantSpec | None,
    file: str | Path,
    *,
    preproc: Preproc | None = None,
) -> Artifact:
    """Write a torch module to a file of one of the formats, in integers throughout.

    Beside the file, a ``.json`` of its name says what it is; the description is returned too, and one of another file
    there is a `UserError`. The file takes pixels: its
    normalisation is part of it. A file that computes in float what the spec's ``allow_float`` does not name, or whose
    scales are not those of the spec, is a `UserError`, and so is a module that the format cannot express.

    Args:
        module: In eval mode, from float32 ``(n, 3, h, w)`` RGB to logits ``(n, classes)``.
        images: Calibration images, uint8 ``(n, h, w, 3)`` RGB, all of which give the ranges of the activations.
        quant_spec: How to quantize; ``QuantSpec()`` is INT8 per channel with ``minmax``. None writes a float file.
        file: Where to write; its suffix chooses the format: ``.onnx``, ``.tflite``, ``.pte``, ``.bmodel``,
            ``.cvimodel``, ``.rknn``, ``.kmodel`` or ``.espdl``.
        preproc: What the module expects of pixels: by default they are divided by 255, and not normalised.
    """
    path = Path(file)
    pixels = check_images(images)
    if path.suffix.removeprefix(".") not in FORMATS:
        raise UserError(f"{path}: expected a file that ends in {ENDINGS}")
    require_own(path)
    require("torch")

    from exporters.export import export as export_network
    from harness.api.networks import classes_of, with_preproc

    network = with_preproc(module, preproc)
    size = pixels.shape[1:3]
    victim = Victim(path.stem, type(module).__name__, Path(), "", classes_of(network, size), size)
    return export_network(
        network,
        name=path.stem,
        victim=victim,
        format=path.suffix.removeprefix("."),
        quant=replace(quant_spec, calibration_images=len(pixels)) if quant_spec else None,
        calibration_pixels=pixels,
        folder=path.parent,
    )
