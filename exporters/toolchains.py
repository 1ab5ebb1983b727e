"""What the exporters of vendors' toolchains share: specs that they take, what they are fed, and a check of layers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from backends.device.artifact import Pixels, QuantSpec
from backends.device.errors import UserError
from backends.device.toolchains import Toolchain
from exporters.calibration import Floats, batches, short
from exporters.ranges import Learned

LIKE_FLOAT = 0.8  # the cosine that tpu-mlir's own deployment asks of each layer by default


def taken(toolchain: Toolchain, quant: QuantSpec | None, learned: Learned) -> QuantSpec:
    """Return a spec that a toolchain's quantizer can follow; any other is a `UserError`."""
    if quant is None:
        raise UserError(f"{toolchain.package} is asked for integers: give its files precision w8a8")
    fits = quant.symmetric_activations == toolchain.symmetric and quant.per_channel and quant.weight_bits == 8
    if not fits or quant.signature != toolchain.signature or learned:
        raise UserError(
            f"{toolchain.package} quantizes to w8a8, {toolchain.signature}, with{'' if toolchain.symmetric else 'out'} "
            f"symmetric_activations and with per_channel, not to levels that were trained; got {quant.precision} "
            f"{quant.signature}"
        )
    return quant


def calibration_images(pixels: Pixels, quant: QuantSpec) -> Floats:
    """Return the images to calibrate on as a network takes them, float32 ``(n, 3, h, w)`` in [0, 1]."""
    used = np.concatenate(list(batches(pixels, quant)))
    return np.ascontiguousarray(used.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def for_one_image(model: Any, opset: int, ir_version: int) -> Any:
    """Return an ONNX model whose batch is one image, in the versions of ONNX that a toolchain reads."""
    import onnx

    single = onnx.ModelProto()
    single.CopyFrom(model)
    single.ir_version = ir_version
    del single.opset_import[:], single.graph.value_info[:]
    single.opset_import.append(onnx.helper.make_opsetid("", opset))
    for tensor in (*single.graph.input, *single.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    return onnx.shape_inference.infer_shapes(single)


def require_answers(path: Path, toolchain: Toolchain, cosines: Iterable[tuple[str, float]]) -> None:
    """Check that each layer is like the float network's, by the cosine of its outputs; else a `UserError` names it."""
    for name, cosine in cosines:
        if not cosine >= LIKE_FLOAT:
            raise UserError(
                f"{path}: from {short(name)!r} on, what {toolchain.package} compiled is not like the float network "
                f"(cosine {cosine:.2f}): try another calibration"
            )
