"""Write a network as ONNX: float, or INT8 with QuantizeLinear and DequantizeLinear around every operator (QDQ)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backends.device.artifact import Layout, Pixels, QuantSpec
from backends.device.errors import UserError
from exporters.calibration import Floats, Range, activation_affine, batches, collector, require_spans
from exporters.failure import reason
from exporters.files import describe, require_integer
from exporters.files.description import Description
from exporters.files.onnx import read
from exporters.means import pooling_by_means
from exporters.onnx_graph import leaky, pad_integers, tidy
from exporters.pooling import adaptive_avg_pool2d, rewritten
from exporters.proof import require_scales
from exporters.quiet import quiet
from exporters.ranges import Learned, Weights, resolve, to_collect, weights
from exporters.sub_pixel import sub_pixel
from exporters.victim import Victim

LAYOUT: Layout = "nchw"
OPSET = 20


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
        model = leaky(exported, quant.symmetric_activations)
        float_file = Path(folder) / "float.onnx"
        onnx.save(model, float_file)
        description = describe(float_file)
        ranges = ranges_of(description, exported, pixels, quant)
        scales = weights(description, ranges, quant, learned)
        onnx.save(_quantized(model, ranges, scales, quant), path)
        file = require_integer(path, quant.allow_float)
        require_scales(file, ranges, scales, quant)
        return file


def float_model(network: nn.Module, victim: Victim, folder: Path) -> Any:
    """Export the network to ONNX, by way of a folder; onnxruntime folds batch normalisation and infers shapes."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    example = torch.zeros(2, 3, *victim.input_size)
    try:
        with quiet(), rewritten(adaptive_avg_pool2d), pooling_by_means(network):
            program: Any = torch.onnx.export(
                sub_pixel(network), (example,), dynamo=True, input_names=["pixels"], output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},), opset_version=OPSET, verbose=False,
            )  # fmt: skip
            program.save(folder / "exported.onnx")
            try:  # where onnxruntime knows every operator's shape symbolically, more shapes become constants
                quant_pre_process(folder / "exported.onnx", folder / "processed.onnx")
            except Exception:
                quant_pre_process(folder / "exported.onnx", folder / "processed.onnx", skip_symbolic_shape=True)
    except Exception as error:  # torch's exporter raises what it meets
        raise UserError(f"{victim.name}: torch cannot export this network to ONNX: {reason(error)}") from error
    model = read(folder / "processed.onnx")
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise UserError(f"{victim.name}: this network works for one batch size only; ONNX needs any")
    return model


def run(model: Any, wanted: list[str], pixels: Pixels, quant: QuantSpec) -> Iterable[dict[str, Floats]]:
    """Yield the activations of a float model over the calibration images, batch by batch."""
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [name for name in wanted if name not in {v.name for v in model.graph.output}]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch in batches(pixels, quant):
        x = np.ascontiguousarray(batch.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
        yield dict(zip(wanted, session.run(wanted, {"pixels": x}), strict=True))


def ranges_of(network: Description, model: Any, pixels: Pixels, quant: QuantSpec) -> dict[str, Range]:
    """Return the ranges of a network's activations, as a float model computes them over the calibration images."""
    statistic = collector(quant)
    for batch in run(model, to_collect(network), pixels, quant):
        statistic.feed(batch)
    collected = statistic.ranges()
    require_spans(collected)
    return resolve(network, collected)


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
