"""Weights of 4 bits in TFLite's own type: the same numbers as embedded in int8, and what computes them."""

import io
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from helpers import small_networks as small
from helpers import suites, tiny
from helpers.quantized_onnx import quantized
from helpers.small_networks import PIXELS, SPEC
from helpers.tflite_networks import Op, T, write
from onnx import helper, numpy_helper
from rich.console import Console

from backends.device.artifact import Preproc
from backends.device.errors import UserError
from backends.device.runtimes import engine, prepare
from exporters.files import describe, require_integer
from exporters.files.tflite import delegated
from exporters.proof import require_scales
from harness.cli.inspect import print_file
from harness.plan.plan import make
from harness.results.records import _granularity
from harness.run.arithmetic import compare_with_runtime

KERNELS = ("xnnpack", "builtin", "reference")
SIZE = 5
W4A8 = replace(SPEC, weight_bits=4)


def raw_pixels() -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (20, SIZE, SIZE, 3), np.uint8)


def network(path: Path, dtype: str) -> Path:
    """Two convolutions, one of them depthwise, and a dense layer; odd numbers of weights, of 4 bits, in either type."""
    random = np.random.default_rng(3)
    tensors = {
        "x": T((1, SIZE, SIZE, 3), "int8", (1 / 255,), (-128,)),
        "c": T((1, SIZE, SIZE, 5), "int8", (0.03,), (4,)),
        "d": T((1, SIZE, SIZE, 5), "int8", (0.05,), (-7,)),
        "shape": T((2,), "int32", values=np.array([-1, SIZE * SIZE * 5])),
        "f": T((1, SIZE * SIZE * 5), "int8", (0.05,), (-7,)),
        "y": T((1, 3), "int8", (0.2,), (2,)),
    }
    for name, from_, shape, axis in (
        ("wc", "x", (5, 3, 3, 3), 0),
        ("wd", "c", (1, 3, 3, 5), 3),
        ("wf", "f", (3, 125), 0),
    ):
        channels = shape[axis]
        scales = random.uniform(0.05, 0.2, channels).astype(np.float32)
        levels = random.integers(-7, 8, shape)
        tensors[name] = T(shape, dtype, tuple(map(float, scales)), (0,) * channels, levels, axis)
        units = tuple(float(np.float32(tensors[from_].scale[0]) * s) for s in scales)
        tensors[f"b{name[1]}"] = T((channels,), "int32", units, (0,) * channels, random.integers(-90, 90, channels))
    window = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1, "padding": 0}
    ops = [
        Op("CONV_2D", ("x", "wc", "bc"), "c", "Conv2D", window),
        Op("DEPTHWISE_CONV_2D", ("c", "wd", "bd"), "d", "DepthwiseConv2D", window | {"depthMultiplier": 1}),
        Op("RESHAPE", ("d", "shape"), "f", "Reshape", {"newShape": [-1, SIZE * SIZE * 5]}),
        Op("FULLY_CONNECTED", ("f", "wf", "bf"), "y", "FullyConnected"),
    ]
    return write(path, tensors, ops, "x", "y")


def integers(file: Path, kernels: str, pixels: np.ndarray) -> np.ndarray:
    runtime = engine("litert")()
    runtime.load(file, {"kernels": kernels}, 1)
    return runtime.run(prepare(runtime.input, Preproc("nhwc")(pixels), file)).astype(int)


def test_packed_levels_are_read_as_they_were_written(tmp_path):
    packed, embedded = (describe(network(tmp_path / f"{dtype}.tflite", dtype)) for dtype in ("int4", "int8"))
    for a, b in zip(packed.operators, embedded.operators, strict=True):
        for one, other in zip(a.inputs, b.inputs, strict=True):
            assert (one.scale, one.zero_point, one.axis, one.shape) == (
                other.scale, other.zero_point, other.axis, other.shape
            )  # fmt: skip
            assert other.values is None or np.array_equal(one.values, other.values)
    said = Console(record=True, width=200, file=io.StringIO())
    print_file(packed.path, said)
    assert "int4 weights: kernels unpack them" in said.export_text()
    assert require_integer(packed.path).counts == {
        "CONV_2D (int4 weights)": 1, "DEPTHWISE_CONV_2D (int4 weights)": 1, "RESHAPE": 1,
        "FULLY_CONNECTED (int4 weights)": 1,
    }  # fmt: skip


@pytest.mark.parametrize("kernels", ["builtin", "reference"])
def test_litert_unpacks_them_to_the_integers_of_the_embedded_file(tmp_path, kernels):
    found = [integers(network(tmp_path / f"{t}.tflite", t), kernels, raw_pixels()) for t in ("int4", "int8")]
    assert np.array_equal(*found)
    assert len(np.unique(found[0])) > 20


def test_what_xnnpack_leaves_to_the_built_in_kernels_is_said(tmp_path):
    said = {}
    for dtype in ("int4", "int8"):
        runtime = engine("litert")()
        runtime.load(network(tmp_path / f"{dtype}.tflite", dtype), {"kernels": "xnnpack"}, 1)
        said[dtype] = runtime.info()["kernels"]
    taken = delegated(tmp_path / "int4.tflite")
    left = [o.name for o in describe(tmp_path / "int4.tflite").operators if o.index not in taken]
    assert "CONV_2D" in left
    assert said["int8"] == "xnnpack"
    assert said["int4"] == f"xnnpack (builtin: {', '.join(f'1 {name}' for name in left if name != 'RESHAPE')})"


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_twin_of_packed_weights_gives_the_kernels_own_integers(tmp_path, kernels):
    _, found = compare_with_runtime(network(tmp_path / "int4.tflite", "int4"), kernels, Preproc("nhwc"), raw_pixels())
    assert (found.largest, found.equal) == (0, 1.0)


def test_onnxruntime_computes_them_in_float_and_the_proof_says_so(tmp_path):
    """Why packed = true is TFLite's alone."""
    path = quantized(tmp_path / "int4.onnx", tiny.onnx_file(tmp_path / "float.onnx"))
    model = onnx.load(path)
    known = {constant.name: constant for constant in model.graph.initializer}
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    weights = next(node for node in model.graph.node if convolution.input[1] in node.output)
    for name in (weights.input[0], weights.input[2]):
        levels = numpy_helper.to_array(known[name]) // 32
        known[name].CopyFrom(numpy_helper.from_array(levels.astype(ml_dtypes.int4), name))
    del model.opset_import[:], model.graph.value_info[:]
    model.opset_import.append(helper.make_opsetid("", 21))
    model.ir_version = 10
    onnx.save(model, path)
    assert describe(path).counts["Conv (float)"] == 1
    with pytest.raises(UserError, match="1 operator computes in float: 1 Conv"):
        require_integer(path)


EXPORT = '[[export]]\nformat = "tflite"\nprecision = "w4a8"\npacked = [false, true]\n'


def test_packed_and_embedded_files_are_rows_of_their_own(tmp_path):
    from harness.config import read_suite

    suite = read_suite(suites.write(tmp_path, suites.QUICK.replace("[[export]]", f"{EXPORT}\n[[export]]", 1)))
    made = make(suite, None, tmp_path)
    steps = [step for step in (*made.artifacts, *made.left_out) if step.format == "tflite"]
    assert [step.name for step in steps] == ["resnet8-tflite-s8s4-minmax", "resnet8-tflite-s8s4-minmax-packed"]
    assert [_granularity(step) for step in steps] == ["per_channel", "per_channel_packed"]
    assert len({step.key for step in steps}) == 2


@pytest.mark.parametrize(
    ("changes", "format"), [({"weight_bits": 8}, "tflite"), ({"weight_bits": 2}, "tflite"), ({}, "onnx")]
)
def test_other_bits_and_formats_cannot_be_packed(tmp_path, changes, format):
    with pytest.raises(UserError, match=r"packed weights are w4a8 in a \.tflite file"):
        small.write(tmp_path, small.resnet(), format, replace(W4A8, packed=True, **changes))
    assert list(tmp_path.iterdir()) == []


def same_numbers(packed: Path, embedded: Path) -> None:
    """Scales, zero points and constants are equal throughout; weights alone have another type."""
    ours, theirs = describe(packed), describe(embedded)
    for a, b in zip(ours.operators, theirs.operators, strict=True):
        for one, other in zip((*a.inputs, *a.outputs), (*b.inputs, *b.outputs), strict=True):
            assert (one.name, one.scale, one.zero_point, one.axis) == (
                other.name, other.scale, other.zero_point, other.axis
            )  # fmt: skip
            assert (one.values is None) == (other.values is None)
            assert one.values is None or np.array_equal(one.values, other.values)
    weighted = [o for o in ours.operators if o.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
    assert len(weighted) > 3
    assert {o.inputs[1].dtype for o in weighted} == {"int4"}


@pytest.mark.slow
def test_an_export_packs_the_very_levels_of_the_embedded_file(tmp_path):
    network = small.resnet()
    embedded = small.write(tmp_path / "embedded", network, "tflite", W4A8)
    packed = small.write(tmp_path / "packed", network, "tflite", replace(W4A8, packed=True))
    same_numbers(packed, embedded)
    assert packed.stat().st_size < 0.7 * embedded.stat().st_size
    assert np.array_equal(*(integers(file, "builtin", PIXELS) for file in (packed, embedded)))
    with pytest.raises(UserError, match=r"(?s)the type of .* expected 'int4', the file has 'int8'"):
        require_all_packed(embedded)


@pytest.mark.slow
def test_the_quantizer_packs_no_depthwise_convolution_and_the_proof_says_so(tmp_path):
    with pytest.raises(UserError, match="1 operator computes in float: 1 DEPTHWISE_CONV_2D"):
        small.write(tmp_path, small.branches(), "tflite", replace(W4A8, packed=True))
    assert list(tmp_path.iterdir()) == []


def require_all_packed(file: Path) -> None:
    """The proof, by the file's own scales, as though its weights had to be packed."""
    from exporters.ranges import WEIGHTED, Weights

    found = describe(file)
    scales = {
        o.inputs[1].name: Weights(np.array(o.inputs[1].scale), o.inputs[1].axis)
        for o in found.operators
        if o.name in WEIGHTED
    }
    require_scales(found, {}, scales, replace(W4A8, packed=True))


@pytest.mark.slow
def test_its_fake_quantized_surrogate_is_that_of_the_embedded_file():
    from patches.fake_quant.network import fake_quantized

    network = small.resnet()
    one, other = (fake_quantized(network, quant, PIXELS) for quant in (W4A8, replace(W4A8, packed=True)))
    assert np.array_equal(small.torch_logits(one, PIXELS), small.torch_logits(other, PIXELS))


@pytest.mark.slow
@pytest.mark.data
def test_resnet20_packed_is_bit_identical_on_the_built_in_kernels(data_dir, tmp_path):
    from helpers.cifar import cifar_resnet

    with np.load(data_dir / "cifar10" / "cifar10.npz", allow_pickle=False) as arrays:
        calibration, images = arrays["x_train"], arrays["x_test"][:200]
    network = cifar_resnet(data_dir, 20)
    changes = {"victim": small.victim(size=32), "calibration_pixels": calibration}
    embedded, packed = (
        small.write(tmp_path / str(quant.packed), network, "tflite", quant, **changes)
        for quant in (W4A8, replace(W4A8, packed=True))
    )
    same_numbers(packed, embedded)
    assert packed.stat().st_size < 0.65 * embedded.stat().st_size  # 211 kB against 345
    assert np.array_equal(*(integers(file, "builtin", images) for file in (packed, embedded)))
    apart = np.abs(np.subtract(*(integers(file, "xnnpack", images) for file in (packed, embedded))))
    assert 0.2 < (apart == 0).mean() < 0.7  # its convolutions run elsewhere
    assert apart.max() <= 6
    for kernels in ("xnnpack", "builtin"):
        assert compare_with_runtime(packed, kernels, None, images[:60])[1].within_one > 0.999
