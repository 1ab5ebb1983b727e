import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from backends.device.quantize import dequantize, quantize

DTYPES = {np.int8: TensorProto.INT8, np.uint8: TensorProto.UINT8}


def onnx_quantize(x, scale, zero_point, dtype):
    """ONNX Runtime's own QuantizeLinear."""
    graph = helper.make_graph(
        [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"])],
        "q",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("q", DTYPES[dtype], ["n"])],
        [
            helper.make_tensor("s", TensorProto.FLOAT, [], [scale]),
            helper.make_tensor("z", DTYPES[dtype], [], [zero_point]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("dtype", "zero_point"), [(np.int8, -128), (np.int8, 5), (np.uint8, 0), (np.uint8, 127)])
@pytest.mark.parametrize("scale", [1 / 255, 0.0078125, 1.0, 0.1])
def test_integers_are_those_of_onnxruntime(dtype, zero_point, scale):
    steps = np.arange(-300, 300, 0.5, np.float32)  # every other one is a tie
    x = steps * np.float32(scale)
    found = quantize(x, scale, zero_point, dtype)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, onnx_quantize(x, scale, zero_point, dtype))


@given(st.floats(-1e6, 1e6, width=32), st.integers(-128, 127))
def test_rounds_half_to_even_then_clips(x, zero_point):
    expected = min(max(round(x) + zero_point, -128), 127)  # Python's own rounding is half to even
    assert quantize(np.array([x], np.float32), 1.0, zero_point, np.int8)[0] == expected


def test_what_lies_outside_saturates_and_does_not_wrap():
    far = np.array([-1e30, -200, 200, 1e30], np.float32)
    assert quantize(far, 1, 0, np.int8).tolist() == [-128, -128, 127, 127]
    assert quantize(far, 1, 0, np.uint8).tolist() == [0, 0, 200, 255]
    assert quantize(far, 1e-3, 0, np.int32).tolist() == [-(2**31), -200_000, 200_000, 2**31 - 1]


def test_scales_of_channels_broadcast_and_the_input_is_untouched():
    x = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    before = x.copy()
    assert quantize(x, [[0.5], [1.0]], [[0], [1]], np.int8).tolist() == [[2, 4], [4, 5]]
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16])
def test_every_integer_comes_back_from_its_real_value(dtype):
    every = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)
    real = dequantize(every, 0.037, 11)
    assert real.dtype == np.float32
    np.testing.assert_allclose(real, 0.037 * (every.astype(float) - 11), rtol=1e-6)
    np.testing.assert_array_equal(quantize(real, 0.037, 11, dtype), every)
