"""Write a network as TFLite: float, or full-integer INT8 with int8 input and output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from backends.device.artifact import Layout, Pixels, QuantSpec
from backends.device.errors import UserError
from exporters.calibration import Floats, Range, batches, collector, require_spans
from exporters.failure import reason
from exporters.files import describe, require_integer
from exporters.files.description import Description
from exporters.files.tflite_buffers import inside
from exporters.files.tflite_folding import folded
from exporters.files.tflite_leaky import leaky_in_integers
from exporters.large_weights import large_weights
from exporters.pooling import adaptive_avg_pool2d, avg_pool2d, rewritten
from exporters.proof import require_scales
from exporters.quiet import quiet
from exporters.ranges import Learned, Weights, resolve, to_collect, weights, with_vanishing_means
from exporters.sub_pixel import sub_pixel
from exporters.victim import Victim

LAYOUT: Layout = "nhwc"


def write(
    network: nn.Module, victim: Victim, quant: QuantSpec | None, pixels: Pixels, path: Path, learned: Learned = ()
) -> Description | None:
    """Write the network to ``path``: input ``(1, h, w, 3)``, float32 in [0, 1] or int8; logits of the same dtype.

    An INT8 file's description is returned, once it is proven.
    """
    if quant is not None and not (quant.activation_signed and quant.weight_signed):
        raise UserError(f"TFLite's integers are signed, got {quant.signature}: use s8s8, or ONNX")
    with tempfile.TemporaryDirectory() as folder:
        float_file = path if quant is None else Path(folder) / "float.tflite"
        _convert(network, victim, float_file)
        if quant is None:
            path.write_bytes(inside(path))
            return None
        float_file.write_bytes(folded(float_file))
        description = describe(float_file)
        _require_one_graph(description, victim)
        statistic = collector(quant)
        for batch in run(float_file, description, to_collect(description), pixels, quant):
            statistic.feed(batch)
        collected = with_vanishing_means(description, statistic.ranges())
        ranges = resolve(description, collected)
        scales = weights(description, ranges, quant, learned)
        path.write_bytes(_quantized(description, ranges, scales, quant))
        path.write_bytes(leaky_in_integers(path))
        file = require_integer(path, quant.allow_float)
        require_spans(collected)
        require_scales(file, ranges, scales, quant)
        _require_runnable(path)
        return file


def _convert(network: nn.Module, victim: Victim, path: Path) -> None:
    try:
        with quiet(), rewritten(adaptive_avg_pool2d, avg_pool2d):
            import litert_torch

            nhwc = litert_torch.to_channel_last_io(sub_pixel(network), args=[0]).eval()
            litert_torch.convert(nhwc, (torch.zeros(1, *victim.input_size, 3),)).export(str(path))
    except Exception as error:  # the converter raises what it meets
        raise UserError(f"{victim.name}: litert-torch cannot convert this network: {reason(error)}") from error


def _require_one_graph(file: Description, victim: Victim) -> None:
    """Raise a `UserError` for operators that run a graph of their own: the quantizer does not look into it."""
    if found := [o.name for o in file.operators if o.name.startswith("STABLEHLO_") or o.name in ("WHILE", "IF")]:
        raise UserError(
            f"{victim.name}: litert-torch writes {found[0]} for an operator of this network, such as average pooling "
            "that does not count its padding, and TFLite has no integers for it: use ONNX, or another operator"
        )


def run(
    file: Path, description: Description, wanted: list[str], pixels: Pixels, quant: QuantSpec
) -> Iterable[dict[str, Floats]]:
    """Yield the activations of a float file over the calibration images, by LiteRT with XNNPACK.

    The file takes one image at a time, so a batch is merged from several runs. The minus infinity that pads a max
    pooling is dropped.
    """
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(str(file), num_threads=1, experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
    index = {d["name"]: d["index"] for d in interpreter.get_tensor_details()}
    padded = {t.name for o in description.operators if o.name == "PADV2" for t in o.outputs}
    (entry,) = interpreter.get_input_details()
    for batch in batches(pixels, quant):
        images: list[dict[str, Floats]] = []
        for image in batch:
            interpreter.set_tensor(entry["index"], image[None].astype(np.float32) / np.float32(255))
            interpreter.invoke()
            images.append({name: interpreter.get_tensor(index[name]) for name in wanted})
        merged = {name: np.concatenate([values[name] for values in images]) for name in wanted}
        yield {name: x[x > -np.inf] if name in padded else x for name, x in merged.items()}


def _quantized(
    network: Description, ranges: dict[str, Range], scales_of: dict[str, Weights], quant: QuantSpec
) -> bytes:
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.quantizer import Quantizer

    integers = qtyping.TensorDataType.INT
    bits = 4 if quant.packed else 8
    highest = 2 ** (bits - 1) - 1
    granularity = qtyping.QuantGranularity.CHANNELWISE if quant.per_channel else qtyping.QuantGranularity.TENSORWISE
    config = qtyping.OpQuantizationConfig(
        activation_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=8,
            symmetric=quant.symmetric_activations,
            granularity=qtyping.QuantGranularity.TENSORWISE,
            dtype=integers,
        ),
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=bits, symmetric=True, granularity=granularity, dtype=integers
        ),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )
    rank = {t.name: len(t.shape or ()) for o in network.operators for t in (*o.inputs, *o.outputs)}
    bounds: dict[str, tuple[NDArray[np.float64], NDArray[np.float64], int | None]]
    bounds = {name: (np.array([low]), np.array([high]), None) for name, (low, high) in ranges.items()}
    bounds |= {name: (-highest * scales, highest * scales, axis) for name, (scales, axis) in scales_of.items()}
    statistics = {}
    for name, (low, high, axis) in bounds.items():
        shape = [-1 if i == axis else 1 for i in range(rank[name])]
        statistics[name] = {"min": low.reshape(shape), "max": high.reshape(shape)}
    try:
        with quiet(), large_weights():
            quantizer = Quantizer(str(network.path))
            quantizer.update_quantization_recipe(".*", qtyping.TFLOperationName.ALL_SUPPORTED, config)
            return bytes(quantizer.quantize(statistics, enable_progress_report=False).quantized_model)
    except Exception as error:  # the quantizer raises what it meets
        raise UserError(f"ai-edge-quantizer cannot quantize this network: {reason(error)}") from error


def _require_runnable(path: Path) -> None:
    """Check the scales by LiteRT's built-in kernels, as the quantizer does not."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        with quiet():
            interpreter = Interpreter(
                str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            )
            interpreter.allocate_tensors()
            interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: LiteRT refuses the INT8 file of ai-edge-quantizer, perhaps for its scales: is the network "
            f"trained? ({error})"
        ) from error
