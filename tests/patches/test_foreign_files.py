"""Files as others' quantizers write them: described rightly, and their twins exact or refused in one line."""

import numpy as np
import onnx
import patchbench
import pytest
from helpers import foreign_onnx, foreign_tflite
from helpers.small_networks import pixels
from helpers.twin_networks import KERNELS

from backends.device.errors import UserError
from exporters.files import describe
from harness.run.arithmetic import compare_in_batches
from patches.twins import twin

IMAGES = pixels(8, foreign_tflite.SIDE)
BATCHES = (1, 8, 5)
IN_FLOAT = {
    "QDQ S8S8, per tensor, symmetric": {"Relu"},
    "QDQ S8S8, symmetric, without zero points": {"MaxPool", "Relu"},
    "QDQ S8S8 with Clip, symmetric": {"Clip"},
    "QDQ, batch normalization unfolded": {"BatchNormalization"},
    "QDQ, 16-bit activations": {"Add", "Conv", "GlobalAveragePool", "MatMulNBits", "MaxPool"},
    "QDQ, int4 weights": {"Conv", "Gemm"},
    "dynamic range": {"ADD", "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"},
}  # what these runtimes compute in float
REFUSED = {
    "QDQ, batch normalization unfolded": "operator BatchNormalization .* has no twin yet",
    "QDQ, 16-bit activations": "QuantizeLinear .* expected one scale, of 8-bit integers",
    "QDQ, int4 weights": "operator Conv .* has no twin yet",
    "QDQ, batch of 4": "takes 4 images at a time",
    "int8, batch of 4": "takes 4 images at a time",
    "int16x8": "'x' is int16",
    "dynamic range": r"no operator gives any\. Only its weights are integers \(dynamic range\)",
}


@pytest.fixture(scope="module")
def reals():
    return IMAGES.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("name", foreign_onnx.KINDS)
def test_onnx(name, reals, tmp_path):
    _require_exact_or_refused(name, foreign_onnx.write(name, tmp_path / "net.onnx", reals), None)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", foreign_tflite.KINDS)
def test_tflite(name, kernels, tmp_path):
    _require_exact_or_refused(name, foreign_tflite.write(name, tmp_path / "net.tflite"), kernels)


@pytest.mark.parametrize("name", ["int8, uint8 in and out", "int8, NCHW with a transpose", "int16x8", "dynamic range"])
def test_a_replay_of_tflite_gives_what_the_file_gives(name, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    file = foreign_tflite.write(name, tmp_path / "net.tflite")
    session = Interpreter(str(file))
    session.allocate_tensors()
    (entry,), (end,) = session.get_input_details(), session.get_output_details()
    x = IMAGES / np.float32(255)
    if entry["dtype"] != np.float32:
        scale, zero_point = entry["quantization"]
        limits = np.iinfo(entry["dtype"])
        x = np.clip(np.round(x / np.float32(scale)) + zero_point, limits.min, limits.max).astype(entry["dtype"])
    direct = []
    for image in x.transpose(0, 3, 1, 2) if "NCHW" in name else x:
        session.set_tensor(entry["index"], image[None])
        session.invoke()
        direct.append(session.get_tensor(end["index"])[0])
    kernels = "builtin" if name == "int16x8" else "xnnpack"  # XNNPACK takes none of its operators
    replayed = patchbench.replay(file, IMAGES, "litert", options={"kernels": kernels}, timed_runs=0)
    found = replayed.logits if end["dtype"] == np.float32 else replayed.integers
    assert np.array_equal(found, np.array(direct))


@pytest.mark.parametrize(
    ("name", "signature"), [("QDQ U8S8", "u8s8"), ("QDQ S8S8", "s8s8"), ("QOperator U8U8", "u8u8")]
)
def test_the_integers_that_a_file_multiplies_are_told(name, signature, reals, tmp_path):
    assert describe(foreign_onnx.write(name, tmp_path / "net.onnx", reals)).signature == signature
    assert describe(foreign_tflite.write("int8", tmp_path / "net.tflite")).signature == "s8s8"


def test_integers_without_a_scale_are_refused_before_a_runtime_ends_the_process(tmp_path, monkeypatch):
    def without_scale(model):
        model.subgraphs[0].tensors[model.subgraphs[0].operators[1].outputs[0]].quantization = None

    monkeypatch.setitem(foreign_tflite.KINDS, "broken", foreign_tflite.Kind(change=without_scale))
    with pytest.raises(UserError, match=r"DEPTHWISE_CONV_2D \(number 1\): 't\d+' is int8 without a scale"):
        twin(foreign_tflite.write("broken", tmp_path / "net.tflite"))


def test_a_file_that_its_runtime_loads_and_cannot_run_is_one_line(reals, tmp_path):
    file = foreign_onnx.write("QDQ U8S8", tmp_path / "net.onnx", reals)
    model = onnx.load(file)
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Conv" and attribute.name == "group":
                attribute.i = 0
    onnx.save(model, file)
    with pytest.raises(UserError, match=r"net\.onnx: (the runtime loads it, but cannot run it|.*has no twin)"):
        compare_in_batches(twin(file), IMAGES, BATCHES)


def test_a_replay_of_a_batch_in_the_file_is_refused(tmp_path):
    file = foreign_tflite.write("int8, batch of 4", tmp_path / "net.tflite")
    with pytest.raises(UserError, match=r"net\.tflite: takes 4 images at a time"):
        patchbench.replay(file, IMAGES, "litert", timed_runs=0)


def _require_exact_or_refused(name, file, kernels):
    in_float = {operator.name for operator in describe(file).in_float}
    assert in_float == IN_FLOAT.get(name, set())
    if name in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name]):
            twin(file, kernels)
        return
    found = compare_in_batches(twin(file, kernels), IMAGES, BATCHES)
    assert [one.equal for one in found] == [1.0] * len(BATCHES)
