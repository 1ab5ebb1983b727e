"""The beginnings of a file: each ends in the values that the whole file has there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from helpers import small_networks as small

from backends.device.errors import UserError
from backends.device.runtimes import engine, prepare, real
from exporters.files import describe
from exporters.files.beginnings import beginnings, cut

PIXELS = small.pixels(3, seed=1)


def answers(runtime: str, file: Path) -> np.ndarray:
    reader = engine(runtime)()
    reader.load(file, {}, 1)
    x = PIXELS.astype(np.float32) / np.float32(255)
    if file.suffix == ".onnx":
        x = x.transpose(0, 3, 1, 2)
    return real(reader.output, reader.run(prepare(reader.input, np.ascontiguousarray(x), file)))


def test_an_onnx_file_has_at_each_what_the_reference_has_there(exported: Callable[..., Path], tmp_path: Path) -> None:
    """What is fused is one operator, and named by its first: a convolution, whose ReLU has the pair behind it."""
    file = exported("resnet", "onnx")
    found = beginnings(file)
    model = onnx.load(file)
    names = [f"{node.op_type} (number {number})" for number, node in enumerate(model.graph.node)]
    assert [names.index(one.operator) for one in found] == sorted(names.index(one.operator) for one in found)
    convolutions = {name for name in names if name.startswith(("Conv ", "Gemm "))}
    assert convolutions <= {one.operator for one in found}
    assert not any(one.operator.startswith(("Relu", "Quantize", "Dequantize")) for one in found)
    whole = onnx.reference.ReferenceEvaluator(_with_outputs(model, found))
    x = PIXELS.astype(np.float32).transpose(0, 3, 1, 2) / np.float32(255)
    for one, expected in zip(found, whole.run(None, {model.graph.input[0].name: x}), strict=True):
        cut(file, one.tensor, tmp_path / "cut.onnx")
        mine = answers("onnxruntime", tmp_path / "cut.onnx")
        assert np.corrcoef(mine.ravel(), expected.ravel())[0, 1] > 0.99, one


def _with_outputs(model: Any, found: Any) -> Any:
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=one.tensor) for one in found)
    return model


def test_a_tflite_file_ends_behind_each_operator_that_computes(exported: Callable[..., Path], tmp_path: Path) -> None:
    file = exported("resnet", "tflite")
    found = beginnings(file)
    computes = [o.numbered for o in describe(file).operators if o.name.endswith(("_2D", "CONNECTED", "ADD", "MEAN"))]
    assert set(computes) <= {one.operator for one in found}
    cut(file, found[-1].tensor, tmp_path / "cut.tflite")
    np.testing.assert_array_equal(answers("litert", tmp_path / "cut.tflite"), answers("litert", file))


def test_what_cannot_be_cut_is_said(exported: Callable[..., Path], tmp_path: Path) -> None:
    assert beginnings(Path("net.pte")) == []
    with pytest.raises(UserError, match="has no tensor named 'none'"):
        cut(exported("resnet", "onnx"), "none", tmp_path / "cut.onnx")
