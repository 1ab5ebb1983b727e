"""Twins of TFLite files, operator by operator, against LiteRT's three sets of kernels."""

from pathlib import Path

import numpy as np
import pytest
from helpers.twin_networks import KERNELS, OPERATORS, PIXELS, SIZE, Network

from harness.run.arithmetic import compare_with_runtime


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("make", OPERATORS, ids=lambda make: make.__name__.strip("_"))
def test_an_operators_integers_are_the_kernels_own(tmp_path: Path, make, dtype: str, kernels: str) -> None:
    for seed in range(2):
        net = Network(dtype, seed)
        file = net.write(tmp_path, make(net), any_batch=False)  # what does not fill a vector depends on the batch
        _, found = compare_with_runtime(file, kernels, None, PIXELS)
        assert (found.largest, found.equal) == (0, 1.0), f"seed {seed}: {found}"


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_mean_that_lies_between_two_integers_is_rounded_as_the_kernels_do(tmp_path: Path, kernels: str) -> None:
    net, area = Network("int8", 0), SIZE * SIZE
    axes = net.constant(np.array([1, 2]), "int32")
    out = net.activation((1, 3), float(np.float32(2 / 255 / area)), net.lowest)
    file = net.write(tmp_path, net.add("MEAN", ("x", axes), out, "Reducer", keepDims=False))
    pixels = np.zeros((170, area, 3), np.uint8)
    sums = np.arange(170 * 3).reshape(170, 3) // 2 * 2 + 1  # odd: halves of a step
    pixels[:, 0], pixels[:, 1] = sums.clip(max=255), sums - sums.clip(max=255)
    _, found = compare_with_runtime(file, kernels, None, pixels.reshape(170, SIZE, SIZE, 3))
    assert found.equal == 1
