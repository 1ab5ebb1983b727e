"""Let ai-edge-quantizer quantize convolutions of more than 32 MiB of weights: 0.10 cannot spread their scales."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def large_weights() -> Iterator[None]:
    """Hand such weights to the quantizer as matrices, a row for each output channel."""
    from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor as module

    own = module.uniform_quantize

    def quantize(tensor_data: NDArray[Any], quantization_params: Any, *more: Any) -> NDArray[Any]:
        if tensor_data.ndim <= 2 or quantization_params.quantized_dimension not in (0, None):
            whole: NDArray[Any] = own(tensor_data, quantization_params, *more)
            return whole
        scale, zero_point = (
            np.reshape(array, (len(array), -1)) for array in (quantization_params.scale, quantization_params.zero_point)
        )
        params = replace(quantization_params, scale=scale, zero_point=zero_point)
        rows: NDArray[Any] = own(tensor_data.reshape(len(tensor_data), -1), params, *more)
        return rows.reshape(tensor_data.shape)

    module.uniform_quantize = quantize
    try:
        yield
    finally:
        module.uniform_quantize = own
