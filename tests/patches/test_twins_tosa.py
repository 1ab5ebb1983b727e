"""Twins that follow TOSA's specification, against Arm's reference model of it, in an environment of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.elsewhere import Elsewhere
from helpers.twin_networks import OPERATORS, PIXELS, Network

from backends.device.runtimes import prepare
from exporters.files import tflite_cut
from harness.run.arithmetic import compare_with_runtime
from patches.twins import Twin, twin

pytestmark = pytest.mark.slow
MAKES = [make for make in OPERATORS if make.__name__ != "_greatest"]  # a pool with an activation, which is refused


def integers(exact: Twin, pixels: np.ndarray, folder: Path) -> np.ndarray:
    """What the reference model computes as far as the twin goes."""
    file, model = folder / "cut.tflite", Elsewhere("tosa")
    tflite_cut.cut(exact.path, exact.output, file)
    model.load(file, {}, 1)
    return model.run(prepare(model.input, exact.preproc(pixels), file)).astype(np.int64)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.__name__.strip("_"))
def test_an_operators_integers_are_the_specifications(tmp_path: Path, make, dtype: str) -> None:
    net = Network(dtype, 0)
    exact = twin(net.write(tmp_path, make(net)), "tosa")
    pixels = PIXELS[:6]
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(exact.integers(x).numpy(), integers(exact, pixels, tmp_path))


def test_the_twin_is_compared_with_the_reference_model(tmp_path: Path) -> None:
    net = Network("int8", 1)
    kernels, found = compare_with_runtime(net.write(tmp_path, net.conv()), "tosa", None, PIXELS[:4])
    assert (kernels, found.largest, found.equal) == ("tosa", 0, 1.0)


@pytest.mark.data
@pytest.mark.parametrize("name", ["mlperf_tiny_resnet8_int8", "mobilenet_v1_0.25_128_quant"])
def test_vendors_files_are_followed_to_the_last_integer(data_dir: Path, tmp_path: Path, name: str) -> None:
    """One has an open batch dimension and a dense layer of one scale, the other unsigned integers and a pool."""
    exact = twin(data_dir / f"vendor/{name}.tflite", "tosa")
    side = 32 if "resnet8" in name else 128
    pixels = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), np.uint8)
    x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(exact.integers(x).numpy(), integers(exact, pixels, tmp_path))
