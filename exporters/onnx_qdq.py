"""Write a network as ONNX: float, or INT8 with QuantizeLinear and DequantizeLinear around every operator (QDQ)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import nn

from backends.device.artifact import Layout, Pixels, QuantSpec
from backends.device.errors import UserError
from exporters.calibration import Range, activation_affine
from exporters.compiler_ranges import compiler_ranges, signed_activations, usable
from exporters.failure import reason
from exporters.files import describe, require_integer
from exporters.files.description import Description
from exporters.onnx_float import float_model, ranges_of
from exporters.onnx_graph import leaky, pad_integers, tidy
from exporters.proof import require_scales
from exporters.quiet import quiet
from exporters.ranges import Learned, Weights, weights
from exporters.victim import Victim

LAYOUT: Layout = "nchw"


class Override(TypedDict):
    """A scale that onnxruntime's quantizer takes as given, of one channel along ``axis`` or of a whole tensor."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.integer[Any]]
    axis: NotRequired[int]


def write(
    network: nn.Module, victim: Victim, quant: QuantSpec | None, pixels: Pixels, path: Path, learned: Learned = ()
) -> Description | None:
    """Write the network to ``path``: from float32 ``(batch, 3, h, w)`` in [0, 1], batch dynamic, to logits.

    An INT8 file's description is returned, once it is proven.
    """
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        exported = tidy(float_model(network, victim, Path(folder)))
        if quant is None:
            onnx.save(exported, path)
            return None
        known = compiler_ranges(network, victim, quant, pixels)
        model = leaky(exported, quant.symmetric_activations or signed_activations(exported, known))
        float_file = Path(folder) / "float.onnx"
        onnx.save(model, float_file)
        description = describe(float_file)
        known = usable(victim, quant, description, exported, known)
        ranges = ranges_of(description, exported, pixels, quant, known)
        scales = weights(description, ranges, quant, learned)
        onnx.save(_quantized(model, ranges, scales, quant), path)
        file = require_integer(path, quant.allow_float)
        require_scales(file, ranges, scales, quant)
        return file


def _quantized(model: Any, ranges: dict[str, Range], scales_of: dict[str, Weights], quant: QuantSpec) -> Any:
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    signed = {True: QuantType.QInt8, False: QuantType.QUInt8}
    overrides: dict[str, list[Override]] = {}
    for name, span in ranges.items():
        affine = activation_affine(name, span, quant)
        overrides[name] = [_override(affine.scale, affine.zero_point, quant.activation_signed)]
    for name, (scales, axis) in scales_of.items():
        channels = [_override(s, 0 if quant.weight_signed else 128, quant.weight_signed) for s in scales]
        overrides[name] = channels if axis is None else [{**c, "axis": axis} for c in channels]
    data = {n: TensorData(lowest=np.float32(low), highest=np.float32(high)) for n, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=quant.per_channel,
        reduce_range=False,
        weight_qType=signed[quant.weight_signed],
        activation_qType=signed[quant.activation_signed],
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry}),
        extra_options={
            "ForceQuantizeNoInputCheck": True,  # what moves values out of a float operator has a scale too
            "WeightSymmetric": True,
            "ActivationSymmetric": quant.symmetric_activations,
            "TensorQuantOverrides": overrides,
        },
    )
    try:
        with quiet():
            quantizer.quantize_model()
    except Exception as error:  # the quantizer raises what it meets
        raise UserError(f"onnxruntime cannot quantize this network: {reason(error)}") from error
    quantizer.model.topological_sort()
    return pad_integers(quantizer.model.model)


def _override(scale: float, zero_point: int, signed: bool) -> Override:
    return {"scale": np.array(scale, np.float32), "zero_point": np.array(zero_point, np.int8 if signed else np.uint8)}
