"""Files read back, against the runtimes' own view of them."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from helpers import tiny
from helpers.quantized_onnx import Images, quantized
from helpers.scales import activation_ranges
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

from backends.device.errors import UserError
from exporters.files import describe, require_integer

VENDOR = {
    "mobilenet_v1_0.25_128_quant": {
        "CONV_2D": 15, "DEPTHWISE_CONV_2D": 13, "AVERAGE_POOL_2D": 1, "RESHAPE": 1, "SOFTMAX": 1
    },
    "mobilenet_v2_1.0_224_quant": {"CONV_2D": 36, "DEPTHWISE_CONV_2D": 17, "ADD": 10},
    "tf2_mobilenet_v2_1.0_224_ptq": {"CONV_2D": 36, "DEPTHWISE_CONV_2D": 17, "ADD": 10, "QUANTIZE": 2, "MEAN": 1},
    "mlperf_tiny_resnet8_int8": {"CONV_2D": 9, "ADD": 3, "AVERAGE_POOL_2D": 1, "FULLY_CONNECTED": 1},
}  # fmt: skip


def with_nodes(path: Path, *nodes: onnx.NodeProto) -> Path:
    """The tiny network with more nodes between its ReLU ``r`` and its pooling, from ``r`` to ``m``."""
    model = onnx.load(tiny.onnx_file(path))
    pool = next(n for n in model.graph.node if n.op_type == "GlobalAveragePool")
    pool.input[0] = "m"
    place = list(model.graph.node).index(pool)
    for node in reversed(nodes):
        model.graph.node.insert(place, node)
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    onnx.save(model, path)
    return path


@pytest.mark.data
@pytest.mark.parametrize("name", [*VENDOR, "mlperf_tiny_resnet8_float"])
def test_vendor_files_read_as_the_interpreter_reads_them(data_dir, name):
    path = data_dir / "vendor" / f"{name}.tflite"
    description = describe(path)
    interpreter = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    interpreter.allocate_tensors()
    theirs = interpreter._get_ops_details()
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    assert [o.name for o in description.operators] == [o["op_name"] for o in theirs]
    for operator, details_of in zip(description.operators, theirs, strict=True):
        indices = [*(i for i in details_of["inputs"] if i >= 0), *details_of["outputs"]]
        for tensor, index in zip((*operator.inputs, *operator.outputs), indices, strict=True):
            detail = details[index]
            assert tensor.name == detail["name"]
            assert np.dtype(tensor.dtype) == detail["dtype"]
            assert tensor.shape == tuple(detail["shape_signature"]) or not len(detail["shape_signature"])
            scales = detail["quantization_parameters"]
            assert np.array_equal(np.float32(tensor.scale), scales["scales"])
            assert np.array_equal(tensor.zero_point, scales["zero_points"])
            if len(tensor.scale) > 1:
                assert tensor.axis == scales["quantized_dimension"]
            if tensor.values is not None:
                assert np.array_equal(tensor.values, interpreter.get_tensor(index))
    assert [t.name for t in description.inputs] == [d["name"] for d in interpreter.get_input_details()]
    assert [t.name for t in description.outputs] == [d["name"] for d in interpreter.get_output_details()]


@pytest.mark.data
@pytest.mark.parametrize("name", VENDOR)
def test_vendor_integers_are_proved(data_dir, name):
    counts = require_integer(data_dir / "vendor" / f"{name}.tflite").counts
    assert VENDOR[name].items() <= counts.items()


@pytest.mark.data
def test_a_vendor_float_file_is_no_integer_file(data_dir):
    with pytest.raises(UserError, match=r"14 operators compute in float: 9 CONV_2D, 3 ADD, 1 AVERAGE_POOL_2D"):
        require_integer(data_dir / "vendor" / "mlperf_tiny_resnet8_float.tflite")


@pytest.mark.data
@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "mlperf_tiny_resnet8_int8"])
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.3, 0.9, 0.999])
def test_a_file_cut_off_is_an_error_where_the_interpreter_refuses_it(data_dir, tmp_path, name, share):
    whole = (data_dir / "vendor" / f"{name}.tflite").read_bytes()
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(whole[: int(len(whole) * share)])
    try:  # the first of the two ends in a zip of labels, which no interpreter misses
        Interpreter(str(cut))
    except ValueError:
        with pytest.raises(UserError, match=r"cut\.tflite"):
            describe(cut)
    else:
        assert share == 0.999
        describe(cut)


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"GIF89a, and no network", bytes(range(256)) * 20, b"\x08\x07TFL3"])
def test_foreign_files_are_errors(tmp_path, suffix, content):
    path = tmp_path / f"foreign{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="foreign"):
        describe(path)


def test_other_suffixes_and_missing_files_are_errors(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        describe(tmp_path / "absent.onnx")
    (tmp_path / "network.pt").write_bytes(b"x")
    with pytest.raises(UserError, match=r"ends in .* \.bmodel, \.cvimodel, \.rknn, \.kmodel or \.espdl"):
        describe(tmp_path / "network.pt")


def test_a_tiny_tflite_file_is_described(tmp_path):
    description = require_integer(tiny.tflite_file(tmp_path / "tiny.tflite"))
    weights, bias = tiny.dense_constants()
    dense = next(o for o in description.operators if o.name == "FULLY_CONNECTED")
    assert np.array_equal(dense.inputs[1].values, weights)
    assert np.array_equal(dense.inputs[2].values, bias)
    for tensor, (scale, zero_point) in ((dense.inputs[1], tiny.W), (dense.outputs[0], tiny.Y)):
        assert tensor.scale == pytest.approx((scale,))
        assert tensor.zero_point == (zero_point,)


def test_float_onnx_is_described_and_is_no_integer_file(tmp_path):
    path = tiny.onnx_file(tmp_path / "tiny.onnx")
    description = describe(path)
    assert [o.name for o in description.operators] == ["Conv", "Relu", "GlobalAveragePool", "Flatten", "MatMul"]
    assert description.inputs[0].shape == (-1, 3, 8, 8)
    assert description.outputs[0].shape == (-1, tiny.CLASSES)
    assert [o.name for o in description.operators if o.in_float] == ["Conv", "Relu", "GlobalAveragePool", "MatMul"]
    with pytest.raises(UserError, match="compute in float"):
        require_integer(path)
    assert activation_ranges(path) == {}


def test_onnx_by_onnxruntime_is_integer_as_it_runs(tmp_path):
    path = quantized(tmp_path / "int8.onnx", tiny.onnx_file(tmp_path / "tiny.onnx"))
    description = require_integer(path)
    assert description.counts["QLinearConv"] == 1
    assert description.counts["QLinearGlobalAveragePool"] == 1
    assert description.counts["QLinearMatMul"] == 1
    initializers = {c.name: numpy_helper.to_array(c) for c in onnx.load(path).graph.initializer}
    convolution = next(o for o in description.operators if o.name == "Conv")
    assert convolution.inputs[1].scale == tuple(initializers["w_scale"])
    assert convolution.inputs[1].axis == 0
    assert convolution.outputs[0].integers == "uint8"
    scale, zero_point = initializers["r_scale"], int(initializers["r_zero_point"])
    reals = activation_ranges(path)
    assert reals["r"] == pytest.approx(((0 - zero_point) * scale, (255 - zero_point) * scale))
    assert list(reals) == ["x", "r", "g", "f", "y"]


@pytest.mark.parametrize("operator", ["Sub", "Div", "Pow"])
def test_an_operator_left_in_float_is_named(tmp_path, operator):
    source = with_nodes(tmp_path / "float.onnx", helper.make_node(operator, ["r", "half"], ["m"], "odd"))
    with pytest.raises(UserError, match=f"1 operator computes in float: 1 {operator} .*'m'"):
        require_integer(quantized(tmp_path / "int8.onnx", source))


def test_a_mean_that_has_no_kernel_is_named_with_what_has_one(tmp_path):
    mean = helper.make_node("ReduceMean", ["r"], ["m"], "odd", axes=[2, 3], keepdims=1)
    source = with_nodes(tmp_path / "float.onnx", mean)
    with pytest.raises(UserError, match=r"1 ReduceMean \(it gives 'm'\)\. ReduceMean has .*AdaptiveAvgPool2d\(1\) in"):
        require_integer(quantized(tmp_path / "int8.onnx", source))


def test_int8_activations_stay_integers(tmp_path):
    path = tmp_path / "int8.onnx"
    options = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    quantize_static(tiny.onnx_file(tmp_path / "tiny.onnx"), path, Images(), QuantFormat.QDQ, **options)
    description = require_integer(path)
    assert next(o for o in description.executed if o.name == "QLinearConv").outputs[0].dtype == "int8"


def test_only_a_final_softmax_may_be_float(tmp_path):
    middle = with_nodes(tmp_path / "middle.onnx", helper.make_node("Softmax", ["r"], ["m"], "soft"))
    end = tiny.onnx_file(tmp_path / "end.onnx")
    model = onnx.load(end)
    model.graph.node.append(helper.make_node("Softmax", ["y"], ["p"], "soft"))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", tiny.CLASSES]))
    onnx.save(model, end)
    for path, in_float in ((middle, True), (end, False)):
        assert [o.in_float for o in describe(path).executed if o.name == "Softmax"] == [in_float]


def test_what_onnxruntime_refuses_is_an_error(tmp_path):
    model = onnx.load(tiny.onnx_file(tmp_path / "odd.onnx"))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Unheard", "nowhere"
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(UserError, match="onnxruntime refuses it"):
        describe(tmp_path / "odd.onnx")
