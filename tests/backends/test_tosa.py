"""TOSA's reference model, in an environment of its own: what it refuses, and what it says that it computes."""

import re
from pathlib import Path

import pytest
from helpers import ROOT, tiny
from helpers.elsewhere import Elsewhere
from helpers.twin_networks import Network

from backends.device.errors import UserError

pytestmark = pytest.mark.slow


def loaded(path: Path, threads: int = 1) -> Elsewhere:
    model = Elsewhere("tosa")
    model.load(path, {}, threads)
    return model


def test_threads_that_it_does_not_have_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="computes on one thread, asked for 2: set threads to 1"):
        loaded(tiny.tflite_file(tmp_path / "t.tflite"), threads=2)


def test_it_says_what_operators_it_has_of_a_file_and_how_they_round(tmp_path: Path) -> None:
    net = Network("int8", 0)
    info = loaded(net.write(tmp_path, net.conv())).info()
    assert "1 conv2d" in info["operators"]
    assert info["rounding"] == "1 DOUBLE_ROUND"


def test_a_pool_whose_activation_would_be_dropped_is_refused(tmp_path: Path) -> None:
    net = Network("int8", 0)
    (scale,), (zero_point,) = net.tensors["x"].scale, net.tensors["x"].zero_point
    for activation in (0, 1):
        out = net.activation((1, 4, 4, 3), scale, zero_point)
        settings = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
        net.add("MAX_POOL_2D", ("x",), out, "Pool2D", fusedActivationFunction=activation, **settings)
        file = net.write(tmp_path, out)
        if not activation:
            assert "1 max_pool2d" in loaded(file).info()["operators"]
        net.ops.clear()
    with pytest.raises(UserError, match="drops the activation that is fused to 1 of its pools"):
        loaded(file)


@pytest.mark.data
def test_a_file_in_float_is_refused(data_dir: Path) -> None:
    with pytest.raises(UserError, match="computes in float; tosa-tools is for files that are integer throughout"):
        loaded(data_dir / "vendor/mlperf_tiny_resnet8_float.tflite")


def test_vela_says_what_it_leaves_to_the_cpu_and_the_memory_that_a_file_takes() -> None:
    """Its mean is over the axis that lies last, which Vela calls a depth-reduction and leaves to the CPU."""
    model = Elsewhere("tosa")
    model.load(ROOT / "benchmarks/baselines/demo/resnet8.tflite", {"accelerator": "ethos-u55-128"}, 1)
    info = model.info()
    assert info["on_cpu"] == "1 MEAN"
    assert re.fullmatch(r"[\d.]+ KiB SRAM, [\d.]+ KiB Off-chip Flash", info["memory"])
