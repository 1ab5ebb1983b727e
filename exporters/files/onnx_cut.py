"""An ONNX file that ends earlier: its output is a tensor within."""

from __future__ import annotations

from pathlib import Path

from backends.device.errors import UserError
from exporters.files.onnx import describe


def cut(path: Path, tensor: str, into: Path) -> None:
    """Writes a copy of an ``.onnx`` file whose one output is the tensor of this name; what leads not to it goes.

    A tensor behind a QuantizeLinear is of integers, whose scale ONNX does not write beside an output.
    """
    import onnx.shape_inference
    from onnx.utils import Extractor

    describe(path)  # a damaged file is said here
    model = onnx.load(path)
    if not any(tensor in node.output for node in model.graph.node):
        raise UserError(f"{path}: has no tensor named {tensor!r}")
    entries = [value.name for value in model.graph.input]
    onnx.save(Extractor(onnx.shape_inference.infer_shapes(model)).extract_model(entries, [tensor]), into)
