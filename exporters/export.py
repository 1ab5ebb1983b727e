"""Export a torch network to ONNX or TFLite, float or INT8, with proof that INT8 computes in integers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from torch import nn

from backends.device.artifact import FORMATS, Artifact, Format, Pixels, Preproc, QuantSpec, sha256_file
from backends.device.errors import UserError
from backends.device.files import replacing
from backends.device.toolchains import OF_FORMATS
from exporters.failure import naming
from exporters.ranges import Learned
from exporters.victim import Victim

__all__ = ["export"]

ONLY_TFLITE = "onnxruntime computes convolutions of INT4 weights in float"


def export(
    network: nn.Module,
    *,
    name: str,
    victim: Victim,
    format: str,
    quant: QuantSpec | None,
    calibration_pixels: Pixels,
    folder: Path,
    learned: Learned = (),
) -> Artifact:
    """Write ``folder/NAME.FORMAT``, such as ``.onnx``, and its description ``folder/NAME.json``.

    ``network`` maps float32 ``(n, 3, h, w)`` pixels in [0, 1] to logits. With ``quant`` None the file is float; else
    the first ``quant.calibration_images`` of ``calibration_pixels`` give the ranges. Weights of fewer than 8 bits are
    8-bit integers that use only those levels, so that any INT8 kernel runs them, or with ``quant.packed`` two to a byte
    (TFLite's int4); ``learned`` are the scales of weights that were trained to their levels. An INT8 file that computes
    in float what ``quant`` does not allow, or whose scales are not those of ``quant``, is a `UserError` and is deleted.
    """
    if format == "onnx":
        from exporters import onnx_qdq as writer
    elif format == "tflite":
        from exporters import tflite as writer  # type: ignore[no-redef]
    elif format == "pte":
        from exporters import pte as writer  # type: ignore[no-redef]
    elif format in OF_FORMATS:
        writer = importlib.import_module(f"exporters.{OF_FORMATS[format].module}")
    else:
        raise UserError(f"expected the format {', '.join(FORMATS)}, got {format!r}")
    if quant is not None and (quant.activation_bits != 8 or not 2 <= quant.weight_bits <= 8):
        raise UserError(f"expected w2a8 to w8a8, got {quant.precision}: no exporter supports it")
    if quant is not None and quant.packed and (format, quant.weight_bits) != ("tflite", 4):
        raise UserError(f"packed weights are w4a8 in a .tflite file, got {quant.precision} in .{format}: {ONLY_TFLITE}")
    if quant is not None and calibration_pixels.shape[1:] != (*victim.input_size, 3):
        raise UserError(
            f"{victim.name}: expected calibration pixels (n, {victim.input_size[0]}, {victim.input_size[1]}, 3), "
            f"got {calibration_pixels.shape}"
        )
    if network.training:
        raise UserError(f"{victim.name}: expected a network in eval mode; call its eval() first")
    path = folder / f"{name}.{format}"
    with replacing(path) as draft, naming(path, draft):
        proven = writer.write(network, victim, quant, calibration_pixels, draft, learned)
    artifact = Artifact(
        name=name,
        victim=victim.name,
        format=cast(Format, format),
        precision=proven.precision(quant.precision) if quant and proven else "fp32",
        file=path.name,
        sha256=sha256_file(path),
        input_size=victim.input_size,
        classes=victim.classes,
        preproc=Preproc(layout=writer.LAYOUT),
        quant=quant,
    )
    artifact.save(folder / f"{name}.json")
    return artifact
