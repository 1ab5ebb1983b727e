"""ONNX files with the ranges of vendors' compilers: their scales are those of the compilers' own files."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from helpers import small_networks as small
from helpers import toolchains
from helpers.elsewhere import Elsewhere
from torch import nn

from backends.conformance import networks
from backends.device.artifact import Calibration
from backends.device.errors import UserError
from backends.device.quantize import quantize
from backends.device.toolchains import OF_FORMATS
from exporters.calibration import collector
from exporters.compiler_ranges import ranges_in
from exporters.files import describe, require_integer
from exporters.files.description import Description
from harness.run.arithmetic import compare_with_runtime

SPEC = replace(small.SPEC, activation_signed=False)
CALIBRATIONS = ["bmodel:kl", "cvimodel:kl", "rknn:kl_divergence", "espdl:kl", "kmodel:kld"]
MULTIPLY = {"Conv", "Conv2D", "GNNEConv2D", "Gemm", "MatMul"}
LEAST = {"int8": -128, "uint8": 0}
accepted = pytest.fixture(scope="module", autouse=True)(toolchains.accepting)


@pytest.fixture(scope="module")
def network():
    return small.resnet()


@pytest.fixture(scope="module", params=CALIBRATIONS)
def files(network, tmp_path_factory, request) -> tuple[Path, Path]:
    """A compiler's file by its own calibration, and ours with its ranges."""
    format, calibration = request.param.split(":")
    toolchain = OF_FORMATS[format]
    toolchains.require(toolchain)
    folder = tmp_path_factory.mktemp(format)
    signed = toolchain.signature == "s8s8"
    own = replace(SPEC, calibration=calibration, activation_signed=signed, symmetric_activations=toolchain.symmetric)
    compiled = small.write(folder, network, format, own)
    return compiled, small.write(folder, network, "onnx", replace(SPEC, calibration=request.param))


def taken(file: Description) -> np.ndarray:
    """Scale, and how far zero lies from the least integer, of what each convolution and dense layer takes."""
    if file.format == "rknn":  # of its layers only what they give is told
        names = {"BatchNormalization", "Relu"}
        tensors = [o.outputs[0] for o in file.operators if o.name in names or o.outputs[0].name == "mean"]
        tensors = [one for one in tensors if one.scale]
        tensors.pop(-2)  # the last ReLU's goes into the mean
    else:
        tensors = [operator.inputs[0] for operator in file.operators if operator.name in MULTIPLY]
        tensors = [one for one in tensors if not one.name.startswith("pixels")]  # tpu-mlir normalises by a convolution
    return np.array(sorted((t.scale[0], t.zero_point[0] - LEAST[t.integers or t.dtype]) for t in tensors))


@pytest.mark.slow
def test_what_multiplies_takes_the_very_steps_of_the_compilers_file(files):
    theirs, ours = (taken(describe(file)) for file in files)
    assert len(ours) == 8
    np.testing.assert_allclose(ours, theirs, rtol=2e-4)
    assert len(np.unique(ours[:, 0])) > 1


@pytest.mark.slow
def test_it_is_integer_and_its_twin_computes_the_integers_of_onnxruntime(files):
    require_integer(files[1])
    assert compare_with_runtime(files[1], None, None, small.PIXELS)[1].equal == 1


@pytest.mark.slow
def test_far_beyond_its_ranges_it_answers_as_the_compilers_file_more_than_a_file_of_minmax_does(
    network, files, tmp_path
):
    compiled, ours = files
    glaring = 255 * np.random.default_rng(0).integers(0, 2, (12, 16, 16, 3), np.uint8)
    minmax = small.write(tmp_path, network, "onnx", SPEC)
    theirs = simulated(compiled, glaring)
    near, far = (np.abs(small.file_logits(file, glaring) - theirs).mean() for file in (ours, minmax))
    # what the K230 does not round it does not clip either: there ONNX has the ranges of minmax
    assert near < (1 if compiled.suffix == ".kmodel" else 0.7) * far


def simulated(file: Path, pixels: np.ndarray) -> np.ndarray:
    """What the compiler's simulator makes of pixels, as reals."""
    runtime, x = Elsewhere(OF_FORMATS[file.suffix[1:]].module), small.as_input(pixels).numpy()
    runtime.load(file, {}, 1)
    if runtime.input.dtype != np.float32:
        return runtime.run(quantize(x, *runtime.input[2:], runtime.input.dtype)) * runtime.output.scale
    return runtime.run(x)


@pytest.mark.parametrize("name", ["pixels", "relu"])
def test_the_same_network_has_the_same_range_in_every_compilers_file_by_the_same_name(name):
    """In the files of conformance, all of minmax; scales of powers of two reach up to twice as far."""
    formats = set(OF_FORMATS) - {"bmodel"}
    highs = {format: ranges_in(describe(networks.file(format)))[name][1] for format in formats}
    assert [highs[format] for format in ("cvimodel", "kmodel")] == pytest.approx([highs["rknn"]] * 2, rel=1e-5)
    assert highs["rknn"] <= highs["espdl"] < 2 * highs["rknn"]


def test_every_calibration_of_every_compiler_has_a_word():
    words = {f"{format}:{name}" for format, one in OF_FORMATS.items() for name in one.calibrations}
    assert {word for word in get_args(Calibration) if ":" in word} == words


def test_ranges_that_say_where_zero_lies_are_not_symmetric():
    with pytest.raises(UserError, match="bmodel:kl says where zero lies: leave symmetric_activations = false"):
        replace(SPEC, calibration="bmodel:kl", symmetric_activations=True)


def test_what_simulates_or_writes_another_format_refuses_them_by_their_name():
    with pytest.raises(UserError, match="calibration rknn:kl_divergence is rknn-toolkit2's, for onnx alone"):
        collector(replace(SPEC, calibration="rknn:kl_divergence"))


@pytest.mark.slow
def test_a_range_beyond_a_clip_is_refused_by_its_name(tmp_path):
    """Powers of two: 127 sixteenths lie beyond ReLU6's clip, and what the chip clips ONNX would leave to the range."""
    toolchains.require(OF_FORMATS["espdl"])
    network = small.Around(lambda x: nn.functional.relu6(20 * x)).eval()
    with pytest.raises(UserError, match=r"small: espdl:kl gives '.*' a range up to 7.9375, beyond its clip to 6"):
        small.write(tmp_path, network, "onnx", replace(SPEC, calibration="espdl:kl"))
