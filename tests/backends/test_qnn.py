"""Qualcomm's emulator of HTP, in an environment of its own: what it takes, what it refuses, and how close it comes.

Its licence forbids to infer its arithmetic: it is held to what the CPU answers, within a few steps.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import ROOT, tiny
from helpers.elsewhere import Elsewhere
from onnx import TensorProto, helper

from backends import licences
from backends.device.errors import UserError
from backends.device.runtimes import onnxruntime
from exporters.files import describe

pytestmark = pytest.mark.slow
RESNET8 = ROOT / "benchmarks/baselines/demo/resnet8.onnx"


@pytest.fixture(autouse=True)
def accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(licences.VARIABLE, "qualcomm")


def loaded(path: Path, **options: str) -> Elsewhere:
    emulator = Elsewhere("qnn")
    emulator.load(path, options, 1)
    return emulator


def edited(path: Path, node: onnx.NodeProto) -> Path:
    """The small file with a node at its end."""
    model = onnx.load(tiny.qdq_file(path))
    model.graph.node.append(node)
    model.graph.output[0].name = node.output[0]
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("arch", ["default", "73"])
def test_a_file_with_pads_and_a_dynamic_batch_is_answered_nearly_as_by_the_cpu(arch: str) -> None:
    x = np.random.default_rng(0).random((4, 3, 32, 32), np.float32)
    cpu, htp = onnxruntime.Engine(), loaded(RESNET8, htp_arch=arch)
    cpu.load(RESNET8, {}, 1)
    (step,) = describe(RESNET8).outputs[0].scale
    expected, found = cpu.run(x), htp.run(x)
    assert np.abs(found - expected).max() < 5 * step
    np.testing.assert_allclose(found / step, np.rint(found / step), atol=0.01)  # on the file's own grid
    assert htp.info()["kernels"] == f"htp {arch}"


def test_a_file_that_moves_integers_as_tf2onnx_writes_it_runs_on_htp_alone(tmp_path: Path) -> None:
    """Onnxruntime finds no place on HTP for a reshape that stands after a quantization."""
    model = onnx.load(tiny.qdq_file(tmp_path / "t.onnx"))
    constants = {"s": np.float32(0.1), "z": np.uint8(128)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items())
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["y", "s", "z"], ["q"]),
            helper.make_node("Flatten", ["q"], ["flat"]),
            helper.make_node("DequantizeLinear", ["flat", "s", "z"], ["logits"]),
        ]
    )
    model.graph.output[0].name = "logits"
    onnx.save(model, tmp_path / "t.onnx")
    cpu, htp = onnxruntime.Engine(), loaded(tmp_path / "t.onnx")
    cpu.load(tmp_path / "t.onnx", {}, 1)
    assert htp.info()["kernels"] == "htp default"
    x = np.random.default_rng(0).random((8, *cpu.input.shape[1:]), np.float32)
    np.testing.assert_allclose(htp.run(x), cpu.run(x), atol=0.2)


def test_what_htp_does_not_take_is_named_and_runs_on_the_cpu_where_that_is_allowed(tmp_path: Path) -> None:
    file = edited(tmp_path / "shrink.onnx", helper.make_node("Shrink", ["y"], ["z"], lambd=0.1))
    with pytest.raises(UserError, match=r"HTP does not take its 1 Shrink; .* set the option cpu_fallback to allowed"):
        loaded(file)
    assert loaded(file, cpu_fallback="allowed").info()["kernels"] == "htp default (cpu: 1 Shrink)"


def test_a_file_that_the_cpu_answers_otherwise_once_it_is_prepared_is_refused(tmp_path: Path) -> None:
    """What it pads with is too large to be a real."""
    make, values = helper.make_node, {"s": np.float32(3e38), "z": np.int8(0), "f": np.int8(100)}
    values["pads"] = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    nodes = [make("QuantizeLinear", ["x", "s", "z"], ["q"]), make("Pad", ["q", "pads", "f"], ["y"])]
    ends = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8]),
        helper.make_tensor_value_info("y", TensorProto.INT8, ["n", 3, 10, 10]),
    ]
    constants = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "padded", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "p.onnx")
    with pytest.raises(UserError, match="prepared for HTP, onnxruntime answers otherwise to it on the CPU"):
        loaded(tmp_path / "p.onnx")


def test_a_file_in_float_and_what_is_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="computes in float, and HTP is asked for integers"):
        loaded(tiny.onnx_file(tmp_path / "t.onnx"))
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(UserError, match=r"text\.onnx: onnx cannot load it"):
        loaded(tmp_path / "text.onnx")
    with pytest.raises(UserError, match="option htp_arch = '70': expected one of default, 68"):
        loaded(RESNET8, htp_arch="70")
