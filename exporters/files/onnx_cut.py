"""Cut an ONNX file: make an inner tensor its output."""

from __future__ import annotations

from pathlib import Path

from backends.device.errors import UserError
from exporters.files.onnx import describe, read


def cut(path: Path, tensor: str, into: Path) -> None:
    """Write a copy of an ``.onnx`` file with this tensor as its only output, and only the nodes that lead to it.

    A tensor after a QuantizeLinear holds integers, and ONNX declares no scale for an output.
    """
    import onnx.shape_inference
    from onnx.utils import Extractor

    describe(path)  # reports a damaged file
    model = read(path)
    if not any(tensor in node.output for node in model.graph.node):
        raise UserError(f"{path}: has no tensor named {tensor!r}")
    entries = [value.name for value in model.graph.input]
    onnx.save(Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(entries, [tensor]), into)
