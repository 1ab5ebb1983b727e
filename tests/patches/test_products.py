"""Sums of products of integers, against those of int64."""

import numpy as np
import pytest
import torch

from patches.twins.layers import IntegerProducts

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(-128, 128, (50, 64))
BOUNDS = (-128, 127)


@pytest.mark.parametrize("to_float32", [False, True])
@pytest.mark.parametrize("inputs", [64, 2])
@pytest.mark.parametrize("largest", [2**10, 2**26, 2**31 - 1])
def test_sums_with_a_bias_of_any_size_are_exact(largest: int, inputs: int, to_float32: bool) -> None:
    weights = RANDOM.integers(-127, 128, (40, inputs))
    bias = RANDOM.integers(-largest, largest + 1, 40)
    exact = X[:, :inputs] @ weights.T + bias
    sums = IntegerProducts(weights, bias, BOUNDS, to_float32=to_float32)(torch.from_numpy(X[:, :inputs]).float())
    if to_float32:
        assert sums.dtype == torch.float32
        assert np.array_equal(sums.numpy(), exact.astype(np.float32))
    else:
        assert np.array_equal(sums.numpy().astype(np.int64), exact)


def test_products_that_pass_what_float32_holds_are_exact() -> None:
    weights = np.full((1, 2000), 127)
    x = RANDOM.integers(100, 128, (5, 2000))
    sums = IntegerProducts(weights, None, BOUNDS, to_float32=True)(torch.from_numpy(x).float())
    assert np.array_equal(sums.numpy().astype(np.int64), x @ weights.T)
