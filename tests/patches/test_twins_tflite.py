"""Twins of TFLite files, operator by operator, against LiteRT's three sets of kernels."""

from pathlib import Path

import pytest
from helpers.twin_networks import KERNELS, OPERATORS, PIXELS, Network

from harness.run.arithmetic import compare_with_runtime


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("make", OPERATORS, ids=lambda make: make.__name__.strip("_"))
def test_an_operators_integers_are_the_kernels_own(tmp_path: Path, make, dtype: str, kernels: str) -> None:
    for seed in range(2):
        net = Network(dtype, seed)
        file = net.write(tmp_path, make(net))
        _, found = compare_with_runtime(file, kernels, None, PIXELS)
        assert (found.largest, found.equal) == (0, 1.0), f"seed {seed}: {found}"
