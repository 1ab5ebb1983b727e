"""A network as float ONNX, and what it computes on the calibration images: ranges for every file that is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from backends.device.artifact import Pixels, QuantSpec
from backends.device.errors import UserError
from exporters.calibration import Extremes, Floats, Range, Statistic, batches, collector, require_spans
from exporters.failure import reason
from exporters.files.description import Description
from exporters.files.onnx import read
from exporters.means import pooling_by_means
from exporters.pooling import adaptive_avg_pool2d, rewritten
from exporters.quiet import quiet
from exporters.ranges import resolve, to_collect
from exporters.sub_pixel import sub_pixel
from exporters.victim import Victim

OPSET = 20


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


def ranges_of(
    network: Description, model: Any, pixels: Pixels, quant: QuantSpec, known: Mapping[str, Range] | None = None
) -> dict[str, Range]:
    """Return the ranges of a network's activations, as a float model computes them over the calibration images.

    ``known`` are those that a compiler gave; what it has none of keeps its least and largest value.
    """
    known = known or {}
    wanted = [name for name in to_collect(network) if name not in known]
    statistic: Statistic = Extremes() if known else collector(quant)
    for batch in run(model, wanted, pixels, quant) if wanted else ():
        statistic.feed(batch)
    collected = statistic.ranges()
    require_spans(collected)
    return resolve(network, {**collected, **known})
